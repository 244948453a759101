package scheduler

import "math"

// maxRankings bounds the memory for rankings; when pods are of more kinds, rankings are made again.
const maxRankings = 64

// ranking keeps the nodes that have room for one more pod of a class, in cells of nodes that are alike to it as far as
// other pods are concerned, each cell as a heap with the best node on top. A class without company has one cell.
type ranking struct {
	placer   *placer
	class    *class
	lasting  []float64 // by node number: the part of the score that no placement changes; NaN where the node is out of question
	cells    []cell
	cellOf   []int32 // by node number; nil when there is one cell
	position []int32 // by node number: its place in its cell's heap, -1 when it is not in it
	seen     int     // how much of placer.touched is worked into the heaps
	surveys  int
	open     []*cell // kept for the next survey
}

type cell struct {
	heap []rank
	// As of the last survey:
	crowding, liking float64
}

type rank struct {
	total  float64
	number int32
}

// pick is a node with what the class's company adds to its score.
type pick struct {
	number, feasible int
	spread, company  float64
}

// rank returns the class's ranking as of now.
func (p *placer) rank(c *class) *ranking {
	if c.ranking == nil {
		if len(p.ranked) >= maxRankings {
			for _, other := range p.ranked {
				p.spare = append(p.spare, other.ranking)
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
	r := p.blank()
	r.class, r.seen, r.lasting = c, len(p.touched), p.standing(c)
	r.divide()
	for i, n := range p.nodes {
		r.position[i] = -1
		if math.IsNaN(r.lasting[i]) || !n.fits(&c.request) {
			continue
		}
		h := r.cell(i)
		r.position[i] = int32(len(h.heap))
		h.heap = append(h.heap, rank{r.lasting[i] + n.room(c), int32(i)})
	}
	for number, pods := range c.family { // the few where something else than room counts
		if at := r.position[number]; at >= 0 && pods > 0 {
			r.cell(int(number)).heap[at].total = r.total(int(number))
		}
	}
	for i := range r.cells {
		h := &r.cells[i]
		for at := len(h.heap)/2 - 1; at >= 0; at-- {
			r.down(h, at)
		}
	}
	return r
}

// blank is a ranking with memory for all nodes, of one that is not needed any more if there is such.
func (p *placer) blank() *ranking {
	if last := len(p.spare) - 1; last >= 0 {
		r := p.spare[last]
		p.spare = p.spare[:last]
		return r
	}
	return &ranking{placer: p, position: make([]int32, len(p.nodes))}
}

// divide makes the cells: nodes that are in the same domain of every topology that matters to the class.
func (r *ranking) divide() {
	company := r.class.company
	if company == nil {
		if len(r.cells) != 1 {
			r.cells = []cell{{heap: make([]rank, 0, len(r.placer.nodes))}}
		}
		r.cells[0].heap, r.cellOf = r.cells[0].heap[:0], nil
		return
	}
	r.cellOf = make([]int32, len(r.placer.nodes)) // all in cell 0, which each topology divides further
	count := int32(1)
	for _, t := range company.topologies {
		known := map[[2]int32]int32{}
		for number := range r.cellOf {
			key := [2]int32{r.cellOf[number], t.domain[number]}
			part, has := known[key]
			if !has {
				part = int32(len(known))
				known[key] = part
			}
			r.cellOf[number] = part
		}
		count = int32(len(known))
	}
	r.cells = make([]cell, count)
}

func (r *ranking) cell(number int) *cell {
	if r.cellOf == nil {
		return &r.cells[0]
	}
	return &r.cells[r.cellOf[number]]
}

func (r *ranking) total(number int) float64 {
	total := r.lasting[number] + r.placer.nodes[number].room(r.class)
	if pods := r.class.family[int32(number)]; pods > 0 && r.class.spreads() {
		total -= weightSpread * 100 * (1 - 1/float64(1+pods))
	}
	return total
}

// best is the best node, preferably the one that was promised to the pod (-1 for none); false when none can take it.
func (r *ranking) best(promised int) (pick, bool) {
	open, feasible := r.survey()
	if feasible == 0 {
		return pick{}, false
	}
	var crowding, liking span
	company := r.class.company
	scored := company != nil && company.scores()
	if scored {
		crowding, liking = spanOf(open, func(c *cell) float64 { return c.crowding }), spanOf(open, func(c *cell) float64 { return c.liking })
	}
	var best pick
	var top rank
	for i, c := range open {
		one := pick{int(c.heap[0].number), feasible, 0, 0}
		if scored {
			one.spread, one.company = company.spreadScore(c.crowding, crowding), liking.share(c.liking)
		}
		if promised >= 0 && r.position[promised] >= 0 && r.cell(promised) == c {
			one.number = promised
			return one, true
		}
		mine := rank{c.heap[0].total + weightSpread*one.spread + weightCompany*one.company, c.heap[0].number}
		if i == 0 || r.better(mine, top) {
			best, top = one, mine
		}
	}
	return best, true
}

// survey finds the cells that have nodes for the pod now, and how many nodes these are.
func (r *ranking) survey() (open []*cell, feasible int) {
	r.open = r.open[:0]
	company := r.class.company
	for i := range r.cells {
		c := &r.cells[i]
		if len(c.heap) == 0 {
			continue
		}
		if company != nil {
			if reason, _ := company.refuse(int(c.heap[0].number)); reason != "" {
				continue
			}
		}
		r.open = append(r.open, c)
		feasible += len(c.heap)
	}
	if company != nil && company.scores() {
		r.surveys++
		company.weigh(r.open, r.surveys)
		for _, c := range r.open {
			c.crowding, c.liking = company.crowding(int(c.heap[0].number)), company.liking(int(c.heap[0].number))
		}
	}
	return r.open, feasible
}

// span is the least and the largest of what nodes have; NaN does not count.
type span struct{ least, most float64 }

func spanOf(open []*cell, of func(*cell) float64) span {
	s := span{math.Inf(1), math.Inf(-1)}
	for _, c := range open {
		if v := of(c); !math.IsNaN(v) {
			s.least, s.most = min(s.least, v), max(s.most, v)
		}
	}
	return s
}

// share is where v lies in the span, between 0 and 100; 0 when all are alike.
func (s span) share(v float64) float64 {
	if s.most <= s.least {
		return 0
	}
	return 100 * (v - s.least) / (s.most - s.least)
}

// spreadScore is upstream's: 100 for the emptiest domains, and nothing for nodes without the labels.
func (o *company) spreadScore(crowding float64, s span) float64 {
	switch {
	case len(o.soft) == 0 || math.IsNaN(crowding):
		return 0
	case s.most <= 0:
		return 100
	}
	return 100 * (s.most + s.least - crowding) / s.most
}

// catchUp ranks again the nodes that changed since the class was last asked.
func (r *ranking) catchUp() {
	for ; r.seen < len(r.placer.touched); r.seen++ {
		number := r.placer.touched[r.seen]
		if math.IsNaN(r.lasting[number]) {
			continue
		}
		c, at, fits := r.cell(number), int(r.position[number]), r.placer.nodes[number].fits(&r.class.request)
		switch {
		case fits && at < 0:
			r.position[number] = int32(len(c.heap))
			c.heap = append(c.heap, rank{r.total(number), int32(number)})
			r.up(c, len(c.heap)-1)
		case fits:
			c.heap[at].total = r.total(number)
			r.fix(c, at)
		case at >= 0:
			r.drop(c, at)
		}
	}
}

func (r *ranking) drop(c *cell, at int) {
	last := len(c.heap) - 1
	r.position[c.heap[at].number] = -1
	if at != last {
		c.heap[at] = c.heap[last]
		r.position[c.heap[at].number] = int32(at)
	}
	c.heap = c.heap[:last]
	if at < last {
		r.fix(c, at)
	}
}

// better orders nodes: the better score, at a tie the emptier node, then the first by name.
func (r *ranking) better(a, b rank) bool {
	if a.total != b.total {
		return a.total > b.total
	}
	if x, y := r.placer.nodes[a.number].count, r.placer.nodes[b.number].count; x != y {
		return x < y
	}
	return a.number < b.number
}

func (r *ranking) fix(c *cell, at int) {
	if !r.down(c, at) {
		r.up(c, at)
	}
}

func (r *ranking) up(c *cell, i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !r.better(c.heap[i], c.heap[parent]) {
			return
		}
		r.swap(c, i, parent)
		i = parent
	}
}

func (r *ranking) down(c *cell, i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(c.heap) {
			break
		}
		if right := child + 1; right < len(c.heap) && r.better(c.heap[right], c.heap[child]) {
			child = right
		}
		if !r.better(c.heap[child], c.heap[i]) {
			break
		}
		r.swap(c, i, child)
		i = child
	}
	return i > start
}

func (r *ranking) swap(c *cell, i, j int) {
	c.heap[i], c.heap[j] = c.heap[j], c.heap[i]
	r.position[c.heap[i].number], r.position[c.heap[j].number] = int32(i), int32(j)
}
