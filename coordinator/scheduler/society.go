package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// society knows which pods run beside which, for rules that pods have about each other: pod affinity, pod anti-affinity
// and topology spread. A placer has none where no pod has such rules, so that other fleets pay nothing for them.
type society struct {
	nodes      []*node
	namespaces map[string]labels.Set
	topologies map[string]*topology
	rules      map[string]*rules // by their text
	members    map[*corev1.Pod]member
	crowds     map[string]*crowd
	tallies    register[*tally]
	shared     map[string]*tally // those that do not depend on who asks, by what they count
	claims     register[*claim]
	claimed    int // how many claims there are
}

// member is what the society knows of a pod.
type member struct {
	crowd *crowd
	rules *rules // nil when it has none
}

// topology divides the nodes by the value of one label.
type topology struct {
	key    string
	domain []int32 // by node number; -1 for a node without the label
	size   int32   // how many domains there are
}

// crowd is the pods of one namespace that have the same labels, and by node number how many of them run there.
type crowd struct {
	namespace string
	labels    labels.Set
	leaving   bool // they are being deleted
	on        map[int32]int32
	booked    map[int32]int32 // those that will run there when victims of preemption have gone

	tallies []*tally // that count them
	claims  []*claim // that are about them, by number
	known   int      // how many claims were looked at for that
}

// claim is one rule of pods that run, about pods that come: by domain, how many such pods run there, times its weight.
type claim struct {
	number   int
	chooser  chooser
	topology *topology
	forbids  bool // it is required anti-affinity; otherwise a preference
	weight   int64
	sums     []int64
}

func newSociety(nodes []*node, in *Input) *society {
	if !slices.ContainsFunc(in.Bound, hasRules) && !slices.ContainsFunc(in.Pending, hasRules) {
		return nil
	}
	s := &society{
		nodes: nodes, namespaces: make(map[string]labels.Set, len(in.Namespaces)), topologies: map[string]*topology{},
		rules: map[string]*rules{}, members: make(map[*corev1.Pod]member, len(in.Bound)+len(in.Pending)),
		crowds: map[string]*crowd{}, shared: map[string]*tally{},
	}
	for _, ns := range in.Namespaces {
		s.namespaces[ns.Name] = ns.Labels
	}
	for _, pod := range in.Pending { // whose claims must be known before the first class is made
		s.member(pod)
	}
	return s
}

func hasRules(pod *corev1.Pod) bool {
	a := pod.Spec.Affinity
	return len(pod.Spec.TopologySpreadConstraints) > 0 || a != nil && (a.PodAffinity != nil || a.PodAntiAffinity != nil)
}

func (s *society) member(pod *corev1.Pod) member {
	m, known := s.members[pod]
	if !known {
		m = member{crowd: s.crowd(pod)}
		if hasRules(pod) {
			m.rules = s.rulesOf(pod)
		}
		s.members[pod] = m
	}
	return m
}

func (s *society) crowd(pod *corev1.Pod) *crowd {
	key := crowdKey(pod)
	c, known := s.crowds[key]
	if known {
		return c
	}
	c = &crowd{
		namespace: pod.Namespace, labels: pod.Labels, leaving: pod.DeletionTimestamp != nil,
		on: map[int32]int32{}, booked: map[int32]int32{},
	}
	s.tallies.each(c.labels, func(t *tally) {
		if t.concerns(s, c) {
			c.tallies = append(c.tallies, t)
		}
	})
	s.crowds[key] = c
	return c
}

func crowdKey(pod *corev1.Pod) string {
	keys := make([]string, 0, len(pod.Labels))
	for k := range pod.Labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b := make([]byte, 0, 128)
	if pod.DeletionTimestamp != nil {
		b = append(b, '-')
	}
	b = append(b, pod.Namespace...)
	for _, k := range keys {
		b = append(b, '|')
		b = append(b, k...)
		b = append(b, '=')
		b = append(b, pod.Labels[k]...)
	}
	return string(b)
}

// claimsOn are the claims that are about the crowd.
func (s *society) claimsOn(c *crowd) []*claim {
	if c.known == s.claimed {
		return c.claims
	}
	c.claims, c.known = nil, s.claimed
	s.claims.each(c.labels, func(one *claim) {
		if one.chooser.matches(s, c.namespace, c.labels) {
			c.claims = append(c.claims, one)
		}
	})
	slices.SortFunc(c.claims, func(a, b *claim) int { return a.number - b.number })
	return c.claims
}

// join counts the pod in on a node, or out with -1.
func (s *society) join(pod *corev1.Pod, number int, by int32) {
	if s == nil {
		return
	}
	m, at := s.member(pod), int32(number)
	if m.crowd.on[at] += by; m.crowd.on[at] == 0 {
		delete(m.crowd.on, at)
	}
	for _, t := range m.crowd.tallies {
		t.add(at, by)
	}
	s.assert(m, at, by)
}

// book is join for a pod that waits for others to go: it keeps away those who may not run beside it, but nobody may
// count on it yet.
func (s *society) book(pod *corev1.Pod, number int, by int32) {
	if s == nil {
		return
	}
	m, at := s.member(pod), int32(number)
	m.crowd.booked[at] += by
	for _, t := range m.crowd.tallies {
		if t.wary {
			t.add(at, by)
		}
	}
	s.assert(m, at, by)
}

// assert makes the pod's claims, or withdraws them with -1.
func (s *society) assert(m member, at, by int32) {
	if m.rules == nil {
		return
	}
	for _, one := range m.rules.claims {
		if d := one.topology.domain[at]; d >= 0 {
			one.sums[d] += int64(by) * one.weight
		}
	}
}

func (s *society) topology(key string) *topology {
	t, known := s.topologies[key]
	if known {
		return t
	}
	t = &topology{key: key, domain: make([]int32, len(s.nodes))}
	numbers := map[string]int32{}
	for i, n := range s.nodes {
		value, has := n.Labels[key]
		if !has {
			t.domain[i] = -1
			continue
		}
		number, seen := numbers[value]
		if !seen {
			number = t.size
			numbers[value] = number
			t.size++
		}
		t.domain[i] = number
	}
	s.topologies[key] = t
	return t
}
