package scheduler

import (
	"fmt"
	"math"
)

// tally counts pods by the domain of a topology in which they run: those that all of its choosers choose.
type tally struct {
	choosers []chooser
	topology *topology
	staying  bool   // pods that are being deleted do not count
	wary     bool   // booked pods count too
	eligible []bool // by node number: where pods count; nil for everywhere

	counts []int32 // by domain
	total  int32

	// Of a tally with eligible:
	open   []bool // the domains that have an eligible node
	opened int32  // how many
	least  int32  // of the counts of open domains
	stale  bool   // least has to be looked up again
}

func (t *tally) concerns(s *society, c *crowd) bool {
	if t.staying && c.leaving {
		return false
	}
	for i := range t.choosers {
		if !t.choosers[i].matches(s, c.namespace, c.labels) {
			return false
		}
	}
	return true
}

func (t *tally) add(at, by int32) {
	d := t.topology.domain[at]
	if d < 0 || t.eligible != nil && !t.eligible[at] {
		return
	}
	t.counts[d] += by
	t.total += by
	t.stale = true
}

// at is the count in a node's domain; the node must have one.
func (t *tally) at(number int) int32 { return t.counts[t.topology.domain[number]] }

// minimum is the count of the emptiest open domain.
func (t *tally) minimum() int32 {
	if t.stale {
		t.least, t.stale = math.MaxInt32, false
		for d, open := range t.open {
			if open {
				t.least = min(t.least, t.counts[d])
			}
		}
	}
	return t.least
}

// count starts a tally with the pods that are there.
func (s *society) count(t tally) *tally {
	t.counts = make([]int32, t.topology.size)
	if t.eligible != nil {
		t.open, t.stale = make([]bool, t.topology.size), true
		for number, ok := range t.eligible {
			if d := t.topology.domain[number]; ok && !t.open[d] {
				t.open[d] = true
				t.opened++
			}
		}
	}
	out := &t
	s.tallies.add(&t.choosers[0], out)
	for _, c := range s.crowds {
		if out.concerns(s, c) {
			c.tallies = append(c.tallies, out)
			out.start(c)
		}
	}
	return out
}

func (t *tally) start(c *crowd) {
	for at, n := range c.on {
		t.add(at, n)
	}
	if t.wary {
		for at, n := range c.booked {
			t.add(at, n)
		}
	}
}

func texts(choosers []chooser) []string {
	out := make([]string, len(choosers))
	for i := range choosers {
		out[i] = choosers[i].String()
	}
	return out
}

// tally shares the count of pods that all choosers choose among the classes that ask for it.
func (s *society) tally(topology *topology, wary bool, choosers ...chooser) *tally {
	key := fmt.Sprintf("%s %t %v", topology.key, wary, texts(choosers))
	t := s.shared[key]
	if t == nil {
		t = s.count(tally{choosers: choosers, topology: topology, wary: wary})
		s.shared[key] = t
	}
	return t
}
