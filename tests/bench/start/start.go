// Package start measures how long a container takes from the request to the first instruction of its program, and until
// everything of it is gone: through the keeper, by crun and by podman, in turns, on the same root file system.
package start

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// stamp prints CLOCK_MONOTONIC, the clock that now reads too.
const stamp = `#include <stdio.h>
#include <time.h>
int main(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); printf("%lld\n", (long long)t.tv_sec * 1000000000 + t.tv_nsec); return 0; }
`

//go:embed config.json
var bundleConfig []byte

// Sample is one container's life.
type Sample struct {
	Start time.Duration // request to main
	Total time.Duration // request to everything removed
}

// Contestant starts one container and returns when it is gone.
type contestant struct {
	name string
	run  func(ctx context.Context, id string) (stampOut string, err error)
}

// Section is the chapter about container starts.
type Section struct {
	Keeper string // path of skerry-keeper
}

// Name is "start".
func (Section) Name() string { return "start" }

// Run measures on a thread of its own, which sees the control groups as crun wants them.
func (s Section) Run(ctx context.Context, quick bool) (markdown string, err error) {
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	rounds := 100
	if quick {
		rounds = 15
	}
	done := make(chan error, 1) // one word
	go func() {
		runtime.LockOSThread() // never unlocked: its mounts are its own
		var err error
		markdown, err = run(ctx, options{keeper: s.Keeper, rounds: rounds, dir: dir})
		done <- err
	}()
	if err := <-done; err != nil {
		return "", err
	}
	return "## Container start\n\n" + markdown, nil
}

type options struct {
	keeper string
	rounds int
	dir    string // for scratch
}

func run(ctx context.Context, o options) (markdown string, err error) {
	if err := hideUnified(); err != nil {
		return "", err
	}
	rootfs := filepath.Join(o.dir, "rootfs")
	if err := build(ctx, rootfs); err != nil {
		return "", err
	}
	k, stop, err := startKeeper(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, stop()) }()
	contestants := []contestant{
		{"skerry keeper", k.life(rootfs)}, {"crun run", crun(o.dir, rootfs)}, {"podman run", podman(rootfs)},
	}
	samples := map[string][]Sample{}
	for round := range o.rounds + 2 { // the first two warm caches
		for _, c := range contestants {
			s, err := measure(ctx, c, fmt.Sprintf("b%d-%d", os.Getpid(), round))
			if err != nil {
				return "", fmt.Errorf("%s: %w", c.name, err)
			}
			if round >= 2 {
				samples[c.name] = append(samples[c.name], s)
			}
		}
	}
	return k.section(contestants, samples)
}

// hideUnified lets crun work on a machine that mounts cgroup v1 and v2 side by side: it refuses such a mix. The mount is
// hidden from this process and its children only.
func hideUnified() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	err := unix.Unmount("/sys/fs/cgroup/unified", unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func build(ctx context.Context, rootfs string) error {
	for _, dir := range []string{"", "proc", "dev", "sys", "etc", "tmp", "run", "var"} {
		if err := os.MkdirAll(filepath.Join(rootfs, dir), 0o755); err != nil {
			return err
		}
	}
	source := rootfs + ".c"
	if err := os.WriteFile(source, []byte(stamp), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "gcc", "-O2", "-static", "-o", filepath.Join(rootfs, "stamp"), source).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	return nil
}

func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // the clock always exists
	}
	return t.Nano()
}

func measure(ctx context.Context, c contestant, id string) (Sample, error) {
	began := now()
	out, err := c.run(ctx, id)
	ended := now()
	if err != nil {
		return Sample{}, err
	}
	at, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return Sample{}, fmt.Errorf("the container said %q", out)
	}
	return Sample{Start: time.Duration(at - began), Total: time.Duration(ended - began)}, nil
}

func crun(dir, rootfs string) func(context.Context, string) (string, error) {
	bundle := filepath.Join(dir, "bundle")
	return func(ctx context.Context, id string) (string, error) {
		if err := os.MkdirAll(bundle, 0o755); err != nil {
			return "", err
		}
		config := bytes.ReplaceAll(bundleConfig, []byte("ROOTFS"), []byte(rootfs))
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
			return "", err
		}
		return output(exec.CommandContext(ctx, "crun", "--root", filepath.Join(dir, "crun"), "run", "--bundle", bundle, id))
	}
}

func podman(rootfs string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		return output(exec.CommandContext(ctx, "podman", "run", "--rm", "--name", id, "--network", "none", "--security-opt", "seccomp=unconfined",
			"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--memory", "64m", "--pids-limit", "64", "--cgroup-manager", "cgroupfs", "--log-driver", "none", "--rootfs", rootfs, "/stamp"))
	}
}

func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, stderr.String())
	}
	return string(out), nil
}

// ours is a running keeper and a client of it.
type ours struct {
	client *keeper.Client
	dir    string
	pid    int
	exits  chan keeper.Exit
}

const cgroupParent = "/skerry/bench"

func startKeeper(ctx context.Context, o options) (*ours, func() error, error) {
	socket := filepath.Join(o.dir, "k", "keeper.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(o.keeper, "--state-dir", filepath.Join(o.dir, "keeper"), "--run-dir", filepath.Join(o.dir, "k", "run"), "--socket", socket, "--cgroup-parent", cgroupParent)
	log, err := os.Create(filepath.Join(o.dir, "keeper.log"))
	if err != nil {
		return nil, nil, err
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	k := &ours{dir: o.dir, pid: cmd.Process.Pid, exits: make(chan keeper.Exit, 64)} // far more than run at once
	following, cancel := context.WithCancel(ctx)
	stop := func() error {
		cancel()
		return errors.Join(k.client.CleanAll(context.WithoutCancel(ctx)), k.client.Close(), cmd.Process.Kill(), ignoreExit(cmd.Wait()), log.Close())
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if k.client, err = keeper.Dial(ctx, socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return nil, nil, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	go func() {
		_ = k.client.Exits(following, 0, func(e keeper.Exit) error { k.exits <- e; return nil }) // ends with following
	}()
	return k, stop, nil
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

// life is create, start, exit and delete through the keeper, as the agent does it.
func (k *ours) life(rootfs string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, id string) (string, error) {
		log := filepath.Join(k.dir, id+".log")
		spec := keeper.Spec{
			ID: id, Rootfs: rootfs, ReadonlyRootfs: true, Args: []string{"/stamp"}, Env: []string{"PATH=/"}, NoNewPrivs: true, LogPath: log,
			CgroupPath: cgroupParent + "/" + id, Resources: keeper.Resources{CPUShares: 102, MemoryBytes: 64 << 20, PidsLimit: 64},
		}
		if err := k.client.Create(ctx, spec); err != nil {
			return "", err
		}
		if err := k.client.Start(ctx, id); err != nil {
			return "", err
		}
		for e := range k.exits {
			if e.ID == id {
				break
			}
		}
		if err := k.client.Delete(ctx, id); err != nil {
			return "", err
		}
		data, err := os.ReadFile(log)
		fields := strings.Fields(string(data)) // time, stream, tag, text
		if err == nil && len(fields) != 4 {
			err = fmt.Errorf("log %q", data)
		}
		if err != nil {
			return "", err
		}
		return fields[3], nil
	}
}

func (k *ours) section(contestants []contestant, samples map[string][]Sample) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "Own mnt, pid, net, ipc, uts and cgroup namespaces, read-only root, default capabilities, no-new-privs, memory, cpu and pids limits, no\nseccomp filter for anybody; %d rounds, in turns. *start* is from the request to the first line of `main`, *total* until everything of the\ncontainer is removed and its exit is on disk.\n\n", len(samples[contestants[0].name]))
	b.WriteString("| runtime | start p50 | p90 | total p50 | start, ratio | total, ratio |\n|---|---|---|---|---|---|\n")
	base := samples["crun run"]
	start := func(s Sample) time.Duration { return s.Start }
	total := func(s Sample) time.Duration { return s.Total }
	for _, c := range contestants {
		s := samples[c.name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | %.2f |\n", c.name, ms(quantile(s, .5, start)), ms(quantile(s, .9, start)), ms(quantile(s, .5, total)),
			ratio(quantile(s, .5, start), quantile(base, .5, start)), ratio(quantile(s, .5, total), quantile(base, .5, total)))
	}
	return b.String(), nil
}

func quantile(samples []Sample, q float64, of func(Sample) time.Duration) time.Duration {
	values := make([]time.Duration, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1))]
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
