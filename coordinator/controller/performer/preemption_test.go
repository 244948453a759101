package performer_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// TestPreemptionOnTheRealWritePath: a full cluster makes room for an important pod, the ReplicaSet's replacements wait,
// and then nothing is written any more.
func TestPreemptionOnTheRealWritePath(t *testing.T) {
	c := newCluster(t)
	c.node3()
	c.create(&schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: "important"}, Value: 1000})
	d := newDeployment("default", 6)
	d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("1") // fills the nodes
	c.create(d)
	c.wait("the cluster is full", rolledOut(6))
	high := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "high"}, Spec: corev1.PodSpec{
		PriorityClassName: "important", Containers: d.Spec.Template.Spec.Containers,
	}}
	c.create(high)
	c.wait("the important pod runs", func(s *controller.Snapshot) string {
		running, waiting := 0, 0
		for _, p := range s.Pods {
			switch {
			case p.Name == "high" && (p.Spec.NodeName == "" || p.Status.NominatedNodeName != "" || !controller.PodReady(p)):
				return fmt.Sprintf("high on %q, promised %q: %+v", p.Spec.NodeName, p.Status.NominatedNodeName, p.Status.Conditions)
			case p.Spec.NodeName == "":
				waiting++
			case controller.PodReady(p):
				running++
			}
		}
		if running != 6 || waiting != 1 {
			return fmt.Sprintf("%d run and %d wait", running, waiting)
		}
		return ""
	})
	c.rest("after preemption")
	preempted := 0
	for _, o := range c.Snapshot().Others[schema.GroupKind{Kind: "Event"}] {
		if e, ok := o.(*corev1.Event); ok && e.Reason == "Preempted" {
			preempted++
		}
	}
	if preempted != 1 {
		t.Errorf("%d pods were preempted, want 1", preempted)
	}
}
