// Package keepertest is the contract of a keeper as a test suite: whatever serves the protocol of package keeper runs it.
//
// It needs root, cgroups and a Go toolchain (it builds the program it runs in containers). Tests only.
package keepertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"skerry.dev/skerry/edgeagent/keeper"
)

// Dirs is where a keeper under test lives.
type Dirs struct {
	State, Run, Socket string
	CgroupParent       string
}

// Keeper is a running keeper.
type Keeper interface {
	// Kill ends it as kill -9 does and waits until it is gone. Containers live on.
	Kill(t *testing.T)
	// Replace has its program take its own place, as an upgrade does, and waits until that is ready.
	Replace(t *testing.T)
}

// Start starts a keeper and returns when its socket answers. It may be called again on the same folders after Kill.
type Start func(t *testing.T, dirs Dirs) Keeper

// patience bounds every wait; a keeper needs milliseconds.
const patience = 30 * time.Second

// world is one keeper with a root file system and a client.
type world struct {
	t      *testing.T
	start  Start
	dirs   Dirs
	keeper Keeper
	client *keeper.Client
	rootfs string
	inside string
	mark   string // in the environment of every container
}

// newWorld starts a keeper in folders of its own. At the end of the test it is ended, and the test fails if anything is left.
func newWorld(t *testing.T, start Start, inside string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "keeper") // t.TempDir makes names too long for a socket
	must(t, err)
	name := filepath.Base(dir)
	w := &world{t: t, start: start, rootfs: filepath.Join(dir, "rootfs"), inside: inside, mark: "KEEPERTEST=" + name}
	w.dirs = Dirs{
		State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "state/run"), Socket: filepath.Join(dir, "s/keeper.sock"),
		CgroupParent: "/skerry-test/" + name,
	}
	w.makeRootfs()
	t.Cleanup(func() { w.end(dir) })
	w.boot()
	return w
}

func (w *world) makeRootfs() {
	for _, d := range []string{"proc", "sys", "dev", "tmp", "etc"} {
		must(w.t, os.MkdirAll(filepath.Join(w.rootfs, d), 0o755))
	}
	data, err := os.ReadFile(w.inside)
	must(w.t, err)
	must(w.t, os.WriteFile(filepath.Join(w.rootfs, "inside"), data, 0o755))
}

// boot starts the keeper, for the first time or again.
func (w *world) boot() {
	w.t.Helper()
	w.keeper = w.start(w.t, w.dirs)
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	client, err := keeper.Dial(ctx, w.dirs.Socket)
	must(w.t, err)
	w.client = client
}

// crash kills the keeper and starts it again.
func (w *world) crash() {
	w.t.Helper()
	w.keeper.Kill(w.t)
	w.boot()
}

func (w *world) end(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if w.client != nil {
		if err := w.client.CleanAll(ctx); err != nil {
			w.t.Errorf("clean all: %v", err)
		}
		must(w.t, w.client.Close())
	}
	if w.keeper != nil {
		w.keeper.Kill(w.t)
	}
	w.checkNothingLeft(dir)
	must(w.t, os.RemoveAll(dir))
	for _, root := range cgroupRoots() {
		_ = os.Remove(filepath.Join(root, "skerry-test")) // kept while another test uses it
	}
}

func cgroupRoots() []string {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	return append(roots, "/sys/fs/cgroup")
}

// checkNothingLeft looks for cgroups, mounts and processes of this world.
func (w *world) checkNothingLeft(dir string) {
	for _, root := range cgroupRoots() {
		if _, err := os.Stat(filepath.Join(root, w.dirs.CgroupParent)); err == nil {
			w.t.Errorf("left: cgroup %s in %s", w.dirs.CgroupParent, root)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(w.t, err)
	if strings.Contains(string(mounts), dir) {
		w.t.Errorf("left: a mount in %s", dir)
	}
	eventually(w.t, "no process is left", func() error {
		environs, err := filepath.Glob("/proc/[0-9]*/environ")
		must(w.t, err)
		for _, name := range environs {
			if data, err := os.ReadFile(name); err == nil && strings.Contains(string(data), w.mark) {
				return fmt.Errorf("%s is of this test", name)
			}
		}
		return nil
	})
}

// spec is a container that runs the helper with args.
func (w *world) spec(id string, args ...string) keeper.Spec {
	return keeper.Spec{
		ID: id, Rootfs: w.rootfs, Args: append([]string{"/inside"}, args...), Env: []string{w.mark},
		NoNewPrivs: true, CgroupPath: w.dirs.CgroupParent + "/pod-" + id + "/main",
		LogPath: w.logPath(id), Labels: map[string]string{"container": id},
	}
}

func (w *world) logPath(id string) string { return filepath.Join(w.dirs.State, "logs", id+".log") }

// run creates and starts.
func (w *world) run(spec keeper.Spec) {
	w.t.Helper()
	must(w.t, w.client.Create(w.t.Context(), spec))
	must(w.t, w.client.Start(w.t.Context(), spec.ID))
}

// finish runs a container to its end.
func (w *world) finish(spec keeper.Spec) keeper.Exit {
	w.t.Helper()
	w.run(spec)
	return w.exit(spec.ID)
}

// exit waits for the exit of a container.
func (w *world) exit(id string) keeper.Exit {
	w.t.Helper()
	found := fmt.Errorf("found")
	var exit keeper.Exit
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	err := w.client.Exits(ctx, 0, func(e keeper.Exit) error {
		if e.ID == id {
			exit = e
			return found
		}
		return nil
	})
	if err != found { //nolint:errorlint // it is this very value
		w.t.Fatalf("exit of %s: %v", id, err)
	}
	return exit
}

// get returns one container of the list, nil when it is not there.
func (w *world) get(id string) *keeper.Container {
	w.t.Helper()
	all, err := w.client.List(w.t.Context())
	must(w.t, err)
	for _, c := range all {
		if c.ID == id {
			return &c
		}
	}
	return nil
}

// output waits for the container's log to hold a line with the text, and returns the log.
func (w *world) output(id, text string) string {
	w.t.Helper()
	var data []byte
	eventually(w.t, "log of "+id+" holds "+text, func() error {
		var err error
		if data, err = os.ReadFile(w.logPath(id)); err != nil {
			return err
		}
		if !strings.Contains(string(data), text) {
			return fmt.Errorf("it is %q", data)
		}
		return nil
	})
	return string(data)
}

// read reads a cgroup file of a container, from the controller on v1.
func (w *world) read(id, controller, nameV1, nameV2 string) string {
	w.t.Helper()
	group := w.dirs.CgroupParent + "/pod-" + id + "/main"
	data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, group, nameV1))
	if err != nil {
		data, err = os.ReadFile(filepath.Join("/sys/fs/cgroup", group, nameV2))
	}
	must(w.t, err)
	return strings.TrimSpace(string(data))
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(2 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not yet: %v", what, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// buildInside compiles the program that runs in containers.
func buildInside(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers are made by root")
	}
	out := filepath.Join(t.TempDir(), "inside")
	cmd := exec.Command("go", "build", "-o", out, "skerry.dev/skerry/edgeagent/keeper/keepertest/inside")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build helper: %v\n%s", err, text)
	}
	return out
}

// gone reports whether a process has ended.
func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }
