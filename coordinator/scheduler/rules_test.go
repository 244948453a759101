package scheduler_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/scheduler"
)

// social builds a fleet whose pods have rules about each other.
func social(seed uint64) scheduler.Input {
	r := rand.New(rand.NewPCG(seed, 5))
	in := scheduler.Input{Now: now, Namespaces: []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"team": "red"}}}, {ObjectMeta: metav1.ObjectMeta{Name: "other"}},
	}}
	for i := range 2 + r.IntN(8) {
		n := newNode(fmt.Sprintf("n%02d", i), "2", "8Gi", 12)
		for _, key := range []string{"zone", "rack"} {
			if r.IntN(8) > 0 {
				n.Labels[key] = fmt.Sprint(r.IntN(3))
			}
		}
		if r.IntN(6) == 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
		}
		in.Nodes = append(in.Nodes, n)
	}
	for i := range 5 + r.IntN(40) {
		app := fmt.Sprint(r.IntN(4))
		p := newPod(fmt.Sprintf("p%03d", i), "o"+app, "100m", "64Mi")
		p.Labels = map[string]string{"app": app, "hash": fmt.Sprint(r.IntN(2))}
		if r.IntN(4) == 0 {
			p.Namespace = "other"
		}
		rule(r, p)
		if r.IntN(4) == 0 {
			p.Spec.NodeName = in.Nodes[r.IntN(len(in.Nodes))].Name
			if r.IntN(5) == 0 {
				p.DeletionTimestamp = controllertest.Time(now)
			}
			in.Bound = append(in.Bound, p)
			continue
		}
		in.Pending = append(in.Pending, p)
	}
	return in
}

func rule(r *rand.Rand, p *corev1.Pod) {
	term := corev1.PodAffinityTerm{
		TopologyKey:   []string{corev1.LabelHostname, "zone", "rack"}[r.IntN(3)],
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprint(r.IntN(4))}},
	}
	switch r.IntN(4) {
	case 0:
		term.Namespaces = []string{"other"}
	case 1:
		term.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "red"}}
	}
	affinity := &corev1.Affinity{}
	switch r.IntN(9) {
	case 0:
		affinity.PodAffinity = &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}
	case 1, 2:
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}}
	case 3:
		affinity.PodAffinity = &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 30, PodAffinityTerm: term}}}
	case 4:
		affinity.PodAntiAffinity = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 30, PodAffinityTerm: term}}}
	case 5, 6, 7:
		spreadRule(r, p)
		return
	default:
		return
	}
	p.Spec.Affinity = affinity
}

func spreadRule(r *rand.Rand, p *corev1.Pod) {
	for range 1 + r.IntN(2) {
		c := corev1.TopologySpreadConstraint{
			MaxSkew: 1 + r.Int32N(2), TopologyKey: []string{corev1.LabelHostname, "zone", "rack"}[r.IntN(3)],
			WhenUnsatisfiable: []corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}[r.IntN(2)],
			LabelSelector:     &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Labels["app"]}},
		}
		if r.IntN(3) == 0 {
			c.MatchLabelKeys = []string{"hash"}
		}
		if honour := corev1.NodeInclusionPolicyHonor; r.IntN(3) == 0 {
			c.NodeTaintsPolicy = &honour
		}
		if domains := 1 + r.Int32N(4); c.WhenUnsatisfiable == corev1.DoNotSchedule && r.IntN(3) == 0 {
			c.MinDomains = &domains
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

// world is a plain reading of the documents: slow, and without any of the scheduler's code.
type world struct {
	nodes      map[string]*corev1.Node
	namespaces map[string]map[string]string
	pods       []*corev1.Pod
}

func newWorld(in scheduler.Input) *world {
	w := &world{nodes: map[string]*corev1.Node{}, namespaces: map[string]map[string]string{}, pods: slices.Clone(in.Bound)}
	for _, n := range in.Nodes {
		w.nodes[n.Name] = n
	}
	for _, ns := range in.Namespaces {
		w.namespaces[ns.Name] = ns.Labels
	}
	return w
}

func (w *world) put(p *corev1.Pod, node string) {
	p = p.DeepCopy()
	p.Spec.NodeName = node
	w.pods = append(w.pods, p)
}

// feasible are the names of the nodes that can take p, sorted.
func (w *world) feasible(p *corev1.Pod) []string {
	var names []string
	for name, n := range w.nodes {
		if tainted(n, p) || !w.roomy(n, p) || !w.spreads(n, p) || !w.near(n, p) || w.apartFromOthers(n, p) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func tainted(n *corev1.Node, p *corev1.Pod) bool {
	return len(n.Spec.Taints) > 0 && len(p.Spec.Tolerations) == 0
}

func (w *world) roomy(n *corev1.Node, p *corev1.Pod) bool {
	all := append(slices.Clone(w.pods), p.DeepCopy())
	all[len(all)-1].Spec.NodeName = n.Name
	for name, is := range used(all)[n.Name] {
		capacity := n.Status.Allocatable[name]
		if asked := used(all[len(all)-1:])[n.Name][name]; is.Cmp(capacity) > 0 && !asked.IsZero() {
			return false
		}
	}
	return true
}

// chosen reports whether a term of owner is about p.
func (w *world) chosen(t *corev1.PodAffinityTerm, owner, p *corev1.Pod) bool {
	in := slices.Contains(t.Namespaces, p.Namespace) || len(t.Namespaces) == 0 && t.NamespaceSelector == nil && owner.Namespace == p.Namespace
	if t.NamespaceSelector != nil {
		in = in || matches(t.NamespaceSelector, w.namespaces[p.Namespace])
	}
	return in && matches(t.LabelSelector, p.Labels)
}

func matches(s *metav1.LabelSelector, l map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		panic(err)
	}
	return selector.Matches(labels.Set(l))
}

func (w *world) together(key string, n *corev1.Node, q *corev1.Pod) bool {
	a, hasA := n.Labels[key]
	b, hasB := w.nodes[q.Spec.NodeName].Labels[key]
	return hasA && hasB && a == b
}

func (w *world) near(n *corev1.Node, p *corev1.Pod) bool {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAffinity == nil {
		return true
	}
	for _, t := range p.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
		if _, has := n.Labels[t.TopologyKey]; !has {
			return false
		}
		here, anywhere := false, false
		for _, q := range w.pods {
			if w.chosen(&t, p, q) {
				here = here || w.together(t.TopologyKey, n, q)
				anywhere = anywhere || w.nodes[q.Spec.NodeName].Labels[t.TopologyKey] != ""
			}
		}
		if !here && (anywhere || !w.chosen(&t, p, p)) {
			return false
		}
	}
	return true
}

func (w *world) apartFromOthers(n *corev1.Node, p *corev1.Pod) bool {
	for _, q := range w.pods {
		for _, t := range required(p) {
			if w.chosen(&t, p, q) && w.together(t.TopologyKey, n, q) {
				return true
			}
		}
		for _, t := range required(q) {
			if w.chosen(&t, q, p) && w.together(t.TopologyKey, n, q) {
				return true
			}
		}
	}
	return false
}

func required(p *corev1.Pod) []corev1.PodAffinityTerm {
	if p.Spec.Affinity == nil || p.Spec.Affinity.PodAntiAffinity == nil {
		return nil
	}
	return p.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

func (w *world) spreads(n *corev1.Node, p *corev1.Pod) bool {
	var hard []corev1.TopologySpreadConstraint
	for _, c := range p.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, c)
		}
	}
	for _, c := range hard {
		value, has := n.Labels[c.TopologyKey]
		counts := w.domains(p, &c, hard)
		least := int32(0)
		if minimum := c.MinDomains; int32(len(counts)) >= max(1, deref(minimum)) {
			least = slices.Min(slices.Collect(mapValues(counts)))
		}
		if !has || counts[value]+1-least > c.MaxSkew { // the generator's pods always match their own constraints
			return false
		}
	}
	return true
}

func deref(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func mapValues(m map[string]int32) func(func(int32) bool) {
	return func(yield func(int32) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// domains counts the pods that the constraint is about in every domain that counts.
func (w *world) domains(p *corev1.Pod, c *corev1.TopologySpreadConstraint, hard []corev1.TopologySpreadConstraint) map[string]int32 {
	counts := map[string]int32{}
	eligible := func(n *corev1.Node) bool {
		for _, other := range hard {
			if _, has := n.Labels[other.TopologyKey]; !has {
				return false
			}
		}
		return c.NodeTaintsPolicy == nil || !tainted(n, p)
	}
	for _, n := range w.nodes {
		if eligible(n) {
			counts[n.Labels[c.TopologyKey]] += 0
		}
	}
	for _, q := range w.pods {
		same := len(c.MatchLabelKeys) == 0 || q.Labels["hash"] == p.Labels["hash"]
		n := w.nodes[q.Spec.NodeName]
		if q.DeletionTimestamp == nil && q.Namespace == p.Namespace && same && matches(c.LabelSelector, q.Labels) && eligible(n) {
			counts[n.Labels[c.TopologyKey]]++
		}
	}
	return counts
}

// TestRulesHold places pods one by one and compares what is said with the plain reading.
func TestRulesHold(t *testing.T) {
	placed, refused := 0, 0
	for seed := range uint64(150) {
		in := social(seed)
		w := newWorld(in)
		for _, p := range in.Pending {
			one := scheduler.Place(scheduler.Input{Nodes: in.Nodes, Namespaces: in.Namespaces, Bound: w.pods, Pending: []*corev1.Pod{p}, Now: now})[0]
			want := w.feasible(p)
			if one.Node == "" != (len(want) == 0) || one.Node != "" && (one.Feasible != len(want) || !slices.Contains(want, one.Node)) {
				t.Fatalf("seed %d: pod %s on %q of %d nodes (%s), want one of %v\n%+v", seed, p.Name, one.Node, one.Feasible, one.Message, want, p.Spec)
			}
			if one.Node == "" {
				refused++
				continue
			}
			placed++
			w.put(p, one.Node)
		}
	}
	if placed < 1000 || refused < 200 {
		t.Errorf("%d placed and %d refused: the generator tests nothing", placed, refused)
	}
}

// TestTogetherAsAlone compares a call for all pods with calls for one after the other, which go on until nothing helps.
func TestTogetherAsAlone(t *testing.T) {
	for seed := range uint64(100) {
		in := social(seed)
		got := map[string]string{}
		for _, d := range scheduler.Place(in) {
			got[d.Pod.Name] = d.Node
		}
		alone, want := in, map[string]string{}
		waiting := slices.Clone(in.Pending)
		slices.SortFunc(waiting, func(a, b *corev1.Pod) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.OwnerReferences[0].UID, b.OwnerReferences[0].UID), cmp.Compare(a.Name, b.Name))
		})
		for before := -1; before != len(waiting); {
			before = len(waiting)
			waiting = slices.DeleteFunc(waiting, func(p *corev1.Pod) bool {
				alone.Pending = []*corev1.Pod{p}
				d := scheduler.Place(alone)[0]
				want[p.Name] = d.Node
				if d.Node != "" {
					bound := p.DeepCopy()
					bound.Spec.NodeName = d.Node
					alone.Bound = append(slices.Clone(alone.Bound), bound)
				}
				return d.Node != ""
			})
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d: together %v\nalone %v", seed, got, want)
		}
	}
}

// TestRulesOrder shuffles a fleet with rules and priorities.
func TestRulesOrder(t *testing.T) {
	for seed := range uint64(60) {
		for _, in := range []scheduler.Input{social(seed), ranked(seed)} {
			want := outcomes(in)
			r := rand.New(rand.NewPCG(seed, 11))
			r.Shuffle(len(in.Nodes), func(i, j int) { in.Nodes[i], in.Nodes[j] = in.Nodes[j], in.Nodes[i] })
			r.Shuffle(len(in.Pending), func(i, j int) { in.Pending[i], in.Pending[j] = in.Pending[j], in.Pending[i] })
			r.Shuffle(len(in.Bound), func(i, j int) { in.Bound[i], in.Bound[j] = in.Bound[j], in.Bound[i] })
			if got := outcomes(in); !slices.Equal(got, want) {
				t.Errorf("seed %d: shuffled input gave another result\n%v\n%v", seed, got, want)
			}
		}
	}
}

func outcomes(in scheduler.Input) []string {
	var lines []string
	for _, d := range scheduler.Place(in) {
		victims := ""
		for _, v := range d.Victims {
			victims += " " + v.Name
		}
		lines = append(lines, fmt.Sprintf("%s %s %.6f %d %s %s%s", d.Pod.Name, d.Node, d.Score.Total, d.Feasible, d.Message, d.Nominated, victims))
	}
	return lines
}

// ranked is social with priorities and little room; two of three have no pod that follows another.
func ranked(seed uint64) scheduler.Input {
	r := rand.New(rand.NewPCG(seed, 3))
	in := social(seed)
	for _, n := range in.Nodes {
		n.Status.Allocatable[corev1.ResourcePods] = resource.MustParse("4")
	}
	for _, p := range slices.Concat(in.Bound, in.Pending) {
		if a := p.Spec.Affinity; a != nil && seed%3 > 0 {
			a.PodAffinity = nil // see rounds
		}
		value := []int32{-5, 0, 10, 1000}[r.IntN(4)]
		p.Spec.Priority = &value
		p.Spec.Containers[0].Resources.Requests = list(fmt.Sprintf("%dm", 100*(1+r.IntN(10))), "64Mi")
	}
	return in
}

// BenchmarkPlaceWithRules is BenchmarkPlace's fleet in zones with pods that have rules about each other, and with pods
// that have none beside one that has. In "preempt" all nodes are full of less important pods.
func BenchmarkPlaceWithRules(b *testing.B) {
	selector := func(p *corev1.Pod) *metav1.LabelSelector { return &metav1.LabelSelector{MatchLabels: p.Labels} }
	spread := func(key string, action corev1.UnsatisfiableConstraintAction) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: action, LabelSelector: selector(p)}}
		}
	}
	apart := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname, LabelSelector: selector(p)}},
		}}
	}
	for _, c := range []struct {
		name string
		rule func(*corev1.Pod)
	}{
		{"plain beside one", func(p *corev1.Pod) {
			if p.Name == "pod-00000" {
				apart(p)
			}
		}},
		{"zones", spread("zone", corev1.DoNotSchedule)},
		{"zones preferred", spread("zone", corev1.ScheduleAnyway)},
		{"hosts", spread(corev1.LabelHostname, corev1.DoNotSchedule)},
		{"apart", apart},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkRule(b, c.rule) })
	}
	b.Run("preempt", benchmarkPreempt)
}

func benchmarkRule(b *testing.B, rule func(*corev1.Pod)) {
	in := big(5000, 10000, 50)
	for i, p := range slices.Concat(in.Bound, in.Pending) {
		p.Labels = map[string]string{"app": fmt.Sprint(i % 50)}
		rule(p)
	}
	for b.Loop() {
		for _, d := range scheduler.Place(in) {
			if d.Node == "" {
				b.Fatal(d.Message)
			}
		}
	}
	b.ReportMetric(float64(len(in.Pending))*float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}

func benchmarkPreempt(b *testing.B) {
	in := big(5000, 5000, 50)
	for _, p := range in.Bound {
		p.Spec.Containers[0].Resources.Requests = list("8", "1Gi")
	}
	value := int32(100)
	in.Pending = in.Pending[:500]
	for _, p := range in.Pending {
		p.Spec.Priority = &value
	}
	for b.Loop() {
		for _, d := range scheduler.Place(in) {
			if d.Nominated == "" {
				b.Fatal(d.Message)
			}
		}
	}
	b.ReportMetric(float64(len(in.Pending))*float64(b.N)/b.Elapsed().Seconds(), "pods/s")
}

// TestFleetKnowsRules: whoever plans moves is told of the rules, and of those of pods that it moved in thought.
func TestFleetKnowsRules(t *testing.T) {
	in := scheduler.Input{Nodes: []*corev1.Node{newNode("n1", "4", "4Gi", 10), newNode("n2", "4", "4Gi", 10), newNode("n3", "4", "4Gi", 10)}, Now: now}
	for i := range 2 {
		p := newPod(fmt.Sprintf("p%d", i+1), "o", "100m", "64Mi")
		p.Labels, p.Spec.NodeName = map[string]string{"app": "web"}, fmt.Sprintf("n%d", i+1)
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: p.Labels},
		}}}}
		in.Bound = append(in.Bound, p)
	}
	fleet := scheduler.NewFleet(in)
	one, two := fleet.Ask(in.Bound[0]), fleet.Ask(in.Bound[1])
	const refusal = "node(s) didn't match pod anti-affinity rules"
	check := func(when string, a *scheduler.Asker, want ...string) {
		t.Helper()
		for i, words := range want {
			if got := a.Refused(fmt.Sprintf("n%d", i+1)); got != words {
				t.Errorf("%s: n%d says %q, want %q", when, i+1, got, words)
			}
		}
	}
	check("at first", one, "", refusal, "")
	one.Move("n1", "n3")
	check("after the move", one, "", refusal, "")
	check("the other, after the move", two, "", "", refusal)
}
