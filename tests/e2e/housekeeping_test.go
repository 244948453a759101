package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

// short is a cluster of one node that has little of everything.
type short struct {
	*testing.T
	*cluster.Cluster
	dir string // of the node
}

// newShort has a node with a disk of its own and a gibibyte of memory for pods, that is short of either soon.
func newShort(t *testing.T) *short {
	t.Helper()
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		t.Fatal(err)
	}
	settings := []string{
		fmt.Sprintf("SKERRY_RESERVED_MEMORY=%d", uint64(memory.Totalram)*uint64(memory.Unit)-1024*mebi),
		"SKERRY_EVICTION_HARD=memory.available<512Mi,nodefs.available<20%,imagefs.available<20%",
		"SKERRY_EVICTION_PRESSURE_TRANSITION_PERIOD=5s",
	}
	dir := filepath.Join(t.TempDir(), "up")
	s := &short{T: t, dir: filepath.Join(dir, "nodes", "n1")}
	smallDisk(t, s.dir, 256*mebi)
	var err error
	if s.Cluster, err = cluster.Start(t.Context(), cluster.Options{Nodes: 1, DataDir: dir, Env: settings}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := s.Kubectl(t.Context(), "", "describe", "nodes,pods", "-A")
			t.Log(out, err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	copyImage(t, s.Cluster)
	return s
}

func (s *short) apply(manifests ...string) {
	s.Helper()
	if _, err := s.Kubectl(s.Context(), manifestOf(strings.Join(manifests, "")), "apply", "-f", "-"); err != nil {
		s.Fatal(err)
	}
}

// evicted waits until the pod has failed so, with these words in its message and an event.
func (s *short) evicted(pod string, words ...string) corev1.Pod {
	s.Helper()
	var p corev1.Pod
	err := cluster.Poll(s.Context(), limit, pod+" evicted", func() (bool, error) {
		p = corev1.Pod{}
		err := s.Get(s.Context(), &p, "pod", pod)
		return err == nil && p.Status.Phase == corev1.PodFailed, errors.Join(err, errors.New(brief(p)))
	})
	if err != nil {
		s.Fatal(err)
	}
	for _, word := range words {
		if p.Status.Reason != "Evicted" || !strings.Contains(p.Status.Message, word) {
			s.Errorf("%s: %s, %q, want %q", pod, p.Status.Reason, p.Status.Message, word)
		}
	}
	s.told(pod, "Evicted", strings.TrimSpace(words[0]))
	return p
}

// told waits for an event, which tells of what may be over by now.
func (s *short) told(object, reason, words string) {
	s.Helper()
	err := cluster.Poll(s.Context(), limit, "event "+reason, func() (bool, error) {
		out, err := s.Kubectl(s.Context(), "", "get", "events", "-A", "--field-selector", "reason="+reason+",involvedObject.name="+object)
		return err == nil && strings.Contains(out, reason) && strings.Contains(out, words), errors.Join(err, errors.New(out))
	})
	if err != nil {
		s.Error(err)
	}
}

// condition waits until the node has it, or has it no more, and the taint with it.
func (s *short) condition(kind corev1.NodeConditionType, taint string, want corev1.ConditionStatus) {
	s.Helper()
	err := cluster.Poll(s.Context(), limit, fmt.Sprintf("%s is %s", kind, want), func() (bool, error) {
		var n corev1.Node
		err := s.Get(s.Context(), &n, "node", "n1")
		tainted := slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == taint })
		is := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind && c.Status == want })
		return err == nil && is && tainted == (want == corev1.ConditionTrue), errors.Join(err, fmt.Errorf("%v %v", n.Status.Conditions, n.Spec.Taints))
	})
	if err != nil {
		s.Fatal(err)
	}
}

// free is how much of the node's disk is.
func (s *short) free() int64 {
	s.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(s.dir, &fs); err != nil {
		s.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// TestHousekeeping: pods that take more than they may, or than the node has, are evicted with the reason, with and without
// a link; the node stays up, its conditions come and go, and a neighbour notices nothing.
func TestHousekeeping(t *testing.T) {
	t.Parallel()
	s := newShort(t)
	s.apply(podManifest("p", "", "args: [serve]\nresources: {limits: {memory: 64Mi}}"))
	before := readyIn(t, s.Cluster)
	limits := func(size string) string { return "resources: {limits: {ephemeral-storage: " + size + "}}" }
	s.apply(
		podManifest("files", "", "args: [fill, /, \"20\"]\n"+limits("10Mi")),
		podManifest("flood", "", "args: [flood]\n"+limits("5Mi")),
		podManifest("volume", "volumes: [{name: v, emptyDir: {sizeLimit: 5Mi}}]", "args: [fill, /v, \"8\"]\nvolumeMounts: [{name: v, mountPath: /v}]"),
		podManifest("modest", "volumes: [{name: v, emptyDir: {sizeLimit: 20Mi}}]", "args: [fill, /v, \"8\"]\nvolumeMounts: [{name: v, mountPath: /v}]\n"+limits("20Mi")),
	)
	s.evicted("files", "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
	s.evicted("flood", "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. ")
	s.evicted("volume", `Usage of EmptyDir volume "v" exceeds the limit "5Mi". `)
	s.disk()
	s.cutOff()
	s.memory(func() {
		var modest corev1.Pod
		if err := s.Get(t.Context(), &modest, "pod", "modest"); err != nil || !isReady(modest) {
			t.Errorf("%v %s", err, brief(modest))
		}
		if now := readyIn(t, s.Cluster); now.UID != before.UID || restarts(now) != 0 || now.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID {
			t.Errorf("the neighbour did not run on: %s", brief(now))
		}
	})
}

// disk has the node's disk filled to the last byte.
func (s *short) disk() {
	s.Helper()
	s.apply(podManifest("filler", "", "args: [fill, /]\nterminationMessagePolicy: FallbackToLogsOnError"))
	s.told("n1", "NodeHasDiskPressure", "Node n1 status is now: NodeHasDiskPressure")
	p := s.evicted("filler", "The node was low on resource: ephemeral-storage. Threshold quantity: ", "Container c was using ", "request is 0, has larger consumption of ephemeral-storage. ")
	if c := condition(p, corev1.DisruptionTarget); c.Reason != corev1.PodReasonTerminationByKubelet {
		s.Errorf("condition %+v", c)
	}
	s.condition(corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure, corev1.ConditionFalse)
	err := cluster.Poll(s.Context(), limit, "room after the eviction", func() (bool, error) {
		free := s.free()
		return free >= 150*mebi, fmt.Errorf("%d bytes are free", free)
	})
	if err != nil {
		s.Error(err)
	}
}

// cutOff has it filled while the coordinator is away: it hears of it later.
func (s *short) cutOff() {
	s.Helper()
	s.apply(podManifest("alone", "", "args: [fill, /, \"200\"]\nenv: [{name: START_AFTER, value: 15s}]"))
	var p corev1.Pod
	err := cluster.Poll(s.Context(), limit, "pod runs", func() (bool, error) {
		p = corev1.Pod{}
		err := s.Get(s.Context(), &p, "pod", "alone")
		return err == nil && p.Status.Phase == corev1.PodRunning, errors.Join(err, errors.New(brief(p)))
	})
	if err != nil {
		s.Fatal(err)
	}
	if err := s.Node(s.Context(), "n1", "cut"); err != nil {
		s.Fatal(err)
	}
	err = cluster.Poll(s.Context(), limit, "nothing of the pod is left on the node", func() (bool, error) {
		_, err := os.Stat(filepath.Join(s.dir, "pods", string(p.UID)))
		free := s.free()
		return errors.Is(err, os.ErrNotExist) && free >= 150*mebi, fmt.Errorf("its folder: %w; %d bytes are free", err, free)
	})
	if err != nil {
		s.Error(err)
	}
	if err := s.Node(s.Context(), "n1", "heal"); err != nil {
		s.Fatal(err)
	}
	s.evicted("alone", "The node was low on resource: ephemeral-storage. ")
	s.condition(corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure, corev1.ConditionFalse)
}

// memory has the pods' memory taken, by one that is evicted and by one that may not be, while which nobody is let in who
// asks for nothing.
func (s *short) memory(unharmed func()) {
	s.Helper()
	s.apply(podManifest("hog", "", "args: [hold, \"600\"]"))
	s.told("n1", "NodeHasInsufficientMemory", "")
	s.evicted("hog", "The node was low on resource: memory. Threshold quantity: 512Mi, available: ", "Container c was using ")
	s.condition(corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure, corev1.ConditionFalse)
	unharmed()
	critical := strings.Replace(podManifest("vital", "priorityClassName: system-node-critical", "args: [hold, \"600\"]"), "metadata: {", "metadata: {namespace: kube-system, ", 1)
	s.apply(critical)
	s.condition(corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure, corev1.ConditionTrue)
	s.apply(podManifest("late", "nodeName: n1", "args: [serve]"))
	s.evicted("late", "Pod was rejected: The node had condition: [MemoryPressure]. ")
}
