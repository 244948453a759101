package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// maxRankings bounds the memory for rankings; when pods are of more kinds, rankings are made again.
const maxRankings = 64

// class is the pods that see every node alike: one owner, one request, the same needs.
type class struct {
	pod     *corev1.Pod // one of them
	owner   string
	request request
	needs   needs
	images  []string

	ranking *ranking // nil when it has to be made again
	refusal string   // why no node takes them, empty until it is asked for
}

// ranking keeps the nodes that can take one more pod of a class as a heap, the best on top. In one call of Place nodes
// only fill up, so a node that is out stays out.
type ranking struct {
	placer   *placer
	class    *class
	lasting  []float64 // by node number: the part of the score that no placement changes
	heap     []rank
	position []int32 // by node number: its place in heap, -1 when it is out
	seen     int     // how much of placer.touched is worked into heap
}

type rank struct {
	total  float64
	number int32
}

func (p *placer) class(pod *corev1.Pod) *class {
	r := requestOf(pod)
	key := classKey(pod, &r)
	c, known := p.classes[key]
	if !known {
		c = &class{pod: pod, owner: ownerOf(pod), request: r, needs: needsOf(pod), images: imagesOf(pod)}
		p.classes[key] = c
	}
	return c
}

// rank returns the class's ranking as of now.
func (p *placer) rank(c *class) *ranking {
	if c.ranking == nil {
		if len(p.ranked) >= maxRankings {
			for _, other := range p.ranked {
				other.ranking = nil
			}
			p.ranked = p.ranked[:0]
		}
		c.ranking = p.newRanking(c)
		p.ranked = append(p.ranked, c)
	}
	c.ranking.catchUp()
	return c.ranking
}

func (p *placer) newRanking(c *class) *ranking {
	r := &ranking{
		placer: p, class: c, seen: len(p.touched),
		lasting: make([]float64, len(p.nodes)), position: make([]int32, len(p.nodes)), heap: make([]rank, 0, len(p.nodes)),
	}
	for i, n := range p.nodes {
		r.position[i] = -1
		if !n.fits(&c.request) || c.needs.refuse(n) != "" {
			continue
		}
		r.lasting[i] = p.lasting(c, n).total()
		r.position[i] = int32(len(r.heap))
		r.heap = append(r.heap, rank{r.total(i), int32(i)})
	}
	for i := len(r.heap)/2 - 1; i >= 0; i-- {
		r.down(i)
	}
	return r
}

func (r *ranking) total(number int) float64 {
	return r.lasting[number] + r.placer.nodes[number].present(r.class).total()
}

// best is the number of the best node; false when none can take the pod.
func (r *ranking) best() (int, bool) {
	if len(r.heap) == 0 {
		return 0, false
	}
	return int(r.heap[0].number), true
}

// catchUp ranks again the nodes that took pods since the class was last asked.
func (r *ranking) catchUp() {
	for ; r.seen < len(r.placer.touched); r.seen++ {
		number := r.placer.touched[r.seen]
		at := int(r.position[number])
		if at < 0 {
			continue
		}
		if !r.placer.nodes[number].fits(&r.class.request) {
			r.drop(at)
			continue
		}
		r.heap[at].total = r.total(number)
		r.fix(at)
	}
}

func (r *ranking) drop(at int) {
	last := len(r.heap) - 1
	r.position[r.heap[at].number] = -1
	if at != last {
		r.heap[at] = r.heap[last]
		r.position[r.heap[at].number] = int32(at)
	}
	r.heap = r.heap[:last]
	if at < last {
		r.fix(at)
	}
}

// above orders the heap: the better score, at a tie the emptier node, then the first by name.
func (r *ranking) above(i, j int) bool {
	a, b := r.heap[i], r.heap[j]
	if a.total != b.total {
		return a.total > b.total
	}
	if x, y := r.placer.nodes[a.number].count, r.placer.nodes[b.number].count; x != y {
		return x < y
	}
	return a.number < b.number
}

func (r *ranking) fix(at int) {
	if !r.down(at) {
		r.up(at)
	}
}

func (r *ranking) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !r.above(i, parent) {
			return
		}
		r.swap(i, parent)
		i = parent
	}
}

func (r *ranking) down(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(r.heap) {
			break
		}
		if right := child + 1; right < len(r.heap) && r.above(right, child) {
			child = right
		}
		if !r.above(child, i) {
			break
		}
		r.swap(i, child)
		i = child
	}
	return i > start
}

func (r *ranking) swap(i, j int) {
	r.heap[i], r.heap[j] = r.heap[j], r.heap[i]
	r.position[r.heap[i].number], r.position[r.heap[j].number] = int32(i), int32(j)
}

// classKey holds all that filters and scores look at.
func classKey(pod *corev1.Pod, r *request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%d,%d,%d,%d,%d", ownerOf(pod), r.cpu, r.memory, r.storage, r.scoreCPU, r.scoreMemory)
	if policy := pod.Spec.PreemptionPolicy; policy != nil {
		b.WriteString("|" + string(*policy)) // it is part of the refusal
	}
	for _, name := range r.names() {
		fmt.Fprintf(&b, "|%s=%d", name, r.named[name])
	}
	for _, p := range r.ports {
		fmt.Fprintf(&b, "|%s:%s:%d", p.protocol, p.address, p.number)
	}
	for _, k := range slices.Sorted(maps.Keys(pod.Spec.NodeSelector)) {
		fmt.Fprintf(&b, "|%s=%s", k, pod.Spec.NodeSelector[k])
	}
	for _, t := range pod.Spec.Tolerations {
		fmt.Fprintf(&b, "|%s %s %s %s", t.Key, t.Operator, t.Value, t.Effect)
	}
	for _, image := range imagesOf(pod) {
		b.WriteString("|" + image)
	}
	if pod.Spec.Affinity != nil && pod.Spec.Affinity.NodeAffinity != nil {
		raw, err := json.Marshal(pod.Spec.Affinity.NodeAffinity)
		if err != nil {
			panic(fmt.Sprintf("node affinity of pod %s/%s: %v", pod.Namespace, pod.Name, err)) // plain data always marshals
		}
		b.Write(raw)
	}
	return b.String()
}
