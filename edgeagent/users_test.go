package edgeagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	left, err := filepath.Glob(filepath.Join(dir, "probe*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	must(t, os.Chmod(dir, 0o700))
	if err := tryUsers(dir); err == nil || !strings.Contains(err.Error(), "chmod o+x") {
		t.Errorf("closed folder: %v", err)
	}
}
