package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

// upgraded is a node's pods around an upgrade: one that stays, and others that end one after the other with codes of their own.
const upgraded = `
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  containers:
  - {name: c, image: IMAGE, args: [serve], readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}
`

const ending = `
---
apiVersion: v1
kind: Pod
metadata: {name: ends-NUMBER}
spec:
  restartPolicy: Never
  containers: [{name: c, image: IMAGE, args: [exit, "CODE"], env: [{name: START_AFTER, value: MILLISms}]}]
`

const (
	endings = 24
	apart   = 250 // milliseconds
)

// TestUpgradeOfANode: new files of agent and keeper take the places of the old; no container is restarted, and the exit codes of those that end
// meanwhile are known.
func TestUpgradeOfANode(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"skerry-coordinator", "skerry-agent", "skerry-keeper"} {
		install(t, shared.Bin(name), filepath.Join(bin, name))
	}
	c, err := cluster.Start(t.Context(), cluster.Options{Nodes: 1, DataDir: filepath.Join(t.TempDir(), "up"), Args: []string{"--bin-dir", bin}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := c.Kubectl(context.WithoutCancel(t.Context()), "", "describe", "nodes,pods")
			t.Log(out, err)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	copyImage(t, c)
	u := &upgrade{T: t, Cluster: c, bin: bin}
	u.apply(upgraded)
	before := u.pod("stays", isReady)
	u.build("two")
	u.build("three")
	all := ""
	for n := range endings {
		all += strings.NewReplacer("NUMBER", fmt.Sprint(n), "CODE", fmt.Sprint(n+1), "MILLIS", fmt.Sprint(n*apart)).Replace(ending)
	}
	u.apply(all)
	for _, release := range []string{"two", "three"} {
		u.install(release)
	}
	for n := range endings {
		p := u.pod(fmt.Sprintf("ends-%d", n), func(p corev1.Pod) bool {
			return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		})
		if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || int(end.ExitCode) != n+1 || end.Reason != "Error" {
			t.Errorf("%s ended with %+v, want code %d", p.Name, end, n+1)
		}
	}
	after := u.pod("stays", isReady)
	if b, a := before.Status.ContainerStatuses[0], after.Status.ContainerStatuses[0]; a.RestartCount != 0 || a.ContainerID != b.ContainerID || !a.State.Running.StartedAt.Equal(&b.State.Running.StartedAt) {
		t.Errorf("it was %+v, is %+v", b, a)
	}
}

// upgrade is a cluster of one node whose programs are in a folder of their own.
type upgrade struct {
	*testing.T
	*cluster.Cluster
	bin string
}

func (u *upgrade) apply(manifest string) {
	u.Helper()
	if _, err := u.Kubectl(u.Context(), manifestOf(manifest), "apply", "-f", "-"); err != nil {
		u.Fatal(err)
	}
}

func (u *upgrade) pod(name string, is func(corev1.Pod) bool) (p corev1.Pod) {
	u.Helper()
	err := cluster.Poll(u.Context(), limit, name, func() (bool, error) {
		p = corev1.Pod{}
		err := u.Get(u.Context(), &p, "pod", name)
		return err == nil && is(p), err
	})
	if err != nil {
		u.Fatal(err)
	}
	return p
}

// build makes the programs of another release.
func (u *upgrade) build(release string) {
	u.Helper()
	for name, how := range map[string][]string{
		"skerry-agent":  {"CGO_ENABLED=0", "-X skerry.dev/skerry/api.BuildVersion=" + release},
		"skerry-keeper": {"CGO_ENABLED=1", "-linkmode external -extldflags -static -X main.release=" + release},
	} {
		cmd := exec.CommandContext(u.Context(), "go", "build", "-trimpath", "-tags", "netgo,osusergo", "-ldflags", "-s -w "+how[1],
			"-o", filepath.Join(u.bin, name+"."+release), "skerry.dev/skerry/cmd/"+name)
		cmd.Env = append(os.Environ(), how[0])
		if out, err := cmd.CombinedOutput(); err != nil {
			u.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
}

// install puts the programs of a release in place, tells the node, and waits until both run; the keeper is the process it was.
func (u *upgrade) install(release string) {
	u.Helper()
	state, err := u.State(u.Context())
	if err != nil {
		u.Fatal(err)
	}
	for _, name := range []string{"skerry-agent", "skerry-keeper"} {
		if err := os.Rename(filepath.Join(u.bin, name+"."+release), filepath.Join(u.bin, name)); err != nil {
			u.Fatal(err)
		}
	}
	n := state.Nodes[0]
	if err := syscall.Kill(n.InitPID, syscall.SIGHUP); err != nil {
		u.Fatal(err)
	}
	err = cluster.Poll(u.Context(), limit, "release "+release, func() (bool, error) {
		var node corev1.Node
		err := u.Get(u.Context(), &node, "node", n.Name)
		file, linkErr := os.Readlink(fmt.Sprintf("/proc/%d/exe", n.KeeperPID))
		same := file == filepath.Join(u.bin, "skerry-keeper")
		return err == nil && node.Status.NodeInfo.KubeletVersion == release && same, fmt.Errorf("node is of %s, keeper %s, %w", node.Status.NodeInfo.KubeletVersion, file, linkErr)
	})
	if err != nil {
		u.Fatal(err)
	}
}

func install(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
