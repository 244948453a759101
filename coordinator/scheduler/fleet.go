package scheduler

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Fleet answers what the scheduler would say of single nodes, for who plans moves. Its answers are about the moment of
// its making; Move follows a plan's own moves. It is not safe for concurrent use.
type Fleet struct {
	placer *placer
	at     map[*corev1.Pod]string // where pods are that were moved
}

// NewFleet looks at nodes and bound pods; pending ones are not looked at.
func NewFleet(in Input) *Fleet {
	return &Fleet{placer: newPlacer(in), at: map[*corev1.Pod]string{}}
}

// node is nil when there is none of that name.
func (f *Fleet) node(name string) *node {
	number, exists := f.placer.byName[name]
	if !exists {
		return nil
	}
	return f.placer.nodes[number]
}

// Asker is one pod with what it asks of nodes.
type Asker struct {
	fleet *Fleet
	pod   *corev1.Pod
	class *class
}

// Ask reads what the pod needs. Keep the result: it answers for every node.
func (f *Fleet) Ask(pod *corev1.Pod) *Asker { return &Asker{f, pod, f.placer.class(pod)} }

// Refused returns why the node cannot take the pod, in kube-scheduler's words; empty when it can. The pod's rules about
// others, and theirs about it, are judged as if it had left the node where it is; a claim that only one pod may have is in
// use as long as it has not.
func (a *Asker) Refused(node string) string {
	number, exists := a.fleet.placer.byName[node]
	if !exists {
		return "node does not exist"
	}
	if blocked := a.fleet.placer.blocked(a.class); blocked != "" {
		return blocked
	}
	a.join(a.place(), -1)
	why, _ := a.fleet.placer.refuse(a.class, number)
	a.join(a.place(), 1)
	return strings.Join(why, ", ")
}

// place is the node where the pod is.
func (a *Asker) place() string {
	if moved, ok := a.fleet.at[a.pod]; ok {
		return moved
	}
	return a.pod.Spec.NodeName
}

// join counts the pod among those that run on the node, or with -1 no longer.
func (a *Asker) join(node string, by int32) {
	if number, exists := a.fleet.placer.byName[node]; exists {
		a.fleet.placer.society.join(a.pod, number, by)
	}
}

// Share is the part of the node's CPU and memory that the pod asks for, as the mean of both; pods that ask for nothing
// count with what scores assume.
func (a *Asker) Share(node string) float64 {
	n := a.fleet.node(node)
	if n == nil {
		return 0
	}
	return (fraction(a.class.request.scoreCPU, n.allocatable.cpu) + fraction(a.class.request.scoreMemory, n.allocatable.memory)) / 2
}

// HasImages reports whether all of the pod's images are on the node already, as far as the node says.
func (a *Asker) HasImages(node string) bool {
	n := a.fleet.node(node)
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
	p := a.fleet.placer
	if number, exists := p.byName[from]; exists {
		p.vacate(a.pod, a.class.request, number)
	}
	if number, exists := p.byName[to]; exists {
		p.occupy(a.pod, a.class.request, number)
	}
	a.join(from, -1)
	a.join(to, 1)
	a.fleet.at[a.pod] = to
}

// Requested is the part of the node's CPU and of its memory that its pods ask for. A node without capacity is full.
func (f *Fleet) Requested(node string) (cpu, memory float64) {
	n := f.node(node)
	if n == nil {
		return 0, 0
	}
	return fraction(n.usedCPU, n.allocatable.cpu), fraction(n.usedMemory, n.allocatable.memory)
}
