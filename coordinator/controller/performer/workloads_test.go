package performer_test

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/controller"
	kinds "skerry.dev/skerry/coordinator/resource"
)

func template(name string, policy corev1.RestartPolicy) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "main", Image: "web:1"}}},
	}
}

// TestWorkloadsOnTheRealWritePath takes a Job, a DaemonSet and a StatefulSet through their lives over the real defaults,
// validation and strategies, and looks whether their plans come to rest.
func TestWorkloadsOnTheRealWritePath(t *testing.T) {
	c := newCluster(t)
	c.node3()
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
	selector := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	}
	three, indexed := int32(3), batchv1.IndexedCompletion
	c.create(&batchv1.Job{ObjectMeta: meta("work"), Spec: batchv1.JobSpec{
		Completions: &three, CompletionMode: &indexed, Template: template("work", corev1.RestartPolicyNever),
	}})
	c.create(&appsv1.DaemonSet{ObjectMeta: meta("agent"), Spec: appsv1.DaemonSetSpec{Selector: selector("agent"), Template: template("agent", corev1.RestartPolicyAlways)}})
	c.create(&appsv1.StatefulSet{ObjectMeta: meta("db"), Spec: appsv1.StatefulSetSpec{
		Replicas: &three, Selector: selector("db"), ServiceName: "db", Template: template("db", corev1.RestartPolicyAlways),
	}})
	c.wait("job complete", func(s *controller.Snapshot) string {
		if j := s.Jobs[0]; j.Status.CompletionTime == nil || j.Status.CompletedIndexes != "0-2" {
			return fmt.Sprintf("%+v", j.Status)
		}
		return ""
	})
	c.wait("sets ready", updated(1))
	c.rest("when all is reached")
	for _, o := range []controller.Object{&appsv1.DaemonSet{}, &appsv1.StatefulSet{}} {
		name := map[bool]string{true: "agent", false: "db"}[kinds.ForObject(o).Plural == "daemonsets"]
		if _, err := c.objects.Mutate(t.Context(), kinds.ForObject(o), "default", name, setImage); err != nil {
			t.Fatal(err)
		}
	}
	c.wait("sets updated", updated(2))
	c.rest("after the update")
	if n := len(c.Snapshot().Revisions); n != 4 {
		t.Errorf("%d revisions, want two of each set", n)
	}
}

func setImage(o runtime.Object) bool {
	switch o := o.(type) {
	case *appsv1.DaemonSet:
		o.Spec.Template.Spec.Containers[0].Image = "web:2"
	case *appsv1.StatefulSet:
		o.Spec.Template.Spec.Containers[0].Image = "web:2"
	}
	return true
}

func updated(generation int64) func(*controller.Snapshot) string {
	return func(s *controller.Snapshot) string {
		d, b := s.DaemonSets[0].Status, s.StatefulSets[0].Status
		if d.ObservedGeneration != generation || d.UpdatedNumberScheduled != 3 || d.NumberAvailable != 3 ||
			b.ObservedGeneration != generation || b.UpdatedReplicas != 3 || b.AvailableReplicas != 3 || b.CurrentRevision != b.UpdateRevision {
			return fmt.Sprintf("%+v; %+v", d, b)
		}
		return ""
	}
}
