package controller_test

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/deployment"
	"skerry.dev/skerry/coordinator/controller/endpoints"
	"skerry.dev/skerry/coordinator/controller/garbage"
	"skerry.dev/skerry/coordinator/controller/nodelifecycle"
	"skerry.dev/skerry/coordinator/controller/rebalance"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/scheduler"
)

// everybody is the controllers as the coordinator runs them.
func everybody() []controller.Controller {
	all := []controller.Controller{
		nodelifecycle.Controller(nodelifecycle.Options{}), deployment.Controller(), replicaset.Controller(), endpoints.Controller(), rebalance.Controller(rebalance.Options{}),
	}
	return append(all, garbage.Controller(garbage.Options{})...)
}

func newNode(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("32Gi"), corev1.ResourcePods: resource.MustParse("110")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	quarter := intstr.FromString("25%")
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &quarter, MaxUnavailable: &quarter}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "main", Image: "web", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			}}}},
		},
	}
}

// round performs one pass as the shell does, and reports whether anything was to do.
func round(w *controllertest.World) bool {
	s := w.Snapshot()
	var changes []controller.Change
	for _, c := range everybody() {
		more, _ := c.Plan(s, w.Now)
		changes = append(changes, more...)
	}
	changes = scheduler.Finish(s, changes, w.Now)
	w.Perform(changes)
	return len(changes) > 0
}

// run makes what nodes do (pods get ready, deleted ones go) and rounds alternate until nothing happens.
func run(tb testing.TB, w *controllertest.World, check func()) {
	tb.Helper()
	for range 200 {
		busy := round(w)
		for _, p := range w.Snapshot().Pods {
			if p.DeletionTimestamp != nil && w.Liveness[p.Spec.NodeName].Heard.Equal(w.Now) {
				w.Remove(p)
				busy = true
				continue
			}
			p = p.DeepCopy()
			p.Status.Phase, p.Status.PodIP = corev1.PodRunning, "10.42.0.1"
			if p.Spec.NodeName != "" && controller.PodCondition(p, corev1.PodReady) == nil {
				controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
				w.Put(p)
				busy = true
			}
		}
		check()
		if !busy {
			return
		}
	}
	tb.Fatal("the controllers together do not come to rest")
}

func hear(w *controllertest.World, names ...string) {
	for _, name := range names {
		w.Liveness[name] = controller.Liveness{Heard: w.Now}
	}
}

// TestStory is a Deployment's life with all controllers together: rolled out over three nodes, one lost and replaced,
// back and given its share, a new version without ever falling below what is allowed, and everything gone at the end.
func TestStory(t *testing.T) {
	w := controllertest.New()
	nodes := []string{"n1", "n2", "n3"}
	for _, name := range nodes {
		w.Put(newNode(name))
	}
	w.Now = w.Now.Add(time.Hour)
	hear(w, nodes...)
	w.Put(newDeployment("web", 6))
	run(t, w, func() {})
	expect(t, w, "rolled out", map[string]int{"n1": 2, "n2": 2, "n3": 2})

	w.Now = w.Now.Add(20 * time.Second)
	hear(w, "n1", "n2")
	run(t, w, func() {})
	w.Now = w.Now.Add(10 * time.Second) // no toleration in this template: evicted after one heartbeat
	hear(w, "n1", "n2")
	run(t, w, func() {})
	expect(t, w, "one node lost", map[string]int{"n1": 3, "n2": 3})

	for range 12 {
		w.Now = w.Now.Add(10 * time.Second)
		hear(w, nodes...)
		run(t, w, func() { atLeast(t, w, 6) })
	}
	expect(t, w, "the node is back", map[string]int{"n1": 2, "n2": 2, "n3": 2})

	d := w.Get(newDeployment("web", 6)).(*appsv1.Deployment).DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = "web:2"
	w.Put(d)
	run(t, w, func() { atLeast(t, w, 5) })
	expect(t, w, "second version", map[string]int{"n1": 2, "n2": 2, "n3": 2})

	w.Remove(d)
	run(t, w, func() {})
	if s := w.Snapshot(); len(s.Pods)+len(s.ReplicaSets) != 0 {
		t.Errorf("%d pods and %d replica sets after the deployment was deleted", len(s.Pods), len(s.ReplicaSets))
	}
}

func expect(t *testing.T, w *controllertest.World, when string, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for _, p := range w.Snapshot().Pods {
		if controller.PodActive(p) && controller.PodReady(p) {
			got[p.Spec.NodeName]++
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: ready pods %v, want %v", when, got, want)
	}
}

func atLeast(t *testing.T, w *controllertest.World, want int) {
	t.Helper()
	ready := 0
	for _, p := range w.Snapshot().Pods {
		if controller.PodActive(p) && controller.PodReady(p) {
			ready++
		}
	}
	if ready < want {
		t.Fatalf("%d pods ready, want never less than %d", ready, want)
	}
}

// BenchmarkPass is a pass over an unchanged state: 10,000 pods of 200 Deployments on 500 nodes. "every plan" is what a
// change of one pod costs; "nothing changed" is what the shell really does then.
func BenchmarkPass(b *testing.B) {
	w := controllertest.New()
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprintf("n%03d", i))
		w.Put(newNode(names[i]))
	}
	hear(w, names...)
	for i := range 200 {
		w.Put(newDeployment(fmt.Sprintf("d%03d", i), 50))
	}
	run(b, w, func() {})
	s := w.Snapshot()
	for _, c := range everybody() {
		b.Run(c.Name, func(b *testing.B) {
			for b.Loop() {
				c.Plan(s, w.Now)
			}
		})
	}
	b.Run("finish", func(b *testing.B) {
		for b.Loop() {
			scheduler.Finish(s, nil, w.Now)
		}
	})
}
