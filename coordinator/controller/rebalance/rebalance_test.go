package rebalance_test

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/disruption"
	"skerry.dev/skerry/coordinator/controller/rebalance"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/scheduler"
	"skerry.dev/skerry/messaging"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		w.Now = w.Now.Add(time.Hour)
		commands := w.Commands(rebalance.Controller(rebalance.Options{}).Plan, replicaset.Plan, scheduler.Plan, disruption.Plan)
		commands["node"] = func(args []string) ([]string, error) { return nil, node(w, args) }
		commands["replicaset"] = func(args []string) ([]string, error) { return nil, set(w, args) }
		commands["annotate"] = func(args []string) ([]string, error) {
			p := w.Pod(args[0]).DeepCopy()
			metav1.SetMetaDataAnnotation(&p.ObjectMeta, "skerry.dev/"+args[1], "true")
			w.Put(p)
			return nil, nil
		}
		commands["budget"] = func(args []string) ([]string, error) { return nil, budget(w, args) }
		commands["use"] = func(args []string) ([]string, error) { return nil, use(w, args) }
		commands["dry-run"] = func([]string) ([]string, error) {
			text := rebalance.Propose(w.Snapshot(), w.Now, rebalance.Options{}).String()
			return w.Aliases(strings.Split(strings.TrimSpace(text), "\n")), nil
		}
		commands["moves"] = func([]string) ([]string, error) { return moves(w), nil }
		commands["where"] = func([]string) ([]string, error) { return where(w), nil }
		return commands
	})
}

// budget app min: at least so many pods of the app must be available.
func budget(w *controllertest.World, args []string) error {
	least := intstr.Parse(args[1])
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}}
	if have, ok := w.Get(b).(*policyv1.PodDisruptionBudget); ok {
		b = have.DeepCopy()
	}
	b.Spec = policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": args[0]}}}
	w.Put(b)
	return nil
}

// node name [cpu=4] [memory=4Gi] [ready=false] [cordoned=true]: ready since an hour when it is new, since now otherwise.
func node(w *controllertest.World, args []string) error {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: args[0]}, Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("50"),
	}}}
	since := w.Now.Add(-time.Hour)
	if have := w.Get(n); have != nil {
		n, since = have.(*corev1.Node).DeepCopy(), w.Now
		n.Status.Conditions, n.Spec = nil, corev1.NodeSpec{}
	}
	ready := corev1.ConditionTrue
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch k {
		case "ready":
			ready = corev1.ConditionFalse
			n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}}
		case "cordoned":
			n.Spec.Unschedulable = true
		case "cpu", "memory":
			n.Status.Allocatable[corev1.ResourceName(k)] = resource.MustParse(v)
		}
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, LastTransitionTime: metav1.NewTime(since)}}
	w.Put(n)
	return nil
}

// set name replicas=n cpu=100m memory=64Mi
func set(w *controllertest.World, args []string) error {
	rs := newSet(args[0], 1)
	if have := w.Get(rs); have != nil {
		rs = have.(*appsv1.ReplicaSet).DeepCopy()
	}
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		if k == "replicas" {
			n, err := strconv.ParseInt(v, 10, 32)
			if err != nil {
				return err
			}
			replicas := int32(n)
			rs.Spec.Replicas = &replicas
			continue
		}
		rs.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceName(k)] = resource.MustParse(v)
	}
	w.Put(rs)
	return nil
}

func newSet(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "web", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
				}}}}},
			},
		},
	}
}

// use node cpu-percent: what its heartbeat says of CPU and memory.
func use(w *controllertest.World, args []string) error {
	percent, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	w.Liveness[args[0]] = controller.Liveness{Heard: w.Now, Load: messaging.Load{CPUMillis: 40 * percent, MemoryBytes: 4 << 30 * percent / 100, MemoryTotalBytes: 4 << 30}}
	return nil
}

func moves(w *controllertest.World) []string {
	var lines []string
	for _, m := range w.Snapshot().Moves {
		lines = append(lines, fmt.Sprintf("%s %s from %s to %s: %s", m.Status.Phase, m.Spec.Pod.Name, m.Spec.From, m.Spec.To, m.Status.Message))
	}
	sort.Strings(lines)
	return w.Aliases(lines)
}

func where(w *controllertest.World) []string {
	counts := map[string]int{}
	for _, p := range w.Snapshot().Pods {
		if controller.PodActive(p) {
			counts[p.Spec.NodeName]++
		}
	}
	var lines []string
	for node, n := range counts {
		lines = append(lines, fmt.Sprintf("%s has %d", node, n))
	}
	sort.Strings(lines)
	return lines
}

// TestComesToRest plays random fleets until nothing moves any more: every move must lower the imbalance that the planner
// itself counts, none may break what is asked for, and no pod may move back and forth.
func TestComesToRest(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		w := controllertest.New()
		nodes := 3 + r.IntN(5)
		for i := range nodes {
			if err := node(w, []string{fmt.Sprintf("n%d", i), fmt.Sprintf("cpu=%d", 2+r.IntN(7))}); err != nil {
				t.Fatal(err)
			}
		}
		wanted := 0
		for i := range 1 + r.IntN(5) {
			replicas := 1 + r.IntN(12)
			wanted += replicas
			if err := set(w, []string{fmt.Sprintf("s%d", i), fmt.Sprintf("replicas=%d", replicas), fmt.Sprintf("cpu=%dm", 20*(1+r.IntN(10)))}); err != nil {
				t.Fatal(err)
			}
		}
		crowd(t, w, r, nodes)
		made := play(t, seed, w, wanted)
		if made > 4*wanted {
			t.Errorf("seed %d: %d moves for %d pods", seed, made, wanted)
		}
	}
}

// crowd puts all pods on one or two nodes and makes them ready.
func crowd(t *testing.T, w *controllertest.World, r *rand.Rand, nodes int) {
	t.Helper()
	changes, _ := replicaset.Plan(w.Snapshot(), w.Now)
	w.Perform(changes)
	first := r.IntN(nodes)
	for i, p := range w.Snapshot().Pods {
		p = p.DeepCopy()
		p.Spec.NodeName = fmt.Sprintf("n%d", (first+i%2)%nodes)
		w.Put(p)
	}
	report(w)
}

// report is what nodes do: pods become ready, deleted ones go.
func report(w *controllertest.World) {
	for _, p := range w.Snapshot().Pods {
		if p.DeletionTimestamp != nil {
			w.Remove(p)
			continue
		}
		p = p.DeepCopy()
		p.Status.Phase = corev1.PodRunning
		if controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now) {
			w.Put(p)
		}
	}
}

func play(t *testing.T, seed uint64, w *controllertest.World, wanted int) int {
	t.Helper()
	plans := []controller.Plan{rebalance.Controller(rebalance.Options{}).Plan, replicaset.Plan, scheduler.Plan}
	made := map[string]bool{}
	for quiet := 0; quiet < 3; {
		if _, _, err := w.Rounds(plans, 30); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		report(w)
		w.Now = w.Now.Add(15 * time.Minute) // beyond every cool-down: only the gain may stop it
		before := len(made)
		for _, m := range w.Snapshot().Moves {
			made[m.Name] = true
			if m.Status.Phase == rebalance.Failed {
				t.Errorf("seed %d: move failed: %s", seed, m.Status.Message)
			}
		}
		if ready := readyPods(w); ready < wanted {
			t.Errorf("seed %d: %d ready pods amid moves, want at least %d", seed, ready, wanted)
		}
		quiet++
		if len(made) != before {
			quiet = 0
		}
		if len(made) > 20*wanted {
			t.Fatalf("seed %d: it never rests", seed)
		}
	}
	return len(made)
}

func readyPods(w *controllertest.World) int {
	n := 0
	for _, p := range w.Snapshot().Pods {
		if controller.PodReady(p) && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

// TestCrashBetweenWrites performs only one of the writes of each step, as a coordinator that dies would, and goes on with
// a fresh plan: the move must still end with the right number of pods.
func TestCrashBetweenWrites(t *testing.T) {
	for drop := range 6 {
		w := controllertest.New()
		for i := range 2 {
			if err := node(w, []string{fmt.Sprintf("n%d", i)}); err != nil {
				t.Fatal(err)
			}
		}
		w.Put(newSet("web", 4))
		changes, _ := replicaset.Plan(w.Snapshot(), w.Now)
		w.Perform(changes)
		for _, p := range w.Snapshot().Pods {
			p = p.DeepCopy()
			p.Spec.NodeName = "n0"
			w.Put(p)
		}
		report(w)
		count := 0
		plan := rebalance.Controller(rebalance.Options{}).Plan
		for range 60 {
			rest, _ := replicaset.Plan(w.Snapshot(), w.Now)
			w.Perform(rest)
			changes, _ := plan(w.Snapshot(), w.Now)
			var kept []controller.Change
			for _, c := range changes {
				if count != drop {
					kept = append(kept, c)
				}
				count++
			}
			w.Perform(kept)
			report(w)
			w.Now = w.Now.Add(30 * time.Second)
		}
		on := map[string]int{}
		for _, p := range w.Snapshot().Pods {
			on[p.Spec.NodeName]++
		}
		if on["n0"] != 2 || on["n1"] != 2 {
			t.Errorf("write %d lost: %v, want 2 pods on each node", drop, on)
		}
	}
}
