package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// class is the pods that see every node alike: one owner, one request, the same needs.
type class struct {
	pod      *corev1.Pod // one of them
	family   family      // the pods of the same owner
	priority int32
	request  request
	needs    needs
	images   []string
	company  *company // nil when no pod's neighbours matter
	likeness string   // equal for classes to which nodes are worth the same before anything runs on them

	ranking  *ranking // nil when it has to be made again
	helpless int      // placer.released plus one as it was when no victims were found
	refusal  string   // why no node takes them, empty until it is asked for
	outlook  string   // what preemption could do about it
}

func (p *placer) class(pod *corev1.Pod) *class {
	r := requestOf(pod)
	p.key = p.classKey(p.key[:0], pod, &r)
	c, known := p.classes[string(p.key)]
	if !known {
		c = &class{pod: pod, family: p.family(ownerOf(pod)), priority: priority(pod), request: r, needs: needsOf(pod, p.storage.demand(pod)), images: imagesOf(pod)}
		c.likeness = p.likeness(c)
		if p.society != nil {
			c.company = p.society.company(c)
		}
		p.classes[string(p.key)] = c
	}
	return c
}

// classKey holds all that filters, scores and refusals look at.
func (p *placer) classKey(b []byte, pod *corev1.Pod, r *request) []byte {
	b = append(b, ownerOf(pod)...)
	for _, n := range []int64{int64(priority(pod)), r.cpu, r.memory, r.storage, r.scoreCPU, r.scoreMemory} {
		b = append(b, '|')
		b = strconv.AppendInt(b, n, 10)
	}
	if policy := pod.Spec.PreemptionPolicy; policy != nil && *policy != corev1.PreemptLowerPriority {
		b = append(append(b, '|'), *policy...)
	}
	for _, name := range r.names() {
		b = append(append(append(b, '|'), name...), '=')
		b = strconv.AppendInt(b, r.named[name], 10)
	}
	for _, p := range r.ports {
		b = fmt.Appendf(b, "|%s:%s:%d", p.protocol, p.address, p.number)
	}
	for i := range pod.Spec.InitContainers {
		b = append(append(b, '|'), pod.Spec.InitContainers[i].Image...)
	}
	for i := range pod.Spec.Containers {
		b = append(append(b, '|'), pod.Spec.Containers[i].Image...)
	}
	b = appendNeeds(b, pod)
	if p.society != nil {
		b = p.society.key(b, pod)
	}
	return b
}

// appendNeeds writes what needs are made of.
func appendNeeds(b []byte, pod *corev1.Pod) []byte {
	if len(pod.Spec.NodeSelector) > 0 {
		for _, k := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
			b = append(append(append(append(b, '|'), k...), '='), pod.Spec.NodeSelector[k]...)
		}
	}
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		b = append(append(append(append(b, '|'), t.Key...), ' '), t.Operator...)
		b = append(append(append(append(b, ' '), t.Value...), ' '), t.Effect...)
	}
	if pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil {
		raw, err := json.Marshal(pod.Spec.Affinity.NodeAffinity)
		if err != nil {
			panic(fmt.Sprintf("node affinity of pod %s/%s: %v", pod.Namespace, pod.Name, err)) // plain data always marshals
		}
		b = append(b, raw...)
	}
	if len(pod.Spec.Volumes) > 0 {
		for _, claim := range claimKeys(pod) {
			b = append(append(b, '|'), claim...)
		}
	}
	return b
}

// likeness leaves out images that no node has.
func (p *placer) likeness(c *class) string {
	b := appendNeeds(nil, c.pod)
	for _, image := range c.images {
		if p.images[image] > 0 {
			return string(fmt.Append(b, c.images))
		}
	}
	return string(b)
}

// standing is the part of every node's score that no placement changes, NaN where the node is out of question. Classes
// of one likeness share it.
func (p *placer) standing(c *class) []float64 {
	if known := p.standings[c.likeness]; known != nil {
		return known
	}
	if len(p.standings) >= maxRankings {
		clear(p.standings)
	}
	out := make([]float64, len(p.nodes))
	for i, n := range p.nodes {
		if c.needs.refuse(n) != "" {
			out[i] = math.NaN()
		} else {
			out[i] = p.lasting(c, n).total()
		}
	}
	p.standings[c.likeness] = out
	return out
}
