package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/cluster"
)

const mebi = 1 << 20

// smallDisk mounts a disk of so many bytes on a folder, which it makes.
func smallDisk(t *testing.T, dir string, bytes int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill writes a file so that the disk has so many bytes left.
func fill(t *testing.T, path string, leave uint64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &fs); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail*uint64(fs.Bsize)-leave)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// noise writes a file that no compression makes smaller.
func noise(t *testing.T, path string, bytes int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.CopyN(f, rand.Reader, bytes)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// noiseLayer is a layer with such a file.
func noiseLayer(t *testing.T, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	noise(t, filepath.Join(dir, "noise"), bytes)
	layer := filepath.Join(t.TempDir(), "layer.tar")
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", layer, "noise").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return layer
}

// alone is a coordinator without nodes, which nobody starts again.
type alone struct {
	space
	cluster *cluster.Cluster // for its programs and registry
}

func newAlone(t *testing.T, dir string) *alone {
	t.Helper()
	state, api := filepath.Join(dir, "state"), freePort(t)
	a := &alone{space: space{T: t, name: "default"}}
	a.cluster = &cluster.Cluster{Root: shared.Root, DataDir: t.TempDir(), State0: up.State{
		API: "https://" + api, Kubeconfig: filepath.Join(state, "admin.kubeconfig"), TokenFile: filepath.Join(state, "keys", "admin.token"),
	}}
	cmd := exec.Command(shared.Bin("skerry-coordinator"), "--state-dir", state, "--api.listen", api, "--nats.listen", freePort(t))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1) // one word
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		select {
		case err := <-ended:
			t.Errorf("the coordinator ended by itself: %v", err)
		default:
			_ = cmd.Process.Kill() // it runs
			<-ended
		}
	})
	a.poll("coordinator", func() (bool, error) {
		_, err := a.kubectl("get", "--raw", "/readyz")
		return err == nil, err
	})
	return a
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (a *alone) kubectl(args ...string) (string, error) {
	return a.cluster.Kubectl(a.Context(), "", append([]string{"--request-timeout", "30s"}, args...)...)
}

func (a *alone) must(args ...string) string {
	a.Helper()
	out, err := a.kubectl(args...)
	if err != nil {
		a.Fatal(err)
	}
	return out
}

// TestFullDiskOfTheCoordinator: writes are refused with what to do about it, reading and deleting go on, what was
// acknowledged is there, and once there is room everything works again, without anybody's help.
func TestFullDiskOfTheCoordinator(t *testing.T) {
	dir := t.TempDir()
	smallDisk(t, dir, 96*mebi)
	a := newAlone(t, dir)
	a.must("create", "configmap", "before", "--from-literal=k=v")
	a.must("create", "configmap", "old", "--from-literal=k=v")
	filler := filepath.Join(dir, "filler")
	fill(t, filler, 19*mebi)
	acknowledged, refusal := a.writeUntilRefused()
	a.wants(refusal.Error(), "full", filepath.Join(dir, "state"), "skerry image rm")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	fill(t, filler, 5*mebi)
	a.must("delete", "configmap", "old")
	a.wants(a.must("get", "configmaps", "-o", "name"), "configmap/before", "!configmap/old")
	a.pushRefused(t)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	a.must("create", "configmap", "after", "--from-literal=k=v")
	for _, name := range append(acknowledged, "before") {
		a.must("get", "configmap", name, "-o", "name")
	}
	t.Logf("%d acknowledged writes, then: %v", len(acknowledged), refusal)
}

func (a *alone) writeUntilRefused() (acknowledged []string, refusal error) {
	a.Helper()
	big := filepath.Join(a.TempDir(), "big")
	if err := os.WriteFile(big, []byte(strings.Repeat("x", 900<<10)), 0o600); err != nil {
		a.Fatal(err)
	}
	for i := range 50 {
		name := fmt.Sprintf("during-%d", i)
		if _, err := a.kubectl("create", "configmap", name, "--from-file="+big); err != nil {
			return acknowledged, err
		}
		acknowledged = append(acknowledged, name)
	}
	a.Fatal("a full disk took everything")
	return nil, nil
}

// pushRefused pushes more than the disk holds: an error that says so, and nothing of the image can be seen.
func (a *alone) pushRefused(t *testing.T) {
	t.Helper()
	r, err := newRegistry(a.cluster, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.crane(t.Context(), "append", "--new_layer", noiseLayer(t, 16*mebi), "-t", r.host+"/big:1", "--oci-empty-base")
	if err == nil {
		t.Fatal("a full disk took an image")
	}
	a.wants(err.Error(), "full")
	if out, err := r.crane(t.Context(), "catalog", r.host); err != nil || strings.Contains(out, "big") {
		t.Errorf("half an image is visible: %q %v", out, err)
	}
}

// TestFullDiskOfANode: an image that does not fit is an error that says so, and takes no room; one that fits still runs.
func TestFullDiskOfANode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "up")
	smallDisk(t, filepath.Join(dir, "nodes", "n1"), 40*mebi)
	c, err := cluster.Start(t.Context(), cluster.Options{Nodes: 1, DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	copyImage(t, c)
	r, err := newRegistry(c, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.crane(t.Context(), "append", "--base", r.host+"/testimage:1", "--new_layer", noiseLayer(t, 64*mebi), "-t", r.host+"/big:1"); err != nil {
		t.Fatal(err)
	}
	big := strings.ReplaceAll(podManifest("big", "", "args: [serve]"), "IMAGE", "registry.skerry/big:1")
	if _, err := c.Kubectl(t.Context(), big, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	err = cluster.Poll(t.Context(), limit, "image that does not fit", func() (bool, error) {
		var p corev1.Pod
		if err := c.Get(t.Context(), &p, "pod", "big"); err != nil {
			return false, err
		}
		w := waiting(p)
		if strings.Contains(w.Reason, "ImagePull") && strings.Contains(w.Message, "no space left for images") && strings.Contains(w.Message, filepath.Join(dir, "nodes", "n1")) {
			t.Log(w.Message)
			return true, nil
		}
		return false, errors.New(brief(p))
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := c.Kubectl(t.Context(), manifestOf(podManifest("p", "", "args: [serve]")), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	readyIn(t, c)
}
