package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestClients runs programs as people write them, which are a module of their own. One of them kills the coordinator, so
// this test runs alone.
func TestClients(t *testing.T) {
	s := newSpace(t)
	state, err := shared.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "-C", filepath.Join(shared.Root, "tests", "clients"), "test", "-count=1", "-v", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "KUBECONFIG="+shared.State0.Kubeconfig, "COORDINATOR="+strconv.Itoa(state.CoordinatorPID))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.wants(string(out), "--- PASS: TestInformer", "--- PASS: TestManager", "!SKIP")
	t.Log(strings.TrimSpace(string(out)))
}
