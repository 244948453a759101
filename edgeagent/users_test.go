package edgeagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProbeUsers: a machine that runs these tests can make user namespaces; a folder that is closed to them is found out.
func TestProbeUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: namespaces are made by root")
	}
	dir, err := os.MkdirTemp("", "users") // t.TempDir's are closed to others
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	must(t, os.Chmod(dir, 0o711))
	must(t, os.MkdirAll(filepath.Join(dir, "run/users"), 0o711))
	must(t, tryUsers(dir))
	secrets := filepath.Join(dir, "pods/u1/secrets") // of a pod that runs while the agent starts again
	must(t, os.MkdirAll(secrets, 0o700))
	must(t, unix.Mount("tmpfs", secrets, "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(secrets, unix.MNT_DETACH)) })
	must(t, tryUsers(dir))
	for _, pattern := range []string{"probe*", "pods/probe*"} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	must(t, os.Chmod(dir, 0o700))
	if err := tryUsers(dir); err == nil || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("closed folder: %v", err)
	}
}

// TestSandboxOptions: a sandbox gets what the pod's spec and annotations say of it.
func TestSandboxOptions(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		p := aPod(t, "u1", oneContainer)
		p.Annotations["kubernetes.io/ingress-bandwidth"], p.Annotations["kubernetes.io/egress-bandwidth"] = "10M", "2M"
		w.desire(p)
		w.settle(time.Second)
		got := w.sandboxes.last
		w.check("bandwidth", []uint64{got.IngressBits, got.EgressBits}, []uint64{10_000_000, 2_000_000})
		w.check("own users", got.IDs.IsZero(), false)
		owners, err := w.loop.node.users.Owners()
		must(t, err)
		w.check("owners", owners, []string{"u1"})
		w.desire()
		w.settle(time.Minute)
		owners, err = w.loop.node.users.Owners()
		must(t, err)
		w.check("owners after the pod", owners, []string{})
	})
}
