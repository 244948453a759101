package keepertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// filtered runs a container with a seccomp profile and checks what forbidden calls say in it and in an exec, with and without
// no_new_privs, as root and as a user: the filter is installed at different moments then.
func (w *world) filtered(id, profile string, caps []string, want ...string) {
	w.t.Helper()
	for i, c := range []struct {
		noNewPrivs bool
		user       keeper.User
	}{{true, keeper.User{}}, {false, keeper.User{}}, {false, keeper.User{UID: 1000, GID: 1000}}, {true, keeper.User{UID: 1000, GID: 1000}}} {
		spec := w.spec(fmt.Sprint(id, i), "syscalls", "stay")
		spec.SeccompProfile, spec.Capabilities, spec.NoNewPrivs, spec.User = profile, caps, c.noNewPrivs, c.user
		w.run(spec)
		w.expect(spec.ID, w.output(spec.ID, "Seccomp:"), want...)
		got := w.exec(spec.ID, keeper.ExecSpec{}, "syscalls")
		w.expect(spec.ID+" exec", string(got.Output), want...)
	}
}

func seccompDefault(w *world) {
	w.filtered("default", "", nil, "Seccomp:\t2", "keyctl: operation not permitted", "socket(AF_ALG): operation not permitted",
		"unshare: operation not permitted", "clone3: function not implemented", "call 5000: function not implemented", "getpid: no error")
	w.filtered("named", keeper.SeccompRuntimeDefault, append(keeper.DefaultCapabilities(), "CAP_SYS_ADMIN"), "Seccomp:\t2", "keyctl: operation not permitted")
	open := w.spec("open", "syscalls")
	open.SeccompProfile = keeper.SeccompUnconfined
	w.finish(open)
	w.expect("open", w.output("open", "Seccomp:"), "Seccomp:\t0", "getpid: no error")
	privileged := w.spec("privileged", "syscalls")
	privileged.Privileged = true
	w.finish(privileged)
	w.expect("privileged", w.output("privileged", "Seccomp:"), "Seccomp:\t0")
}

func seccompLocalhost(w *world) {
	dir := filepath.Join(w.dirs.State, "seccomp")
	must(w.t, os.MkdirAll(filepath.Join(dir, "site"), 0o700))
	profile := filepath.Join(dir, "site/strict.json")
	must(w.t, os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
		{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
	]}`), 0o600))
	w.filtered("strict", "localhost/site/strict.json", nil, "Seccomp:\t2", "getpid: no space left on device", "call 5000: function not implemented")
	must(w.t, os.Remove(profile)) // containers that have it keep it, across a crash of the keeper too
	w.crash()
	w.expect("exec without the file", string(w.exec("strict0", keeper.ExecSpec{}, "syscalls").Output), "getpid: no space left on device")
	must(w.t, os.Symlink("/proc/self/status", filepath.Join(dir, "link")))
	must(w.t, os.WriteFile(filepath.Join(dir, "broken"), []byte(`{"defaultAction": "SCMP_ACT_NOTIFY"}`), 0o600))
	must(w.t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, name := range []string{"localhost/site/strict.json", "localhost/../seccomp/broken", "localhost/link", "localhost/broken", "localhost/pipe", "localhost/site", "localhost/", "localhost//etc/passwd"} {
		spec := w.spec("refused", "sleep")
		spec.SeccompProfile = name
		if err := w.client.Create(w.t.Context(), spec); !errors.Is(err, keeper.ErrInvalid) {
			w.t.Errorf("%s: got %v", name, err)
		}
	}
}
