package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	helper "k8s.io/component-helpers/resource"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/scheduler"
)

var now = controllertest.Start

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func newNode(name, cpu, memory string, pods int) *corev1.Node {
	alloc := list(cpu, memory)
	alloc[corev1.ResourcePods] = *resource.NewQuantity(int64(pods), resource.DecimalSI)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status:     corev1.NodeStatus{Allocatable: alloc, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func newPod(name, owner, cpu, memory string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(now)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web", Resources: corev1.ResourceRequirements{Requests: list(cpu, memory)}}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	if owner != "" {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: &yes}}
	}
	return p
}

// random builds a fleet and pods of all sorts.
func random(seed uint64) scheduler.Input {
	r := rand.New(rand.NewPCG(seed, 7))
	in := scheduler.Input{Now: now}
	for i := range 3 + r.IntN(20) {
		n := newNode(fmt.Sprintf("n%02d", i), fmt.Sprint(1+r.IntN(8)), fmt.Sprintf("%dGi", 1+r.IntN(16)), 3+r.IntN(20))
		n.Labels["zone"] = fmt.Sprint(r.IntN(3))
		if r.IntN(5) == 0 {
			n.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "x", Effect: []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}[r.IntN(2)]}}
		}
		n.Status.Allocatable["example.com/camera"] = *resource.NewQuantity(int64(r.IntN(3)), resource.DecimalSI)
		in.Nodes = append(in.Nodes, n)
	}
	for i := range r.IntN(200) {
		p := newPod(fmt.Sprintf("p%03d", i), fmt.Sprintf("o%d", r.IntN(12)), fmt.Sprintf("%dm", 50*r.IntN(20)), fmt.Sprintf("%dMi", 64*r.IntN(20)))
		decorate(r, p)
		if r.IntN(10) == 0 {
			p.Spec.NodeName = in.Nodes[r.IntN(len(in.Nodes))].Name
			in.Bound = append(in.Bound, p)
			continue
		}
		in.Pending = append(in.Pending, p)
	}
	return in
}

func decorate(r *rand.Rand, p *corev1.Pod) {
	switch r.IntN(8) {
	case 0:
		p.Spec.NodeSelector = map[string]string{"zone": fmt.Sprint(r.IntN(3))}
	case 1:
		p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	case 2:
		p.Spec.Containers[0].Resources.Requests["example.com/camera"] = resource.MustParse("1")
	case 3:
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: int32(8000 + r.IntN(2))}}
	case 4:
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{
			{Name: "side", RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: list("100m", "64Mi")}},
			{Name: "init", Resources: corev1.ResourceRequirements{Requests: list("900m", "10Mi")}},
		}
	case 5:
		p.Spec.Overhead = list("10m", "10Mi")
	case 6:
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{"1"}}}},
		}}}}
	}
}

// TestNeverOverCapacity adds up, with upstream's own rules, what was placed on each node.
func TestNeverOverCapacity(t *testing.T) {
	for seed := range uint64(200) {
		in := random(seed)
		before := used(in.Bound)
		placed := slices.Clone(in.Bound)
		for _, d := range scheduler.Place(in) {
			if d.Node == "" {
				continue
			}
			p := d.Pod.DeepCopy()
			p.Spec.NodeName = d.Node
			placed = append(placed, p)
		}
		after := used(placed)
		for _, n := range in.Nodes {
			for name, capacity := range n.Status.Allocatable {
				was, is := before[n.Name][name], after[n.Name][name]
				if is.Cmp(was) > 0 && is.Cmp(capacity) > 0 {
					t.Errorf("seed %d: node %s: %s of %s placed, capacity %s", seed, n.Name, is.String(), name, capacity.String())
				}
			}
			checkPorts(t, seed, n.Name, placed[len(in.Bound):])
		}
	}
}

func used(pods []*corev1.Pod) map[string]corev1.ResourceList {
	sums := map[string]corev1.ResourceList{}
	for _, p := range pods {
		sum := sums[p.Spec.NodeName]
		if sum == nil {
			sum = corev1.ResourceList{}
			sums[p.Spec.NodeName] = sum
		}
		requests := helper.PodRequests(p, helper.PodResourcesOptions{})
		requests[corev1.ResourcePods] = resource.MustParse("1")
		for name, q := range requests {
			total := sum[name]
			total.Add(q)
			sum[name] = total
		}
	}
	return sums
}

// checkPorts: bound pods were put there by the generator, which does not look at ports, so only placed ones count.
func checkPorts(t *testing.T, seed uint64, node string, placed []*corev1.Pod) {
	taken := map[int32]bool{}
	for _, p := range placed {
		for _, port := range p.Spec.Containers[0].Ports {
			if p.Spec.NodeName != node {
				continue
			}
			if taken[port.HostPort] {
				t.Errorf("seed %d: node %s: host port %d twice", seed, node, port.HostPort)
			}
			taken[port.HostPort] = true
		}
	}
}

// TestOrderDoesNotMatter shuffles nodes and pods.
func TestOrderDoesNotMatter(t *testing.T) {
	for seed := range uint64(50) {
		in := random(seed)
		want := placements(in)
		r := rand.New(rand.NewPCG(seed, 11))
		r.Shuffle(len(in.Nodes), func(i, j int) { in.Nodes[i], in.Nodes[j] = in.Nodes[j], in.Nodes[i] })
		r.Shuffle(len(in.Pending), func(i, j int) { in.Pending[i], in.Pending[j] = in.Pending[j], in.Pending[i] })
		r.Shuffle(len(in.Bound), func(i, j int) { in.Bound[i], in.Bound[j] = in.Bound[j], in.Bound[i] })
		if got := placements(in); !slices.Equal(got, want) {
			t.Errorf("seed %d: shuffled input gave another result", seed)
		}
	}
}

func placements(in scheduler.Input) []string {
	var lines []string
	for _, d := range scheduler.Place(in) {
		lines = append(lines, fmt.Sprintf("%s %s %.6f %d %s", d.Pod.Name, d.Node, d.Score.Total, d.Feasible, d.Message))
	}
	return lines
}

// TestRankingIsExact compares each decision with one made by a fresh call that knows only that pod: the shared ranking
// must not change what is chosen.
func TestRankingIsExact(t *testing.T) {
	for seed := range uint64(30) {
		in := random(seed)
		alone := scheduler.Input{Nodes: in.Nodes, Bound: slices.Clone(in.Bound), Now: in.Now}
		for _, d := range scheduler.Place(in) {
			alone.Pending = []*corev1.Pod{d.Pod}
			one := scheduler.Place(alone)[0]
			if one.Node != d.Node || one.Score != d.Score || one.Feasible != d.Feasible {
				t.Fatalf("seed %d: pod %s: together on %q, alone on %q\n%+v\n%+v", seed, d.Pod.Name, d.Node, one.Node, d, one)
			}
			if d.Node != "" {
				p := d.Pod.DeepCopy()
				p.Spec.NodeName = d.Node
				alone.Bound = append(alone.Bound, p)
			}
		}
	}
}

// TestSecondPlanIsEmpty plans again on the result.
func TestSecondPlanIsEmpty(t *testing.T) {
	for seed := range uint64(30) {
		w := controllertest.New()
		in := random(seed)
		for _, n := range in.Nodes {
			w.Put(n)
		}
		for _, p := range append(in.Pending, in.Bound...) {
			w.Put(p)
		}
		if _, _, err := w.Rounds([]controller.Plan{scheduler.Plan}, 2); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestCreatesBound: a ReplicaSet's pods get their nodes before they are written, and each once.
func TestCreatesBound(t *testing.T) {
	w := controllertest.New()
	for i := range 3 {
		w.Put(newNode(fmt.Sprintf("n%d", i), "2", "2Gi", 10))
	}
	replicas := int32(7)
	w.Put(newReplicaSet("web", replicas))
	s := w.Snapshot()
	changes, _ := replicaset.Plan(s, w.Now)
	w.Perform(scheduler.Finish(s, changes, w.Now))
	count := map[string]int{}
	for _, p := range w.Snapshot().Pods {
		count[p.Spec.NodeName]++
		if c := controller.PodCondition(p, corev1.PodScheduled); p.Spec.NodeName != "" && (c == nil || c.Status != corev1.ConditionTrue || p.Annotations[api.AnnotationPlacement] == "") {
			t.Errorf("pod %s is bound without saying so", p.Name)
		}
	}
	// 500m each on 2 CPUs: all seven fit, two or three a node.
	for node, n := range count {
		if node == "" || n < 2 || n > 3 {
			t.Errorf("%d pods on node %q, want 2 or 3", n, node)
		}
	}
}

func TestGatedAndForeignPodsAreLeftAlone(t *testing.T) {
	gated, foreign, done := newPod("gated", "", "1m", "1Mi"), newPod("foreign", "", "1m", "1Mi"), newPod("done", "", "1m", "1Mi")
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}}
	foreign.Spec.SchedulerName = "other"
	done.Status.Phase = corev1.PodSucceeded
	s := &controller.Snapshot{Nodes: []*corev1.Node{newNode("n", "1", "1Gi", 5)}, Pods: []*corev1.Pod{done, foreign, gated}}
	if changes, _ := scheduler.Plan(s, now); len(changes) != 0 {
		t.Errorf("%d changes, want none", len(changes))
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, kinds := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("nodes=5000/pods=10000/kinds=%d", kinds), func(b *testing.B) {
			in := big(5000, 10000, kinds)
			b.ReportAllocs()
			for b.Loop() {
				for _, d := range scheduler.Place(in) {
					if d.Node == "" {
						b.Fatal(d.Message)
					}
				}
			}
			b.ReportMetric(float64(len(in.Pending))*float64(b.N)/b.Elapsed().Seconds(), "pods/s")
		})
	}
}

// big is a fleet that has half of its pods placed already.
func big(nodes, pods, kinds int) scheduler.Input {
	in := scheduler.Input{Now: now}
	for i := range nodes {
		n := newNode(fmt.Sprintf("node-%05d", i), "8", "32Gi", 110)
		n.Labels["zone"] = fmt.Sprint(i % 3)
		in.Nodes = append(in.Nodes, n)
	}
	for i := range pods {
		p := newPod(fmt.Sprintf("bound-%05d", i), fmt.Sprintf("rs-%d", i%kinds), "100m", "128Mi")
		p.Spec.NodeName = in.Nodes[i%nodes].Name
		in.Bound = append(in.Bound, p)
		in.Pending = append(in.Pending, newPod(fmt.Sprintf("pod-%05d", i), fmt.Sprintf("rs-%d", i%kinds), fmt.Sprintf("%dm", 100+i%kinds%7), "128Mi"))
	}
	return in
}

func newReplicaSet(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod("", "", "500m", "64Mi").Spec},
		},
	}
}
