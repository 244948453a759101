package scheduler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/scheduler"
)

// TestVictimsAreFewAndLesser preempts for one pod at a time and checks against the plain reading: never when a node is
// free, only less important pods, none that need not go, and then the pod fits.
func TestVictimsAreFewAndLesser(t *testing.T) {
	preempted := 0
	for seed := range uint64(400) {
		in := ranked(seed)
		for _, p := range in.Pending {
			d := scheduler.Place(scheduler.Input{Nodes: in.Nodes, Namespaces: in.Namespaces, Bound: in.Bound, Pending: []*corev1.Pod{p}, Now: now})[0]
			if d.Nominated == "" {
				continue
			}
			w := newWorld(in)
			if free := w.feasible(p); len(free) > 0 {
				t.Fatalf("seed %d: %s preempts on %s though %v are free", seed, p.Name, d.Nominated, free)
			}
			lesser := func(q *corev1.Pod) bool { return q.Spec.NodeName == d.Nominated && *q.Spec.Priority < *p.Spec.Priority }
			if i := slices.IndexFunc(d.Victims, func(v *corev1.Pod) bool { return !lesser(v) || v.DeletionTimestamp != nil }); i >= 0 {
				t.Fatalf("seed %d: %s preempts %s, which it may not", seed, p.Name, d.Victims[i].Name)
			}
			gone := func(q *corev1.Pod) bool {
				return slices.Contains(d.Victims, q) || lesser(q) && q.DeletionTimestamp != nil
			}
			w.pods = slices.DeleteFunc(slices.Clone(in.Bound), gone)
			if !slices.Contains(w.feasible(p), d.Nominated) {
				t.Fatalf("seed %d: %s does not fit on %s after its victims have gone", seed, p.Name, d.Nominated)
			}
			left := w.pods
			for _, v := range d.Victims {
				w.pods = append(slices.Clone(left), v)
				if slices.Contains(w.feasible(p), d.Nominated) {
					t.Fatalf("seed %d: %s need not go for %s", seed, v.Name, p.Name)
				}
				preempted++
			}
		}
	}
	if preempted < 200 {
		t.Errorf("%d victims: the generator tests nothing", preempted)
	}
}

// TestPromisesFit: when all victims of one call have gone, all that it placed and promised has room.
func TestPromisesFit(t *testing.T) {
	promised := 0
	for seed := range uint64(200) {
		in := ranked(seed)
		decisions := scheduler.Place(in)
		gone := map[*corev1.Pod]bool{}
		var added []*corev1.Pod
		for _, d := range decisions {
			for _, v := range d.Victims {
				if gone[v] {
					t.Errorf("seed %d: %s is preempted twice", seed, v.Name)
				}
				gone[v] = true
			}
			if d.Node == "" && d.Nominated == "" {
				continue
			}
			p := d.Pod.DeepCopy()
			p.Spec.NodeName = d.Node + d.Nominated // one of them is empty
			added = append(added, p)
			if d.Nominated != "" {
				promised++
			}
		}
		left := slices.DeleteFunc(slices.Clone(in.Bound), func(p *corev1.Pod) bool { return gone[p] || p.DeletionTimestamp != nil })
		sums, asked := used(append(left, added...)), used(added)
		for _, n := range in.Nodes {
			for name, capacity := range n.Status.Allocatable {
				is, more := sums[n.Name][name], asked[n.Name][name]
				if !more.IsZero() && is.Cmp(capacity) > 0 {
					t.Errorf("seed %d: %s of %s on %s, capacity %s", seed, is.String(), name, n.Name, capacity.String())
				}
			}
		}
	}
	if promised < 100 {
		t.Errorf("%d promises: the generator tests nothing", promised)
	}
}

// TestPreemptionComesToRest plays the whole: plans, victims that end, plans. Plans come to rest in each state, no pod of the
// highest priority is deleted, and in the end nobody waits for a node that he was promised.
func TestPreemptionComesToRest(t *testing.T) {
	for seed := range uint64(60) {
		w := controllertest.New()
		in := ranked(seed)
		for _, n := range in.Nodes {
			w.Put(n)
		}
		for _, n := range in.Namespaces {
			w.Put(n)
		}
		for _, p := range slices.Concat(in.Pending, in.Bound) {
			w.Put(p)
		}
		for round := 0; ; round++ {
			if _, _, err := w.Rounds([]controller.Plan{scheduler.Plan}, rounds(in)); err != nil {
				t.Fatalf("seed %d round %d: %v", seed, round, err)
			}
			if round == len(in.Pending)+1 {
				t.Fatalf("seed %d: pods still have to go after %d rounds", seed, round)
			}
			if !dropLeaving(t, w) {
				break
			}
		}
		for _, p := range w.Snapshot().Pods {
			if p.Status.NominatedNodeName != "" {
				t.Errorf("seed %d: %s waits for %s", seed, p.Name, p.Status.NominatedNodeName)
			}
		}
	}
}

// rounds is how often plans may ask for something in one state: once, and then nothing. A pod that waits for a neighbour
// may preempt one that was placed before its neighbour was, which takes further rounds.
func rounds(in scheduler.Input) int {
	for _, p := range in.Pending {
		if a := p.Spec.Affinity; a != nil && a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return 6
		}
	}
	return 2
}

func dropLeaving(t *testing.T, w *controllertest.World) (some bool) {
	t.Helper()
	for _, p := range w.Snapshot().Pods {
		if p.DeletionTimestamp == nil {
			continue
		}
		if *p.Spec.Priority == 1000 && controller.PodCondition(p, corev1.DisruptionTarget) != nil {
			t.Errorf("%s of the highest priority was preempted", p.Name)
		}
		w.Remove(p)
		some = true
	}
	return some
}

// TestNoThrash: a ReplicaSet whose pods are preempted makes others, and they do not take the place that was made.
func TestNoThrash(t *testing.T) {
	w := controllertest.New()
	w.Put(newNode("n1", "2", "4Gi", 10))
	w.Put(newReplicaSet("low", 4))
	plan := func(s *controller.Snapshot, at time.Time) ([]controller.Change, time.Time) {
		changes, wake := replicaset.Plan(s, at)
		return scheduler.Finish(s, changes, at), wake
	}
	rest := func() {
		t.Helper()
		if _, _, err := w.Rounds([]controller.Plan{plan}, 10); err != nil {
			t.Fatal(err)
		}
	}
	rest()
	high := newPod("high", "", "1", "64Mi")
	value := int32(100)
	high.Spec.Priority = &value
	w.Put(high)
	rest()
	deleted := 0
	for _, p := range w.Snapshot().Pods {
		if p.DeletionTimestamp == nil {
			continue
		}
		deleted++
		if c := controller.PodCondition(p, corev1.DisruptionTarget); c == nil || c.Reason != corev1.PodReasonPreemptionByScheduler {
			t.Errorf("victim %s does not say why", p.Name)
		}
	}
	if deleted != 2 || w.Pod("high").Status.NominatedNodeName != "n1" {
		t.Fatalf("%d pods go and the pod waits for %q, want 2 and n1", deleted, w.Pod("high").Status.NominatedNodeName)
	}
	for _, p := range w.Snapshot().Pods {
		if p.DeletionTimestamp != nil {
			w.Remove(p)
		}
	}
	rest()
	running, waiting := 0, 0
	for _, p := range w.Snapshot().Pods {
		if p.Spec.NodeName == "" {
			waiting++
		} else if p.DeletionTimestamp == nil {
			running++
		}
	}
	if p := w.Pod("high"); p.Spec.NodeName != "n1" || p.Status.NominatedNodeName != "" || running != 3 || waiting != 2 {
		t.Errorf("high on %q, %d run and %d wait; want n1, 3 and 2", p.Spec.NodeName, running, waiting)
	}
}

// TestLeavingPodsAreEnough: what the same pass deletes for another reason need not be preempted.
func TestLeavingPodsAreEnough(t *testing.T) {
	old, young, high := newPod("old", "", "1", "1Mi"), newPod("young", "", "1", "1Mi"), newPod("high", "", "1", "1Mi")
	value := int32(9)
	high.Spec.Priority, old.Spec.NodeName, young.Spec.NodeName = &value, "n", "n"
	young.CreationTimestamp = metav1.NewTime(now.Add(time.Minute))
	s := &controller.Snapshot{Nodes: []*corev1.Node{newNode("n", "2", "1Gi", 5)}, Pods: []*corev1.Pod{high, old, young}}
	for _, c := range []struct {
		changes []controller.Change
		victim  string
	}{{nil, "young"}, {[]controller.Change{{Verb: controller.Delete, Object: old}}, "old"}} {
		deleted, promised := "", ""
		for _, change := range scheduler.Finish(s, c.changes, now) {
			p, ok := change.Object.(*corev1.Pod)
			switch {
			case ok && change.Verb == controller.Delete:
				deleted += p.Name
			case ok && change.Verb == controller.Status && p.Name == "high":
				promised = p.Status.NominatedNodeName
			}
		}
		if deleted != c.victim || promised != "n" {
			t.Errorf("%s is deleted, want %s; the pod is promised %q", deleted, c.victim, promised)
		}
	}
}

// TestNewPodsHavePriority: pods that a controller makes are placed by the priority that they will have.
func TestNewPodsHavePriority(t *testing.T) {
	low, high := newPod("alow", "rs", "1", "1Mi"), newPod("zhigh", "rs", "1", "1Mi")
	low.UID, high.UID, high.Spec.PriorityClassName = "", "", "important"
	s := &controller.Snapshot{Nodes: []*corev1.Node{newNode("n", "1", "1Gi", 5)}}
	s.Others = map[schema.GroupKind][]controller.Object{scheduler.PriorityClassKind: {
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "important"}, Value: 7},
		&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "usual"}, Value: 3, GlobalDefault: true},
	}}
	got := ""
	for _, c := range scheduler.Finish(s, []controller.Change{{Verb: controller.Create, Object: low}, {Verb: controller.Create, Object: high}}, now) {
		if p, ok := c.Object.(*corev1.Pod); ok {
			got += fmt.Sprintf("%s %d on %q. ", p.Name, *p.Spec.Priority, p.Spec.NodeName)
		}
	}
	if want := `alow 3 on "". zhigh 7 on "n". `; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
