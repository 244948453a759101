// Package scheduler decides on which node each pending pod runs, and says why or why not in words. Place is a pure
// function of nodes and pods; Plan and Finish turn its decisions into changes. It starts nothing and watches nothing:
// package controller does.
package scheduler

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Name is the spec.schedulerName that this scheduler serves.
const Name = corev1.DefaultSchedulerName

// Input is what a placement depends on. Neither the order of the slices nor anything else does matter.
type Input struct {
	Nodes   []*corev1.Node
	Bound   []*corev1.Pod // pods that have a node; those that have finished use nothing
	Pending []*corev1.Pod // pods to place, each at most once
	Now     time.Time
}

// Decision is what becomes of one pending pod. Node is empty when no node can take it; then Message says why, in
// kube-scheduler's words.
type Decision struct {
	Pod      *corev1.Pod
	Node     string
	Score    Score
	Feasible int // nodes that could have taken it
	Nodes    int // nodes that exist
	Message  string
}

// Place decides for every pending pod, the most important and then the oldest first; each sees the placements of those
// before it. Pods of one kind share one ranking of the nodes that is kept up to date, so that the work for a pod grows
// with the logarithm of the number of nodes.
func Place(in Input) []Decision {
	p := newPlacer(in)
	decisions := make([]Decision, 0, len(in.Pending))
	for _, pod := range queue(in.Pending) {
		decisions = append(decisions, p.place(pod))
	}
	for i := range decisions {
		// Said last, so that it tells of the fleet as it is when all are placed: what did not fit then, does not fit now.
		if d := &decisions[i]; d.Node == "" {
			d.Message = p.explain(p.class(d.Pod))
		}
	}
	return decisions
}

// queue orders pods by priority, age, owner and name, so that pods of one kind follow each other.
func queue(pending []*corev1.Pod) []*corev1.Pod {
	order := slices.Clone(pending)
	slices.SortFunc(order, func(a, b *corev1.Pod) int {
		return cmp.Or(
			cmp.Compare(priority(b), priority(a)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(ownerOf(a), ownerOf(b)),
			cmp.Compare(a.Name, b.Name),
		)
	})
	return order
}

func priority(p *corev1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// ownerOf is the UID of the pod's controller, empty without one.
func ownerOf(p *corev1.Pod) string {
	if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
		return string(ref.UID)
	}
	return ""
}

// Waits reports whether the pod is one that Place should be asked about: unbound, alive, ungated and ours.
func Waits(p *corev1.Pod) bool {
	return p.Spec.NodeName == "" && controller.PodActive(p) && len(p.Spec.SchedulingGates) == 0 &&
		(p.Spec.SchedulerName == "" || p.Spec.SchedulerName == Name)
}

// placer is one call of Place.
type placer struct {
	nodes   []*node // sorted by name; places in this slice are nodes' numbers everywhere
	classes map[string]*class
	ranked  []*class // those that have a ranking
	touched []int    // numbers of the nodes that took a pod, in order
	images  map[string]int
}

func newPlacer(in Input) *placer {
	p := &placer{classes: map[string]*class{}, images: map[string]int{}}
	byName := make(map[string]*node, len(in.Nodes))
	for _, n := range in.Nodes {
		state := newNode(n)
		p.nodes = append(p.nodes, state)
		byName[n.Name] = state
		for image := range state.images {
			p.images[image]++
		}
	}
	slices.SortFunc(p.nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	for _, pod := range in.Bound {
		if n := byName[pod.Spec.NodeName]; n != nil && !controller.PodFinished(pod) {
			n.take(pod, requestOf(pod))
		}
	}
	return p
}

func (p *placer) place(pod *corev1.Pod) Decision {
	c := p.class(pod)
	r := p.rank(c)
	d := Decision{Pod: pod, Nodes: len(p.nodes)}
	number, ok := r.best()
	if !ok {
		return d
	}
	n := p.nodes[number]
	d.Node, d.Score, d.Feasible = n.name, p.score(c, n), len(r.heap)
	n.take(pod, c.request)
	p.touched = append(p.touched, number)
	return d
}
