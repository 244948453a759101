package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Fleet answers what the scheduler would say of single nodes, for who plans moves. Its answers are about the moment of
// its making; Move follows a plan's own moves. It is not safe for concurrent use.
type Fleet struct {
	placer *placer
	byName map[string]*node
}

// NewFleet looks at nodes and bound pods; pending ones are not looked at.
func NewFleet(in Input) *Fleet {
	f := &Fleet{placer: newPlacer(in), byName: map[string]*node{}}
	for _, n := range f.placer.nodes {
		f.byName[n.name] = n
	}
	return f
}

// Asker is one pod with what it asks of nodes.
type Asker struct {
	fleet *Fleet
	pod   *corev1.Pod
	class *class
}

// Ask reads what the pod needs. Keep the result: it answers for every node.
func (f *Fleet) Ask(pod *corev1.Pod) *Asker { return &Asker{f, pod, f.placer.class(pod)} }

// Refused returns why the node cannot take the pod, in kube-scheduler's words; empty when it can.
func (a *Asker) Refused(node string) string {
	n := a.fleet.byName[node]
	if n == nil {
		return "node does not exist"
	}
	if reason := a.class.needs.refuse(n); reason != "" {
		return reason
	}
	reasons, _ := n.shortages(&a.class.request)
	return strings.Join(reasons, ", ")
}

// Share is the part of the node's CPU and memory that the pod asks for, as the mean of both; pods that ask for nothing
// count with what scores assume.
func (a *Asker) Share(node string) float64 {
	n := a.fleet.byName[node]
	if n == nil {
		return 0
	}
	return (fraction(a.class.request.scoreCPU, n.allocatable.cpu) + fraction(a.class.request.scoreMemory, n.allocatable.memory)) / 2
}

// HasImages reports whether all of the pod's images are on the node already, as far as the node says.
func (a *Asker) HasImages(node string) bool {
	n := a.fleet.byName[node]
	if n == nil {
		return false
	}
	for _, image := range a.class.images {
		if _, has := n.images[image]; !has {
			return false
		}
	}
	return true
}

// Move books the pod on another node.
func (a *Asker) Move(from, to string) {
	if n := a.fleet.byName[from]; n != nil {
		n.release(a.pod, a.class.request)
	}
	if n := a.fleet.byName[to]; n != nil {
		n.take(a.pod, a.class.request)
	}
}

// Requested is the part of the node's CPU and of its memory that its pods ask for. A node without capacity is full.
func (f *Fleet) Requested(node string) (cpu, memory float64) {
	n := f.byName[node]
	if n == nil {
		return 0, 0
	}
	return fraction(n.usedCPU, n.allocatable.cpu), fraction(n.usedMemory, n.allocatable.memory)
}
