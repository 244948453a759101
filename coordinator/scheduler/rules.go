package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// rules are what a pod's spec says about other pods. Pods that say the same share them.
type rules struct {
	number    int
	spread    []spreadRule
	attracts  []term // required affinity
	repels    []term // required anti-affinity
	preferred []preference
	claims    []*claim // what the same terms mean for pods that come later
}

// term is one required rule about pods in the same domain.
type term struct {
	chooser  chooser
	topology *topology
}

// preference is a term with its weight, negative for anti-affinity.
type preference struct {
	term
	weight int64
}

// spreadRule is one topology spread constraint.
type spreadRule struct {
	term
	hard       bool
	maxSkew    int32
	minDomains int32
	affinity   bool // nodes that the pod's own node affinity excludes do not count
	taints     bool // nodes whose taints the pod does not tolerate do not count
}

// hardAffinityWeight is what a running pod's required affinity to a coming one is worth to its score, as upstream.
const hardAffinityWeight = 1

func (s *society) rulesOf(pod *corev1.Pod) *rules {
	text := rulesText(pod)
	r, known := s.rules[text]
	if known {
		return r
	}
	r = &rules{number: len(s.rules)}
	s.rules[text] = r
	for i := range pod.Spec.TopologySpreadConstraints {
		r.spread = append(r.spread, s.spreadRule(pod, &pod.Spec.TopologySpreadConstraints[i]))
	}
	if a := pod.Spec.Affinity; a != nil {
		s.readAffinity(r, pod, a.PodAffinity)
		s.readAntiAffinity(r, pod, a.PodAntiAffinity)
	}
	return r
}

// rulesText is equal for pods whose rules are.
func rulesText(pod *corev1.Pod) string {
	of := struct {
		Namespace string
		Spread    []corev1.TopologySpreadConstraint
		Affinity  *corev1.PodAffinity
		Anti      *corev1.PodAntiAffinity
		Own       map[string]string
	}{Namespace: pod.Namespace, Spread: pod.Spec.TopologySpreadConstraints, Own: map[string]string{}}
	note := func(keys []string) {
		for _, k := range keys {
			if v, has := pod.Labels[k]; has {
				of.Own[k] = v
			}
		}
	}
	for _, c := range of.Spread {
		note(c.MatchLabelKeys)
	}
	if a := pod.Spec.Affinity; a != nil {
		of.Affinity, of.Anti = a.PodAffinity, a.PodAntiAffinity
	}
	for _, t := range podTerms(pod) {
		note(t.MatchLabelKeys)
		note(t.MismatchLabelKeys)
	}
	raw, err := json.Marshal(of)
	if err != nil {
		panic(fmt.Sprintf("rules of pod %s/%s: %v", pod.Namespace, pod.Name, err)) // plain data always marshals
	}
	return string(raw)
}

// podTerms are all terms about other pods in the pod's affinity.
func podTerms(pod *corev1.Pod) []corev1.PodAffinityTerm {
	var terms []corev1.PodAffinityTerm
	a := pod.Spec.Affinity
	if a == nil {
		return nil
	}
	if a.PodAffinity != nil {
		terms = append(terms, a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, p := range a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, p.PodAffinityTerm)
		}
	}
	if a.PodAntiAffinity != nil {
		terms = append(terms, a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution...)
		for _, p := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			terms = append(terms, p.PodAffinityTerm)
		}
	}
	return terms
}

func (s *society) readAffinity(r *rules, pod *corev1.Pod, a *corev1.PodAffinity) {
	if a == nil {
		return
	}
	for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
		t := s.term(pod, &a.RequiredDuringSchedulingIgnoredDuringExecution[i])
		r.attracts = append(r.attracts, t)
		s.claim(r, t, false, hardAffinityWeight)
	}
	s.readPreferred(r, pod, a.PreferredDuringSchedulingIgnoredDuringExecution, 1)
}

func (s *society) readAntiAffinity(r *rules, pod *corev1.Pod, a *corev1.PodAntiAffinity) {
	if a == nil {
		return
	}
	for i := range a.RequiredDuringSchedulingIgnoredDuringExecution {
		t := s.term(pod, &a.RequiredDuringSchedulingIgnoredDuringExecution[i])
		r.repels = append(r.repels, t)
		s.claim(r, t, true, 1)
	}
	s.readPreferred(r, pod, a.PreferredDuringSchedulingIgnoredDuringExecution, -1)
}

func (s *society) readPreferred(r *rules, pod *corev1.Pod, terms []corev1.WeightedPodAffinityTerm, sign int64) {
	for i := range terms {
		p := preference{s.term(pod, &terms[i].PodAffinityTerm), sign * int64(terms[i].Weight)}
		r.preferred = append(r.preferred, p)
		s.claim(r, p.term, false, p.weight)
	}
}

func (s *society) claim(r *rules, t term, forbids bool, weight int64) {
	one := &claim{number: s.claimed, chooser: t.chooser, topology: t.topology, forbids: forbids, weight: weight, sums: make([]int64, t.topology.size)}
	s.claimed++
	s.claims.add(&one.chooser, one)
	r.claims = append(r.claims, one)
}

func (s *society) term(pod *corev1.Pod, t *corev1.PodAffinityTerm) term {
	c := chooser{pods: selectorOf(t.LabelSelector, pod.Labels, t.MatchLabelKeys, t.MismatchLabelKeys), namespaces: selectorOf(t.NamespaceSelector, nil, nil, nil)}
	if c.names = slices.Sorted(slices.Values(t.Namespaces)); len(c.names) == 0 && t.NamespaceSelector == nil {
		c.names = []string{pod.Namespace}
	}
	return term{c, s.topology(t.TopologyKey)}
}

func (s *society) spreadRule(pod *corev1.Pod, c *corev1.TopologySpreadConstraint) spreadRule {
	r := spreadRule{
		term: term{
			chooser{[]string{pod.Namespace}, labels.Nothing(), selectorOf(c.LabelSelector, pod.Labels, c.MatchLabelKeys, nil)},
			s.topology(c.TopologyKey),
		},
		hard: c.WhenUnsatisfiable == corev1.DoNotSchedule, maxSkew: c.MaxSkew, minDomains: 1,
		affinity: c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor,
		taints:   c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
	}
	if c.MinDomains != nil {
		r.minDomains = *c.MinDomains
	}
	return r
}

// key adds to a class's key what the society says about the pod: its rules, which of them are about itself, and the
// claims that others have on it.
func (s *society) key(b []byte, pod *corev1.Pod) []byte {
	m := s.member(pod)
	if m.rules != nil {
		b = append(b, "|r"...)
		b = strconv.AppendInt(b, int64(m.rules.number), 10)
		for i := range m.rules.spread {
			b = strconv.AppendBool(b, m.rules.spread[i].chooser.pods.Matches(m.crowd.labels))
		}
		b = strconv.AppendBool(b, m.rules.attractsItself(s, m.crowd))
	}
	for _, one := range s.claimsOn(m.crowd) {
		b = append(b, "|c"...)
		b = strconv.AppendInt(b, int64(one.number), 10)
	}
	return b
}

// attractsItself reports whether the pod is one of those it wants to be near: then it may be the first of them.
func (r *rules) attractsItself(s *society, c *crowd) bool {
	for i := range r.attracts {
		if !r.attracts[i].chooser.matches(s, c.namespace, c.labels) {
			return false
		}
	}
	return len(r.attracts) > 0
}
