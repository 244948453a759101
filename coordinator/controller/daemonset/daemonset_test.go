package daemonset_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/daemonset"
	"skerry.dev/skerry/coordinator/scheduler"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(daemonset.Plan)
		commands["daemon"] = func(args []string) ([]string, error) { return nil, put(w, args[0], args[1:]) }
		commands["node"] = func(args []string) ([]string, error) { return nil, putNode(w, args[0], args[1:]) }
		commands["lose"] = func(args []string) ([]string, error) {
			w.Remove(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: args[0]}})
			return nil, nil
		}
		commands["place"] = func([]string) ([]string, error) { place(w); return nil, nil }
		commands["show"] = func([]string) ([]string, error) { return show(w), nil }
		commands["revisions"] = func([]string) ([]string, error) { return revisions(w), nil }
		return commands
	})
}

// put makes or changes the DaemonSet: image=n disk=selector surge=n unavailable=n strategy=OnDelete ready=s keep=n tolerate=key
func put(w *controllertest.World, name string, settings []string) error {
	labels := map[string]string{"app": name}
	ds := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{}},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "1"}}}},
		},
	}
	if have, ok := w.Get(ds).(*appsv1.DaemonSet); ok {
		ds = have.DeepCopy()
	}
	for _, setting := range settings {
		k, v, _ := strings.Cut(setting, "=")
		if err := set(&ds.Spec, k, v); err != nil {
			return err
		}
	}
	w.Put(ds)
	return nil
}

func set(spec *appsv1.DaemonSetSpec, k, v string) error {
	n, _ := strconv.ParseInt(v, 10, 32)
	count := int32(n)
	bound := intstr.Parse(v)
	switch k {
	case "image":
		spec.Template.Spec.Containers[0].Image = v
	case "disk":
		spec.Template.Spec.NodeSelector = map[string]string{"disk": v}
	case "tolerate":
		spec.Template.Spec.Tolerations = []corev1.Toleration{{Key: v, Operator: corev1.TolerationOpExists}}
	case "surge":
		spec.UpdateStrategy.RollingUpdate.MaxSurge = &bound
	case "unavailable":
		spec.UpdateStrategy.RollingUpdate.MaxUnavailable = &bound
	case "strategy":
		spec.UpdateStrategy.Type = appsv1.DaemonSetUpdateStrategyType(v)
	case "ready":
		spec.MinReadySeconds = count
	case "keep":
		spec.RevisionHistoryLimit = &count
	default:
		return fmt.Errorf("unknown setting %q", k)
	}
	return nil
}

// putNode makes or changes a node: disk=label taint=key:Effect
func putNode(w *controllertest.World, name string, settings []string) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, setting := range settings {
		k, v, _ := strings.Cut(setting, "=")
		switch k {
		case "disk":
			node.Labels["disk"] = v
		case "taint":
			key, effect, _ := strings.Cut(v, ":")
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffect(effect)})
		default:
			return fmt.Errorf("unknown setting %q", k)
		}
	}
	if have, ok := w.Get(node).(*corev1.Node); ok {
		node.UID, node.CreationTimestamp = have.UID, have.CreationTimestamp
	}
	w.Put(node)
	return nil
}

// place does what the scheduler and the nodes do: pods that name their node come to it and are ready.
func place(w *controllertest.World) {
	for _, pod := range w.Snapshot().Pods {
		if pod.DeletionTimestamp != nil || pod.Spec.NodeName != "" {
			continue
		}
		pod = pod.DeepCopy()
		pod.Spec.NodeName = meant(pod)
		pod.Status.Phase = corev1.PodRunning
		controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
		w.Put(pod)
	}
}

func meant(pod *corev1.Pod) string {
	return pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
}

func show(w *controllertest.World) []string {
	var lines []string
	for _, ds := range w.Snapshot().DaemonSets {
		s := ds.Status
		lines = append(lines, fmt.Sprintf("%s desired %d current %d ready %d updated %d available %d misscheduled %d observed %d/%d", ds.Name,
			s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady, s.UpdatedNumberScheduled, s.NumberAvailable, s.NumberMisscheduled, s.ObservedGeneration, ds.Generation))
	}
	for _, pod := range w.Snapshot().Pods {
		state := ""
		if pod.DeletionTimestamp != nil {
			state = " terminating"
		}
		lines = append(lines, fmt.Sprintf("  %s for %s image %s%s", pod.Name, meant(pod), pod.Spec.Containers[0].Image, state))
	}
	return w.Aliases(lines)
}

func revisions(w *controllertest.World) []string {
	var lines []string
	for _, r := range w.Snapshot().Revisions {
		lines = append(lines, fmt.Sprintf("%d %s", r.Revision, r.Name))
	}
	return lines
}

// TestTheSchedulerPlacesDaemons: what a DaemonSet asks for, the scheduler understands, and on no other node.
func TestTheSchedulerPlacesDaemons(t *testing.T) {
	w := controllertest.New()
	for i := range 5 {
		w.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i)}, Spec: corev1.NodeSpec{Unschedulable: i == 2}, Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("10")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}})
	}
	if err := put(w, "agent", nil); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		s := w.Snapshot()
		changes, _ := daemonset.Plan(s, w.Now)
		w.Perform(scheduler.Finish(s, changes, w.Now))
	}
	on := map[string]int{}
	for _, pod := range w.Snapshot().Pods {
		if pod.Spec.NodeName != meant(pod) {
			t.Errorf("pod for %s is on %q", meant(pod), pod.Spec.NodeName)
		}
		on[pod.Spec.NodeName]++
	}
	if len(on) != 5 || len(w.Snapshot().Pods) != 5 {
		t.Errorf("pods on %v", on)
	}
}

// TestRolloutKeepsItsBounds changes the template again and again while nodes come and go, pods fail and a part of what is
// planned is lost: never are more nodes without an available pod than allowed by the rollout, nor two pods on a node that
// does not surge; and in the end every node has one of the newest.
func TestRolloutKeepsItsBounds(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := &rollout{T: t, random: rand.New(rand.NewPCG(seed, 7)), w: controllertest.New(), surges: seed%2 == 0}
			r.run()
		})
	}
}

type rollout struct {
	*testing.T
	random *rand.Rand
	w      *controllertest.World
	surges bool
}

func (r *rollout) run() {
	for i := range 6 {
		r.must(putNode(r.w, fmt.Sprintf("n%d", i), nil))
	}
	settings := []string{"unavailable=2"}
	if r.surges {
		settings = []string{"surge=2", "unavailable=0"}
	}
	r.must(put(r.w, "agent", settings))
	r.settle()
	for image := range 4 {
		r.must(put(r.w, "agent", []string{fmt.Sprintf("image=%d", image+2)}))
		for range 40 {
			r.pass(4)
			r.check()
		}
	}
	r.settle()
	seen := map[string]bool{}
	for _, pod := range r.w.Snapshot().Pods {
		if pod.Spec.Containers[0].Image != "5" {
			r.Errorf("%s still has image %s", pod.Name, pod.Spec.Containers[0].Image)
		}
		seen[meant(pod)] = true
	}
	if len(seen) != 6 || len(r.w.Snapshot().Pods) != 6 {
		r.Errorf("pods on %v", seen)
	}
}

func (r *rollout) must(err error) {
	if err != nil {
		r.Fatal(err)
	}
}

// pass makes a plan and loses about one of so many changes; then pods come up and go, some at once.
func (r *rollout) pass(lost int) {
	changes, _ := daemonset.Plan(r.w.Snapshot(), r.w.Now)
	for _, c := range changes {
		if lost == 0 || r.random.IntN(lost) > 0 {
			r.w.Perform([]controller.Change{c})
		}
	}
	r.w.Now = r.w.Now.Add(time.Second)
	if r.random.IntN(2) == 0 {
		place(r.w)
	}
	for _, pod := range r.w.Snapshot().Pods {
		if pod.DeletionTimestamp != nil && r.random.IntN(2) == 0 {
			r.w.Stop(pod)
		}
	}
}

func (r *rollout) settle() {
	for range 60 {
		r.pass(0)
	}
}

func (r *rollout) check() {
	available, live := map[string]bool{}, map[string]int{}
	for _, pod := range r.w.Snapshot().Pods {
		if pod.DeletionTimestamp == nil {
			live[meant(pod)]++
			available[meant(pod)] = available[meant(pod)] || controller.PodReady(pod)
		}
	}
	missing := 0
	for i := range 6 {
		node := fmt.Sprintf("n%d", i)
		if !available[node] {
			missing++
		}
		if limit := map[bool]int{true: 2, false: 1}[r.surges]; live[node] > limit {
			r.Fatalf("%d pods on %s", live[node], node)
		}
	}
	if limit := map[bool]int{true: 0, false: 2}[r.surges]; missing > limit {
		r.Fatalf("%d nodes without an available pod, at most %d were allowed", missing, limit)
	}
}
