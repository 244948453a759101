package validation_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/objects/validation"
)

// A change of a pod's metadata is not judged by the rules for what it runs, but each that they know of is.
func TestPodUpdates(t *testing.T) {
	v, err := validation.New()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*corev1.Pod)
		want   string // "" for no error
	}{
		{"nothing", func(*corev1.Pod) {}, ""},
		{"label and annotation", func(p *corev1.Pod) { p.Labels, p.Annotations["note"] = map[string]string{"a": "b"}, "new" }, ""},
		{"a list that is empty instead of missing", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{} }, ""},
		{"node name", func(p *corev1.Pod) { p.Spec.NodeName = "other" }, "spec"},
		{"limits", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits["memory"] = resource.MustParse("2Gi") }, "spec"},
		{"image", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "" }, "spec.containers[0].image"},
		{"mirror annotation", func(p *corev1.Pod) { p.Annotations[corev1.MirrorPodAnnotationKey] = "x" }, "metadata.annotations[kubernetes.io/config.mirror]"},
		{
			"an annotation of upstream's that goes", func(p *corev1.Pod) { delete(p.Annotations, "container.apparmor.security.beta.kubernetes.io/main") },
			"metadata.annotations[container.apparmor.security.beta.kubernetes.io/main]",
		},
		{"bad deletion cost", func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = "much" }, "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			old := validPod()
			pod := old.DeepCopy()
			tt.change(pod)
			errs := v.Update(schema.GroupKind{Kind: "Pod"}, pod, old)
			if (len(errs) > 0) != (tt.want != "") || len(errs) > 0 && errs[0].Field != tt.want {
				t.Errorf("errors %v, want one of %q", errs, tt.want)
			}
		})
	}
}

func validPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", ResourceVersion: "1", Annotations: map[string]string{
			"note": "old", "container.apparmor.security.beta.kubernetes.io/main": "runtime/default",
		}},
		Spec: corev1.PodSpec{
			NodeName: "one", RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name: "main", Image: "i", ImagePullPolicy: corev1.PullAlways, TerminationMessagePath: "/m", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse("1Gi")}},
			}},
		},
	}
}
