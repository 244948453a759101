package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Reasons about other pods, as kube-scheduler words them.
const (
	reasonSpread       = "node(s) didn't match pod topology spread constraints"
	reasonSpreadLabel  = reasonSpread + " (missing required label)"
	reasonNotNear      = "node(s) didn't match pod affinity rules"
	reasonNotApart     = "node(s) didn't match pod anti-affinity rules"
	reasonNotWelcome   = "node(s) didn't satisfy existing pods anti-affinity rules"
	spreadWeightOffset = 2 // the logarithm of the number of domains plus this weighs a constraint, as upstream
)

// company is what a class wants of the pods that run beside it, and what those want of it. A class that nobody cares
// about has none.
type company struct {
	hard, soft []spreading
	near       []*tally // of pods that match all terms of required affinity, by each term's topology
	first      bool     // the class's pods match those terms themselves
	apart      []*tally
	unwelcome  []*claim // of running pods that do not want the class near
	liked      []liking
	wishes     []*claim

	topologies []*topology // all of the above's: nodes of the same domains are alike to the class
}

// spreading is a topology spread constraint with its count.
type spreading struct {
	*tally
	rule spreadRule
	self int32   // one when the class's pods are counted themselves
	none bool    // it selects everything, which counts as nothing
	log  float64 // of a soft one: its weight among the nodes that are open now
	seen []int   // of a soft one: by domain, in which survey it was last seen
}

// liking is a preference with its count.
type liking struct {
	*tally
	weight int64
}

// company is nil for a class that nobody cares about and that cares about nobody.
func (s *society) company(c *class) *company {
	m := s.member(c.pod)
	claims := s.claimsOn(m.crowd)
	if m.rules == nil && len(claims) == 0 {
		return nil
	}
	out := &company{}
	if m.rules != nil {
		s.addSpread(out, c, m)
		s.addAffinity(out, m)
	}
	for _, one := range claims {
		if one.forbids {
			out.unwelcome = append(out.unwelcome, one)
		} else {
			out.wishes = append(out.wishes, one)
		}
		out.look(one.topology)
	}
	return out
}

func (o *company) look(t *topology) {
	if !slices.Contains(o.topologies, t) {
		o.topologies = append(o.topologies, t)
	}
}

func (s *society) addAffinity(o *company, m member) {
	all := make([]chooser, 0, len(m.rules.attracts))
	for _, t := range m.rules.attracts {
		all = append(all, t.chooser)
	}
	for _, t := range m.rules.attracts {
		o.near = append(o.near, s.tally(t.topology, false, all...))
		o.look(t.topology)
	}
	o.first = m.rules.attractsItself(s, m.crowd)
	for _, t := range m.rules.repels {
		o.apart = append(o.apart, s.tally(t.topology, true, t.chooser))
		o.look(t.topology)
	}
	for _, p := range m.rules.preferred {
		o.liked = append(o.liked, liking{s.tally(p.topology, false, p.chooser), p.weight})
		o.look(p.topology)
	}
}

func (s *society) addSpread(o *company, c *class, m member) {
	for _, r := range m.rules.spread {
		t := s.count(tally{choosers: []chooser{r.chooser}, topology: r.topology, staying: true, eligible: s.eligible(c, m.rules, r)})
		one := spreading{tally: t, rule: r, none: r.chooser.pods.Empty()}
		if r.chooser.pods.Matches(m.crowd.labels) {
			one.self = 1
		}
		if r.hard {
			o.hard = append(o.hard, one)
		} else {
			one.seen = make([]int, r.topology.size)
			o.soft = append(o.soft, one)
		}
		o.look(r.topology)
	}
}

// eligible are the nodes whose pods a constraint counts: they have the labels of all constraints of its sort, and are
// within the pod's reach as far as the constraint says.
func (s *society) eligible(c *class, all *rules, r spreadRule) []bool {
	out := make([]bool, len(s.nodes))
	for i, n := range s.nodes {
		out[i] = labelled(all, r.hard, i) && (!r.affinity || c.needs.attracted(n)) && (!r.taints || !c.needs.repelled(n))
	}
	return out
}

func labelled(all *rules, hard bool, number int) bool {
	for i := range all.spread {
		if all.spread[i].hard == hard && all.spread[i].topology.domain[number] < 0 {
			return false
		}
	}
	return true
}

// refuse returns why the node is out of question because of the pods beside it, empty when it is not. Final means that
// no pod's leaving would help.
func (o *company) refuse(number int) (reason string, final bool) {
	for i := range o.hard {
		if reason, final := o.hard[i].refuse(number); reason != "" {
			return reason, final
		}
	}
	switch {
	case !o.isNear(number):
		return reasonNotNear, true
	case !o.isApart(number):
		return reasonNotApart, false
	case !o.isWelcome(number):
		return reasonNotWelcome, false
	}
	return "", false
}

func (s *spreading) refuse(number int) (reason string, final bool) {
	if s.topology.domain[number] < 0 {
		return reasonSpreadLabel, true
	}
	var least int32
	if s.opened >= s.rule.minDomains {
		least = s.minimum()
	}
	if s.matching(number)+s.self-s.floor(least) > s.rule.maxSkew {
		return reasonSpread, false
	}
	return "", false
}

func (s *spreading) matching(number int) int32 { return s.floor(s.at(number)) }

// floor is nothing for a constraint that selects everything.
func (s *spreading) floor(n int32) int32 {
	if s.none {
		return 0
	}
	return n
}

func (o *company) isNear(number int) bool {
	var anywhere int32
	missing := false
	for _, t := range o.near {
		if t.topology.domain[number] < 0 {
			return false
		}
		anywhere += t.total
		missing = missing || t.at(number) == 0
	}
	return !missing || anywhere == 0 && o.first
}

func (o *company) isApart(number int) bool {
	for _, t := range o.apart {
		if t.topology.domain[number] >= 0 && t.at(number) > 0 {
			return false
		}
	}
	return true
}

func (o *company) isWelcome(number int) bool {
	for _, one := range o.unwelcome {
		if d := one.topology.domain[number]; d >= 0 && one.sums[d] > 0 {
			return false
		}
	}
	return true
}

// scores reports whether nodes differ in worth, beside being allowed or not.
func (o *company) scores() bool { return len(o.soft)+len(o.liked)+len(o.wishes) > 0 }

// crowding is how full the node's domains are for the soft constraints; NaN when the node lacks a label.
func (o *company) crowding(number int) float64 {
	var sum float64
	for i := range o.soft {
		s := &o.soft[i]
		if s.topology.domain[number] < 0 {
			return math.NaN()
		}
		sum += float64(s.matching(number))*s.log + float64(s.rule.maxSkew-1)
	}
	return sum
}

// liking is how much the class and the pods of the node's domains like each other.
func (o *company) liking(number int) float64 {
	var sum int64
	for _, l := range o.liked {
		if l.topology.domain[number] >= 0 {
			sum += l.weight * int64(l.at(number))
		}
	}
	for _, one := range o.wishes {
		if d := one.topology.domain[number]; d >= 0 {
			sum += one.sums[d]
		}
	}
	return float64(sum)
}

// weigh sets the weights of the soft constraints by the number of domains among the nodes that can take the pod. Survey
// is another number at every call.
func (o *company) weigh(open []*cell, survey int) {
	for i := range o.soft {
		s := &o.soft[i]
		size := 0
		for _, c := range open {
			number := int(c.heap[0].number)
			d := s.topology.domain[number]
			switch {
			case math.IsNaN(o.crowding(number)):
			case s.topology.key == corev1.LabelHostname:
				size += len(c.heap)
			case s.seen[d] != survey:
				s.seen[d] = survey
				size++
			}
		}
		s.log = math.Log(float64(size + spreadWeightOffset))
	}
}
