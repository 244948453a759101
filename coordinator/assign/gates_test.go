package assign

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReadinessGates: the node learns of the conditions that the pod's readiness waits for, of nothing else in its status, and only when
// one changes.
func TestReadinessGates(t *testing.T) {
	w := newWorld(t)
	p := pod("p", "a")
	p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}, {ConditionType: "example.com/later"}}
	set := func(status corev1.ConditionStatus, probed time.Time) {
		p = p.DeepCopy()
		p.Status.Conditions = []corev1.PodCondition{
			{Type: "example.com/gate", Status: status, LastProbeTime: metav1.NewTime(probed)}, {Type: corev1.PodReady, Status: corev1.ConditionFalse, LastProbeTime: metav1.NewTime(probed)},
		}
		w.state.pods = []*corev1.Pod{p}
	}
	set(corev1.ConditionFalse, time.Unix(1, 0))
	must(t, w.Publisher.pass(t.Context()))
	w.stream.writes()
	set(corev1.ConditionFalse, time.Unix(2, 0))
	w.pass()
	set(corev1.ConditionTrue, time.Unix(2, 0))
	w.pass("put a/pod.uid-p", "put a/manifest")
	_, got := w.stream.assignment(t, "a", "uid-p")
	if c := got.Status.Conditions; len(c) != 1 || c[0].Type != "example.com/gate" || c[0].Status != corev1.ConditionTrue {
		t.Errorf("the node is told %+v", c)
	}
}
