package scheduler

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Score is what a node was worth to a pod, each part between 0 and 100. Total weighs them as kube-scheduler's default
// profile does, so it lies between 0 and 1200.
type Score struct {
	Free     float64 // how much of CPU and memory stays free (least allocated)
	Balance  float64 // how evenly CPU and memory are used
	Spread   float64 // how few pods of the same owner run there, or what the pod's soft topology spread constraints say
	Affinity float64 // how much of the preferred node affinity matches
	Taints   float64 // how few PreferNoSchedule taints are not tolerated
	Image    float64 // how much of the images is there already
	Company  float64 // how much the pod and those of the node's domains prefer each other
	Total    float64
}

// Weights of the parts.
const (
	weightFree     = 1
	weightBalance  = 1
	weightSpread   = 2
	weightAffinity = 2
	weightTaints   = 3
	weightImage    = 1
	weightCompany  = 2
)

func (s Score) total() float64 {
	return weightFree*s.Free + weightBalance*s.Balance + weightSpread*s.Spread + weightAffinity*s.Affinity + weightTaints*s.Taints + weightImage*s.Image + weightCompany*s.Company
}

// Why is one sentence for people on why the pod is where it is.
func (d *Decision) Why() string {
	s := d.Score
	parts := []string{
		fmt.Sprintf("free %.0f", s.Free), fmt.Sprintf("balance %.0f", s.Balance), fmt.Sprintf("spread %.0f", s.Spread),
	}
	if s.Affinity > 0 {
		parts = append(parts, fmt.Sprintf("preferred affinity %.0f", s.Affinity))
	}
	if s.Taints < 100 {
		parts = append(parts, fmt.Sprintf("soft taints %.0f", s.Taints))
	}
	if s.Image > 0 {
		parts = append(parts, fmt.Sprintf("image present %.0f", s.Image))
	}
	if s.Company > 0 {
		parts = append(parts, fmt.Sprintf("preferred company %.0f", s.Company))
	}
	return fmt.Sprintf("%s: best of %d fitting nodes out of %d, score %.0f (%s)", d.Node, d.Feasible, d.Nodes, s.Total, strings.Join(parts, ", "))
}

// lasting is the part of a node's score for a class that no placement changes.
func (p *placer) lasting(c *class, n *node) Score {
	var s Score
	if c.needs.preferred != nil && c.needs.weight > 0 {
		s.Affinity = 100 * float64(c.needs.preferred.Score(n.Node)) / float64(c.needs.weight)
	}
	disliked := 0
	for i := range n.Spec.Taints {
		taint := &n.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(c.needs.tolerations, taint) {
			disliked++
		}
	}
	s.Taints = 100 / float64(1+disliked)
	s.Image = p.imageScore(c, n)
	return s
}

// Bounds of the image score, as upstream: below the lower one an image is not worth a thought, and the upper one is per
// container.
const (
	imageFloor   = 23 << 20
	imageCeiling = 1000 << 20
)

// imageScore weighs each image's bytes with the share of nodes that have it, so that one node does not attract every pod.
func (p *placer) imageScore(c *class, n *node) float64 {
	if len(n.images) == 0 {
		return 0
	}
	var sum float64
	for _, image := range c.images {
		if size, has := n.images[image]; has {
			sum += float64(size) * float64(p.images[image]) / float64(len(p.nodes))
		}
	}
	ceiling := float64(imageCeiling * len(c.images))
	return 100 * (min(max(sum, imageFloor), ceiling) - imageFloor) / (ceiling - imageFloor)
}

// normal is the image's name as nodes report it: with a tag.
func normal(image string) string {
	if strings.Contains(image, "@") || strings.LastIndex(image, ":") > strings.LastIndex(image, "/") {
		return image
	}
	return image + ":latest"
}

func imagesOf(pod *corev1.Pod) []string {
	images := make([]string, 0, len(pod.Spec.Containers)+len(pod.Spec.InitContainers))
	for i := range pod.Spec.InitContainers {
		images = append(images, normal(pod.Spec.InitContainers[i].Image))
	}
	for i := range pod.Spec.Containers {
		images = append(images, normal(pod.Spec.Containers[i].Image))
	}
	return images
}

// present is the part of the node's score for a class that depends on the pods that are there.
func (p *placer) present(c *class, number int) Score {
	cpu, memory := p.nodes[number].filling(c)
	s := Score{Free: 100 * (1 - (cpu+memory)/2), Balance: 100 * (1 - abs(cpu-memory)/2)}
	if c.spreads() {
		s.Spread = 100 / float64(1+c.family[int32(number)])
	}
	return s
}

// spreads reports whether pods of the class keep away from their owner's other pods: unless the pod says itself how it
// wants to be spread.
func (c *class) spreads() bool { return c.company == nil || len(c.company.soft) == 0 }

// filling is how much of the node's CPU and memory is in use with one more pod of the class.
func (n *node) filling(c *class) (cpu, memory float64) {
	return fraction(n.usedCPU+c.request.scoreCPU, n.allocatable.cpu), fraction(n.usedMemory+c.request.scoreMemory, n.allocatable.memory)
}

// room is the total of present where none of the owner's other pods is.
func (n *node) room(c *class) float64 {
	cpu, memory := n.filling(c)
	total := weightFree*100*(1-(cpu+memory)/2) + weightBalance*100*(1-abs(cpu-memory)/2)
	if c.spreads() {
		total += weightSpread * 100
	}
	return total
}

// score is the whole.
func (p *placer) score(c *class, at pick) Score {
	s, now := p.lasting(c, p.nodes[at.number]), p.present(c, at.number)
	s.Free, s.Balance, s.Spread, s.Company = now.Free, now.Balance, now.Spread+at.spread, at.company
	s.Total = s.total()
	return s
}

// fraction of a resource in use, 1 when there is none or more is used than there is.
func fraction(used, allocatable int64) float64 {
	if used >= allocatable {
		return 1
	}
	return float64(used) / float64(allocatable)
}

func abs(x float64) float64 {
	if x < 0 {
		return -x
	}
	return x
}
