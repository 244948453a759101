package replicaset_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/replicaset"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(replicaset.Plan, replicaset.PlanReplication)
		commands["rc"] = func(args []string) ([]string, error) { return nil, putController(w, args) }
		commands["replicaset"] = func(args []string) ([]string, error) { return nil, put(w, args) }
		commands["refuse"] = func(args []string) ([]string, error) {
			w.Refuse = func(controller.Object) string { return strings.Join(args, " ") }
			return nil, nil
		}
		commands["pod"] = func(args []string) ([]string, error) { return nil, putPod(w, args) }
		commands["closing"] = func(args []string) ([]string, error) {
			w.Put(&corev1.Namespace{
				ObjectMeta: metav1.ObjectMeta{Name: args[0], DeletionTimestamp: controllertest.Time(w.Now)},
				Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
			})
			return nil, nil
		}
		return commands
	})
}

func newSet(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name, "tier": "web"}}},
		},
	}
}

func put(w *controllertest.World, args []string) error {
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	var replicas int32
	if _, err := fmt.Sscan(settings["replicas"], &replicas); err != nil {
		return err
	}
	rs := newSet(args[0], replicas)
	if have := w.Get(rs); have != nil {
		rs.ObjectMeta = have.(*appsv1.ReplicaSet).ObjectMeta
		rs.Status = have.(*appsv1.ReplicaSet).Status
	}
	w.Put(rs)
	return nil
}

// putController is put for a ReplicationController.
func putController(w *controllertest.World, args []string) error {
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	var replicas int32
	if _, err := fmt.Sscan(settings["replicas"], &replicas); err != nil {
		return err
	}
	rs := newSet(args[0], replicas)
	rc := &corev1.ReplicationController{ObjectMeta: rs.ObjectMeta, Spec: corev1.ReplicationControllerSpec{
		Replicas: &replicas, Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
	}}
	if have, ok := w.Get(rc).(*corev1.ReplicationController); ok {
		rc.ObjectMeta, rc.Status = have.ObjectMeta, have.Status
	}
	w.Put(rc)
	return nil
}

// putPod edits or makes a pod: app=label node=name replaces=pod cost=n.
func putPod(w *controllertest.World, args []string) error {
	settings, err := controllertest.Args(args[1:])
	if err != nil {
		return err
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], Labels: map[string]string{}, Annotations: map[string]string{}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	if have := w.Pod(args[0]); have != nil {
		pod = have.DeepCopy()
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
	}
	for k, v := range settings {
		switch k {
		case "app":
			pod.Labels["app"] = v
		case "node":
			pod.Spec.NodeName = v
		case "cost":
			pod.Annotations[corev1.PodDeletionCost] = v
		case "owner":
			pod.OwnerReferences = []metav1.OwnerReference{controller.Reference(w.Get(newSet(v, 0)), "apps/v1", "ReplicaSet")}
		case "singleton":
			pod.Annotations[api.AnnotationSingleton] = v
		case "replaces":
			pod.Annotations[api.AnnotationReplaces] = string(w.Pod(v).UID)
		default:
			return fmt.Errorf("unknown setting %q", k)
		}
	}
	w.Put(pod)
	return nil
}

// TestVictims checks each rule of the order alone: the first pod of a pair must go.
func TestVictims(t *testing.T) {
	w := controllertest.New()
	now := w.Now.Add(time.Hour)
	base := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"},
			CreationTimestamp: metav1.NewTime(w.Now), Annotations: map[string]string{},
		}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
		return p
	}
	cases := map[string]struct{ worse, better func(*corev1.Pod) }{
		"unassigned":   {worse: func(p *corev1.Pod) { p.Spec.NodeName = "" }},
		"pending":      {worse: func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }},
		"not ready":    {worse: func(p *corev1.Pod) { p.Status.Conditions = nil }},
		"cost":         {better: func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = "5" }},
		"doubled":      {better: func(p *corev1.Pod) { p.Spec.NodeName = "n2" }},
		"ready since":  {worse: func(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Second)) }},
		"restarts":     {worse: func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 3}} }},
		"younger":      {worse: func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-time.Second)) }},
		"uid at a tie": {worse: func(p *corev1.Pod) { p.UID = "0" }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rs := newSet("web", 2)
			rs.UID = "rs"
			victim, kept, third := base("z-worse"), base("a-better"), base("b-third")
			third.Spec.NodeName = "n1"
			third.Annotations[corev1.PodDeletionCost] = "1000" // never the victim
			if c.worse != nil {
				c.worse(victim)
			}
			if c.better != nil {
				c.better(kept)
			}
			pods := []*corev1.Pod{kept, third, victim}
			for _, p := range pods {
				p.OwnerReferences = []metav1.OwnerReference{controller.Reference(rs, "apps/v1", "ReplicaSet")}
			}
			changes, _ := replicaset.Plan(&controller.Snapshot{Pods: pods, ReplicaSets: []*appsv1.ReplicaSet{rs}}, now)
			if got := deleted(changes); got != "z-worse" {
				t.Errorf("deleted %q, want z-worse", got)
			}
		})
	}
}

func deleted(changes []controller.Change) string {
	var names []string
	for _, c := range changes {
		if c.Verb == controller.Delete {
			names = append(names, c.Object.(*corev1.Pod).Name)
		}
	}
	return strings.Join(names, " ")
}

// TestCreatesOnce performs one plan twice: the second time every create must meet an existing pod.
func TestCreatesOnce(t *testing.T) {
	w := controllertest.New()
	w.Put(newSet("web", 50))
	changes, _ := replicaset.Plan(w.Snapshot(), w.Now)
	w.Perform(changes)
	w.Perform(changes)
	if got := len(w.Snapshot().Pods); got != 50 {
		t.Errorf("%d pods after the same plan was performed twice, want 50", got)
	}
	seen := map[string]bool{}
	for _, p := range w.Snapshot().Pods {
		suffix := strings.TrimPrefix(p.Name, "web-")
		if len(suffix) != 5 || seen[suffix] {
			t.Errorf("pod name %q: want web- and five letters of its own", p.Name)
		}
		seen[suffix] = true
	}
}
