package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

// TestKilledUpLeavesNothing: kill -9 of `skerry up` takes its nodes with it; the next one on the same folder brings the same
// cluster back, and when that has been stopped in order nothing is left on the machine.
func TestKilledUpLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "up")
	c, err := cluster.Start(t.Context(), cluster.Options{Nodes: 1, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Log(err) // it is stopped below, unless the test has failed
		}
	})
	copyImage(t, c)
	if _, err := c.Kubectl(t.Context(), manifestOf(podManifest("p", "", "args: [serve]")), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	before := readyIn(t, c)
	state, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	gone(t, state.CoordinatorPID, state.Nodes[0].InitPID, state.Nodes[0].AgentPID, state.Nodes[0].KeeperPID)

	if c, err = cluster.Start(t.Context(), cluster.Options{Nodes: 1, DataDir: dir}); err != nil {
		t.Fatal(err)
	}
	if after := readyIn(t, c); after.UID != before.UID {
		t.Errorf("pod %s is now %s", before.UID, after.UID)
	}
	if err := nothingLeft(t.Context(), c); err != nil {
		t.Error(err)
	}
}

// copyImage gives another cluster the shared one's test image.
func copyImage(t *testing.T, to *cluster.Cluster) {
	t.Helper()
	dirs := [2]string{t.TempDir(), t.TempDir()}
	from, err := newRegistry(shared, dirs[0])
	if err != nil {
		t.Fatal(err)
	}
	target, err := newRegistry(to, dirs[1])
	if err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(dirs[0], "image.tar")
	if _, err := from.crane(t.Context(), "pull", from.host+"/testimage:1", tarball); err != nil {
		t.Fatal(err)
	}
	if _, err := target.crane(t.Context(), "push", tarball, target.host+"/testimage:1"); err != nil {
		t.Fatal(err)
	}
}

func readyIn(t *testing.T, c *cluster.Cluster) corev1.Pod {
	t.Helper()
	var p corev1.Pod
	err := cluster.Poll(t.Context(), limit, "pod ready", func() (bool, error) {
		p = corev1.Pod{}
		if err := c.Get(t.Context(), &p, "pod", "p"); err != nil {
			return false, err
		}
		if !isReady(p) {
			return false, errors.New(brief(p))
		}
		// What the coordinator remembers is not enough: the node must run it.
		_, err := c.FetchFrom(t.Context(), p.Spec.NodeName, "http://"+p.Status.PodIP+":8080/")
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// gone waits until the kernel has ended processes whose parent was killed.
func gone(t *testing.T, pids ...int) {
	t.Helper()
	err := cluster.Poll(t.Context(), limit, "end of all processes", func() (bool, error) {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && len(stat) > 0 {
				return false, fmt.Errorf("process %d lives on: %q", pid, stat)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}
