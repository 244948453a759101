package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skerry.dev/skerry/tests/cluster"
	"skerry.dev/skerry/tests/conformance/catalog"
)

// atOnce specs run side by side: they wait for pods most of the time, and other tests want the machine too.
const atOnce = 6

// TestFocus runs the specs of catalog/focus.txt against three nodes, each as a subtest.
func TestFocus(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes; run it without -short")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(root, ".cache", "conformance")
	if _, err := os.Stat(filepath.Join(bin, "e2e.test")); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the suite is not built: make suite")
	}
	c, err := catalog.New()
	if err != nil {
		t.Fatal(err)
	}
	specs, err := c.Focus()
	if err != nil {
		t.Fatal(err)
	}
	check(t, specs, runFocus(t, root, bin, specs))
}

// runFocus starts a cluster and returns how each spec went.
func runFocus(t *testing.T, root, bin string, specs []catalog.Spec) map[string]result {
	t.Helper()
	cl, err := cluster.Start(t.Context(), cluster.Options{Root: root, Env: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cl.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := pushImages(t.Context(), root, cl.State0.Kubeconfig); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(root, "tests", "artifacts", "conformance", "focus")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		t.Fatal(err)
	}
	s := suite{
		bin: bin, kubectl: filepath.Join(root, ".cache", "bin"), kubeconfig: cl.State0.Kubeconfig, logs: logs,
		procs: atOnce, timeLimit: 20 * time.Minute,
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	results, err := s.run(ctx, "focus", specs)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]result{}
	for _, r := range results {
		found[r.Name] = r
	}
	return found
}

func check(t *testing.T, specs []catalog.Spec, results map[string]result) {
	t.Helper()
	for _, s := range specs {
		t.Run(s.Name, func(t *testing.T) {
			switch r, ran := results[s.Name]; {
			case !ran:
				t.Error("did not run")
			case r.State != passed:
				t.Errorf("%s: %s", r.State, r.Reason)
			}
		})
	}
}
