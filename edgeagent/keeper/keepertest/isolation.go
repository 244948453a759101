package keepertest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"skerry.dev/skerry/edgeagent/keeper"
)

// defaultCapBits are the 14 default capabilities as /proc shows them.
const defaultCapBits = "00000000a80425fb"

func (w *world) expect(id, log string, parts ...string) {
	w.t.Helper()
	for _, p := range parts {
		if !strings.Contains(log, p) {
			w.t.Errorf("%s: no %q in\n%s", id, p, log)
		}
	}
}

func privileges(w *world) {
	w.finish(w.spec("default", "privileges"))
	w.expect("default", w.output("default", "NoNewPrivs"),
		"CapEff:\t"+defaultCapBits, "CapBnd:\t"+defaultCapBits, "CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1")
	spec := w.spec("none", "privileges")
	spec.Capabilities, spec.NoNewPrivs = []string{}, false
	w.finish(spec)
	w.expect("none", w.output("none", "NoNewPrivs"), "CapEff:\t0000000000000000", "NoNewPrivs:\t0")
	user := w.spec("user", "privileges")
	user.User = keeper.User{UID: 1000, GID: 1000}
	w.finish(user)
	w.expect("user", w.output("user", "NoNewPrivs"), "CapEff:\t0000000000000000")
	if got := w.finish(w.spec("mount", "bind")); got.Code != 1 {
		w.t.Errorf("mount without the capability: got %+v", got)
	}
}

func fileSystem(w *world) {
	must(w.t, os.WriteFile(filepath.Join(w.rootfs, "etc/name"), []byte("root"), 0o644))
	source := filepath.Join(w.dirs.State, "volume")
	must(w.t, os.Mkdir(source, 0o777))
	spec := w.spec("c", "sleep")
	spec.ReadonlyRootfs = true
	spec.Mounts = []keeper.Mount{
		{Source: source, Destination: "/data", Type: "bind", Options: []string{"rbind", "rw"}},
		{Source: source, Destination: "/fixed", Type: "bind", Options: []string{"rbind", "ro"}},
		{Source: "tmpfs", Destination: "/tmp", Type: "tmpfs", Options: []string{"size=64k"}},
	}
	w.run(spec)
	for path, writable := range map[string]bool{
		"/etc/name": false, "/proc/sys/kernel/hostname": false, "/sys/x": false, "/fixed/x": false, "/proc/sysrq-trigger": false,
		"/data/x": true, "/tmp/x": true, "/dev/shm/x": true, "/dev/null": true,
	} {
		if got := w.exec("c", keeper.ExecSpec{}, "write", path); (got.ExitCode == 0) != writable {
			w.t.Errorf("write %s: got %+v, want writable %v", path, got, writable)
		}
	}
	got := string(w.exec("c", keeper.ExecSpec{}, "cat", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/etc/name").Output)
	for _, masked := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"} {
		if !strings.Contains(got, masked+`: "" `) {
			w.t.Errorf("%s is not masked: %s", masked, got)
		}
	}
	w.expect("rootfs", got, `/etc/name: "root"`)
	if _, err := os.Stat(filepath.Join(source, "x")); err != nil {
		w.t.Errorf("volume: %v", err)
	}
}

func identity(w *world) {
	spec := w.spec("c", "whoami")
	spec.User, spec.Cwd, spec.Hostname = keeper.User{UID: 12, GID: 13, AdditionalGIDs: []uint32{14}}, "/tmp", "edge-1"
	w.finish(spec)
	w.expect("identity", w.output("c", "F"), "12 13 [14] /tmp 1 ") // and PID 1
	name := w.spec("name", "hostname")
	name.Hostname = "edge-1"
	w.finish(name)
	w.expect("host name", w.output("name", "F"), "edge-1")
	adj := 500
	limited := w.spec("limited", "cat", "/proc/self/oom_score_adj", "/proc/self/limits", "/proc/net/dev", "/proc/self/cgroup")
	limited.OOMScoreAdj = &adj
	limited.Rlimits = []keeper.Rlimit{{Name: "RLIMIT_NOFILE", Soft: 99, Hard: 111}}
	w.finish(limited)
	log := w.output("limited", "cgroup")
	w.expect("limits", log, `"500\n"`, "lo:")
	if !regexp.MustCompile(`Max open files +\d+ +111 `).MatchString(log) { // the helper's Go runtime raises the soft limit
		w.t.Errorf("no limit of open files: %s", log)
	}
	if strings.Contains(log, "eth0") || strings.Contains(log, "skerry-test") {
		w.t.Errorf("the node's network or cgroups show: %s", log)
	}
}

func privileged(w *world) {
	spec := w.spec("c", "bind")
	spec.Privileged, spec.NoNewPrivs = true, false
	if got := w.finish(spec); got.Code != 0 {
		w.t.Errorf("mount: got %+v", got)
	}
}
