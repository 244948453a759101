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
	usedCPU, usedMemory int64 // with the assumed values, for scores
	ports               []port
	images              map[string]int64 // size in bytes by every name
}

func newNode(n *corev1.Node) *node {
	state := &node{Node: n, name: n.Name, allocatable: amountOf(n.Status.Allocatable)}
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

// take books a pod on the node.
func (n *node) take(r request) {
	n.used.add(r.amount)
	n.usedCPU += r.scoreCPU
	n.usedMemory += r.scoreMemory
	n.count++
	n.ports = append(n.ports, r.ports...)
}

// release takes a pod off the node again.
func (n *node) release(r request) {
	n.used.subtract(r.amount)
	n.usedCPU -= r.scoreCPU
	n.usedMemory -= r.scoreMemory
	n.count--
	for _, p := range r.ports {
		if i := slices.Index(n.ports, p); i >= 0 {
			n.ports = slices.Delete(n.ports, i, i+1)
		}
	}
}

// fits reports whether the node has room for r.
func (n *node) fits(r *request) bool {
	if n.count+1 > n.pods || over(r.cpu, n.used.cpu, n.allocatable.cpu) || over(r.memory, n.used.memory, n.allocatable.memory) ||
		over(r.storage, n.used.storage, n.allocatable.storage) {
		return false
	}
	if r.named != nil {
		for name, want := range r.named {
			if over(want, n.used.named[name], n.allocatable.named[name]) {
				return false
			}
		}
	}
	return r.ports == nil || n.portsFree(r)
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

// family is the pods of one owner: by node number, how many of them are there.
type family map[int32]int32

// family of an owner; nil for none, which has no pods anywhere.
func (p *placer) family(owner string) family {
	if owner == "" {
		return nil
	}
	f, known := p.families[owner]
	if !known {
		f = family{}
		p.families[owner] = f
	}
	return f
}

// occupy books the pod on the node.
func (p *placer) occupy(pod *corev1.Pod, r request, number int) {
	p.nodes[number].take(r)
	if f := p.family(ownerOf(pod)); f != nil {
		f[int32(number)]++
	}
}

// vacate takes the pod off the node again.
func (p *placer) vacate(pod *corev1.Pod, r request, number int) {
	p.nodes[number].release(r)
	if f := p.family(ownerOf(pod)); f != nil {
		f[int32(number)]--
	}
}
