package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// victims picks count of pods to delete, in the order of upstream's ActivePodsWithRanks: first what does the least good.
// related are all the pods of the owner's owner; they say which nodes are doubly used.
func victims(pods, related []*corev1.Pod, count int, now time.Time) []*corev1.Pod {
	if count >= len(pods) {
		return pods
	}
	active := make(map[string]int)
	for _, pod := range related {
		if controller.PodActive(pod) && pod.Spec.NodeName != "" {
			active[pod.Spec.NodeName]++
		}
	}
	ranked := make([]candidate, len(pods))
	for i, pod := range pods {
		ranked[i] = rank(pod, active[pod.Spec.NodeName], now)
	}
	slices.SortStableFunc(ranked, worse)
	chosen := make([]*corev1.Pod, count)
	for i := range chosen {
		chosen[i] = ranked[i].pod
	}
	return chosen
}

// candidate is a pod with what the order looks at.
type candidate struct {
	pod      *corev1.Pod
	assigned int // 0 when it has no node
	phase    int // pending, unknown, running
	ready    int
	cost     int64 // annotation controller.kubernetes.io/pod-deletion-cost
	doubled  int   // pods of the owner's owner on its node
	readyAge int   // logarithm of how long it has been ready, so that close ages tie
	restarts int32
	age      int
}

var phases = map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}

func rank(pod *corev1.Pod, doubled int, now time.Time) candidate {
	c := candidate{pod: pod, phase: phases[pod.Status.Phase], cost: deletionCost(pod), doubled: doubled, age: logAge(pod.CreationTimestamp.Time, now)}
	if pod.Spec.NodeName != "" {
		c.assigned = 1
	}
	if controller.PodReady(pod) {
		c.ready = 1
		c.readyAge = logAge(controller.PodReadySince(pod), now)
	}
	for _, status := range pod.Status.ContainerStatuses {
		c.restarts = max(c.restarts, status.RestartCount)
	}
	return c
}

func worse(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.assigned, b.assigned),
		cmp.Compare(a.phase, b.phase),
		cmp.Compare(a.ready, b.ready),
		cmp.Compare(a.cost, b.cost),
		cmp.Compare(b.doubled, a.doubled),
		cmp.Compare(a.readyAge, b.readyAge),
		cmp.Compare(b.restarts, a.restarts),
		cmp.Compare(a.age, b.age),
		cmp.Compare(a.pod.UID, b.pod.UID),
	)
}

func deletionCost(pod *corev1.Pod) int64 {
	value, set := pod.Annotations[corev1.PodDeletionCost]
	if !set {
		return 0
	}
	cost, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return 0 // as upstream: a cost that does not parse is none
	}
	return cost
}

// logAge is the binary logarithm of the age in nanoseconds. An unknown or future time is youngest.
func logAge(t, now time.Time) int {
	if t.IsZero() {
		return -2
	}
	if age := now.Sub(t); age > 0 {
		return int(math.Log2(float64(age)))
	}
	return -1
}
