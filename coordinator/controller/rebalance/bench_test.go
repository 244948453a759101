package rebalance_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/rebalance"
)

// BenchmarkPlan looks at 10,000 pods of 200 owners on 500 nodes that are in balance.
func BenchmarkPlan(b *testing.B) {
	w := controllertest.New()
	for i := range 500 {
		if err := node(w, []string{fmt.Sprintf("n%03d", i)}); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 200 {
		rs := newSet(fmt.Sprintf("s%03d", i), 50)
		rs.UID = types.UID(rs.Name)
		rs.Status.Replicas, rs.Status.AvailableReplicas, rs.Status.ObservedGeneration = 50, 50, 1
		w.Put(rs)
		for k := range 50 {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("s%03d-%02d", i, k), OwnerReferences: []metav1.OwnerReference{controller.Reference(rs, "apps/v1", "ReplicaSet")}}}
			p.Spec = *rs.Spec.Template.Spec.DeepCopy()
			p.Spec.NodeName = fmt.Sprintf("n%03d", (i*50+k)%500)
			p.Status.Phase = corev1.PodRunning
			controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, w.Now)
			w.Put(p)
		}
	}
	s := w.Snapshot()
	plan := rebalance.Controller(rebalance.Options{}).Plan
	b.ReportAllocs()
	for b.Loop() {
		if changes, _ := plan(s, w.Now); len(changes) != 0 {
			b.Fatalf("changes on a balanced fleet: %v", changes[0])
		}
	}
}
