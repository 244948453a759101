package keepertest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network/netns"
)

// firstID is what root is outside of the test's user namespace.
const firstID = 1 << 20

// owned makes the namespaces of a pod with a user namespace, which last until the test ends.
func (w *world) owned() keeper.Namespaces {
	w.t.Helper()
	made := make(chan keeper.Namespaces, 1) // one, whether or not we still wait
	release, ended := make(chan struct{}), make(chan error, 1)
	go func() { // ends when the test does
		ended <- netns.Owned(unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, firstID, 1<<16, func(user string) error {
			own := func(kind string) string {
				return fmt.Sprintf("/proc/%d/task/%d/ns/%s", os.Getpid(), unix.Gettid(), kind)
			}
			made <- keeper.Namespaces{User: user, Net: own("net"), IPC: own("ipc"), UTS: own("uts")}
			<-release
			return nil
		})
	}()
	select {
	case ns := <-made:
		w.t.Cleanup(func() {
			close(release)
			if err := <-ended; err != nil {
				w.t.Error(err)
			}
		})
		return ns
	case err := <-ended:
		w.t.Fatalf("user namespace: %v", err)
		return keeper.Namespaces{}
	}
}

func (w *world) userSpec(id string, ns keeper.Namespaces, args ...string) keeper.Spec {
	spec := w.spec(id, args...)
	spec.Namespaces, spec.IDs = ns, keeper.IDs{First: firstID, Count: 1 << 16}
	return spec
}

// userNamespace: root inside is nobody outside, and finds its files, volumes and streams as if it were root.
func userNamespace(w *world) {
	must(w.t, os.Chmod(filepath.Dir(w.rootfs), 0o711)) // for whoever owns the root file system
	must(w.t, filepath.WalkDir(w.rootfs, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, firstID, firstID)
	}))
	volume := filepath.Join(w.dirs.State, "volume")
	must(w.t, os.Mkdir(volume, 0o700))
	must(w.t, os.WriteFile(filepath.Join(volume, "secret"), []byte("of root"), 0o600))
	ns := w.owned()
	spec := w.userSpec("c", ns, "sleep")
	spec.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "99"}
	spec.Mounts = []keeper.Mount{
		{Source: volume, Destination: "/data", Type: "bind", Options: []string{"rbind", "rw", "idmap"}},
		{Source: volume, Destination: "/plain", Type: "bind", Options: []string{"rbind", "rw"}},
	}
	w.run(spec)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.get("c").PID))
	must(w.t, err)
	w.expect("outside", string(status), fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", firstID), "Seccomp:\t2")
	w.expect("inside", string(w.exec("c", keeper.ExecSpec{}, "whoami").Output), "0 0 [] / ")
	w.expect("capabilities", string(w.exec("c", keeper.ExecSpec{}, "privileges").Output), "CapEff:\t"+defaultCapBits)
	got := string(w.exec("c", keeper.ExecSpec{}, "cat", "/data/secret", "/plain/secret", "/proc/self/uid_map", "/proc/sys/net/ipv4/ip_unprivileged_port_start").Output)
	w.expect("files", got, `/data/secret: "of root"`, `/plain/secret: "" open /plain/secret: permission denied`, fmt.Sprint(firstID), `"99\n"`)
	for _, path := range []string{"/data/x", "/x", "/dev/shm/x", "/dev/null", "/dev/stdout"} {
		if res := w.exec("c", keeper.ExecSpec{}, "write", path); res.ExitCode != 0 {
			w.t.Errorf("write %s: %+v", path, res)
		}
	}
	info, err := os.Stat(filepath.Join(volume, "x"))
	must(w.t, err)
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		w.t.Errorf("what root wrote: %+v", info.Sys())
	}
	w.userStreams(ns)
}

// userStreams: a program may open its own output again, as root and as a user.
func (w *world) userStreams(ns keeper.Namespaces) {
	for _, user := range []keeper.User{{}, {UID: 1000, GID: 1000}} {
		spec := w.userSpec(fmt.Sprint("out", user.UID), ns, "reopen")
		spec.User = user
		if got := w.finish(spec); got.Code != 0 {
			w.t.Errorf("user %d opens its output: %+v: %s", user.UID, got, w.output(spec.ID, ""))
		}
		w.expect(spec.ID, w.output(spec.ID, "again"), "stdout F again")
	}
	terminal := w.userSpec("terminal", ns, "print", "on a terminal")
	terminal.Terminal = true
	if got := w.finish(terminal); got.Code != 0 {
		w.t.Errorf("terminal: %+v", got)
	}
}
