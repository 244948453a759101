package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// neighbour starts a pod that must not notice what others do on its node, and returns a check that it has not.
func (s space) neighbour() (node string, unharmed func()) {
	s.Helper()
	s.apply(podManifest("neighbour", "", "resources: {limits: {memory: 64Mi, cpu: 200m}}"))
	before := s.ready("neighbour")
	return before.Spec.NodeName, func() {
		s.Helper()
		now := s.ready("neighbour")
		if got := s.ask(now, "/env?name=VERSION"); got != "1" {
			s.Errorf("the neighbour answers %q", got)
		}
		if now.Status.ContainerStatuses[0].RestartCount != 0 || now.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID {
			s.Errorf("the neighbour was restarted: %+v", now.Status)
		}
		if got := groupFile(s.T, s.pid(now), "memory", "memory.limit_in_bytes", "memory.max"); !strings.HasPrefix(got, "67108864") {
			s.Errorf("the neighbour's memory limit is %q", got)
		}
		ready := get[corev1.Node](s, "node "+before.Spec.NodeName)
		for _, c := range ready.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				s.Errorf("the node is not ready: %+v", c)
			}
		}
	}
}

// TestHostilePrograms run on one node beside a neighbour: each meets its own limit and nobody else's.
func TestHostilePrograms(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	node, unharmed := s.neighbour()
	on := "restartPolicy: Never\nnodeName: " + node + "\n"
	s.apply(podManifest("memory", on, "args: [oom]\nresources: {limits: {memory: 32Mi}}") +
		podManifest("forks", on, "args: [forks]\nresources: {limits: {cpu: 500m}}") +
		podManifest("disk", on+"volumes: [{name: v, emptyDir: {medium: Memory, sizeLimit: 8Mi}}]", "args: [fill, /v]\nterminationMessagePolicy: FallbackToLogsOnError\nvolumeMounts: [{name: v, mountPath: /v}]") +
		podManifest("shm", on, "args: [fill, /dev/shm]\nterminationMessagePolicy: FallbackToLogsOnError") +
		podManifest("flood", on, "args: [flood]\nresources: {limits: {cpu: 200m}}"))
	for name, want := range map[string]struct{ reason, message string }{
		"memory": {"OOMKilled", ""}, "disk": {"Error", "no space left on device"}, "shm": {"Error", "no space left on device"},
	} {
		if end := terminated(s.ended(name)); end.Reason != want.reason || !strings.Contains(end.Message, want.message) {
			t.Errorf("%s ended with %+v", name, end)
		}
	}
	s.poll("the fork bomb meets its limit", func() (bool, error) {
		return strings.Contains(s.kubectl("logs forks"), "refused"), nil
	})
	flood := get[corev1.Pod](s, "pod flood")
	s.poll("the flood is cut to size", func() (bool, error) {
		files, bytes := s.logsOf(flood)
		if files > 3 || bytes > 45<<20 {
			t.Fatalf("the flood has %d log files of %d bytes", files, bytes)
		}
		return files == 3, nil
	})
	unharmed()
	s.kubectl("delete pod forks flood --grace-period=0 --force --wait=true")
	unharmed()
}

// logsOf counts a pod's log files on its node.
func (s space) logsOf(p corev1.Pod) (files int, bytes int64) {
	s.Helper()
	dir := filepath.Join(shared.DataDir, "nodes", p.Spec.NodeName, "logs")
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(path, string(p.UID)) {
			return nil // logs come and go
		}
		if info, err := e.Info(); err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return files, bytes
}

// layerOf is a layer with these links, name to target.
func layerOf(t *testing.T, links map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, target := range links {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestHostileImages have links where something is to be mounted. Whatever becomes of their pods, nothing of the node is touched.
func TestHostileImages(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	canary := t.TempDir()
	up := strings.Repeat("../", 20) + canary
	r := s.registry()
	node, unharmed := s.neighbour()
	on := "restartPolicy: Never\nnodeName: " + node + "\nvolumes: [{name: v, emptyDir: {}}]\n"
	for name, c := range map[string]struct {
		links map[string]string
		mount string
	}{
		"data": {map[string]string{"data": canary}, "/data/inner"},
		"dots": {map[string]string{"data": up}, "/data/inner"},
		"self": {map[string]string{"data": "/proc/1/root" + canary}, "/data/inner"},
		"etc":  {map[string]string{"etc": up}, "/v"},
		"proc": {map[string]string{"proc": up}, "/v"},
		"dev":  {map[string]string{"dev": canary}, "/v"},
		"sys":  {map[string]string{"sys": "/proc"}, "/v"},
	} {
		image := "/hostile:" + name
		s.crane(r, "append", "-b", r.host+"/testimage:1", "-f", layerOf(t, c.links), "-t", r.host+image)
		s.apply(strings.ReplaceAll(podManifest(name, on, "args: [write, "+c.mount+"/x, here]\nvolumeMounts: [{name: v, mountPath: "+c.mount+"}]"), "IMAGE", "registry.skerry"+image))
	}
	for _, name := range []string{"data", "dots", "self", "etc", "proc", "dev", "sys"} {
		p := await(s, name+" is over", "pod "+name, func(p corev1.Pod) bool { return terminated(p).Reason != "" || waiting(p).Message != "" })
		t.Logf("%s: %s %+v %s", name, p.Status.Phase, terminated(p), waiting(p).Message)
		if p.Status.Phase == corev1.PodFailed && terminated(p).Message == "" {
			t.Errorf("%s failed without a reason", name)
		}
	}
	left, err := os.ReadDir(canary)
	if err != nil || len(left) > 0 {
		t.Errorf("a folder of the node was written to: %v, %v", left, err)
	}
	unharmed()
}

// TestKeeperIsNotOverwritten: a container that finds the runtime's own program behind a process of its own cannot write to it.
func TestKeeperIsNotOverwritten(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	digest := func() [sha256.Size]byte {
		data, err := os.ReadFile(filepath.Join(shared.Root, "bin", "skerry-keeper"))
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(data)
	}
	before := digest()
	for _, users := range []string{"hostUsers: true", ""} {
		s.apply(podManifest("p", users, "args: [overwrite]\nsecurityContext: {allowPrivilegeEscalation: true}\nreadinessProbe: {exec: {command: [/testimage, print, ready]}, periodSeconds: 1}"))
		s.ready("p")
		for range 20 { // each exec is the runtime's program for a moment
			s.kubectl("exec p -- /testimage print hello")
		}
		s.apply(podManifest("self", users+"\nrestartPolicy: Never", "command: [/proc/self/exe]\nargs: [--help]"))
		s.ended("self")
		if logs := s.kubectl("logs p"); strings.Contains(logs, "<nil>") {
			t.Errorf("the runtime was written to: %s", logs)
		}
		s.kubectl("delete pod p self --grace-period=0 --force")
	}
	if digest() != before {
		t.Fatal("the keeper's program has changed")
	}
}
