package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// node is one node with what its pods use.
type node struct {
	*corev1.Node
	name        string
	allocatable amount
	pods        int64 // how many the node may run
	ready       bool

	used                amount
	count               int64
	usedCPU, usedMemory int64          // with the assumed values, for scores
	owners              map[string]int // pods by owner
	ports               []port
	images              map[string]int64 // size in bytes by every name
}

func newNode(n *corev1.Node) *node {
	state := &node{Node: n, name: n.Name, allocatable: amountOf(n.Status.Allocatable), owners: map[string]int{}}
	pods := n.Status.Allocatable[corev1.ResourcePods]
	state.pods = pods.Value()
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			state.ready = c.Status == corev1.ConditionTrue
		}
	}
	for _, image := range n.Status.Images {
		for _, name := range image.Names {
			if state.images == nil {
				state.images = map[string]int64{}
			}
			state.images[name] = image.SizeBytes
		}
	}
	return state
}

// take books the pod on the node.
func (n *node) take(pod *corev1.Pod, r request) {
	n.used.add(r.amount)
	n.usedCPU += r.scoreCPU
	n.usedMemory += r.scoreMemory
	n.count++
	n.ports = append(n.ports, r.ports...)
	if owner := ownerOf(pod); owner != "" {
		n.owners[owner]++
	}
}

// release takes the pod off the node again.
func (n *node) release(pod *corev1.Pod, r request) {
	n.used.subtract(r.amount)
	n.usedCPU -= r.scoreCPU
	n.usedMemory -= r.scoreMemory
	n.count--
	for _, p := range r.ports {
		if i := slices.Index(n.ports, p); i >= 0 {
			n.ports = slices.Delete(n.ports, i, i+1)
		}
	}
	if owner := ownerOf(pod); owner != "" {
		n.owners[owner]--
	}
}

// fits reports whether the node has room for r.
func (n *node) fits(r *request) bool {
	if n.count+1 > n.pods || over(r.cpu, n.used.cpu, n.allocatable.cpu) || over(r.memory, n.used.memory, n.allocatable.memory) ||
		over(r.storage, n.used.storage, n.allocatable.storage) {
		return false
	}
	for name, want := range r.named {
		if over(want, n.used.named[name], n.allocatable.named[name]) {
			return false
		}
	}
	return n.portsFree(r)
}

// over reports that want does not fit; a pod that asks for none of a resource fits even where it is overused.
func over(want, used, allocatable int64) bool { return want > 0 && want > allocatable-used }

func (n *node) portsFree(r *request) bool {
	for _, want := range r.ports {
		if slices.ContainsFunc(n.ports, want.collides) {
			return false
		}
	}
	return true
}
