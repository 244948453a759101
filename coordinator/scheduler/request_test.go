package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// TestLimitIsARequest: a controller's pod is placed as its template has it, before the API fills in the requests.
func TestLimitIsARequest(t *testing.T) {
	list := func(cpu, meters string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), "skerry.dev/meter": resource.MustParse(meters)}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Resources: corev1.ResourceRequirements{Limits: list("2", "1")}},
		{Resources: corev1.ResourceRequirements{Limits: list("3", "1"), Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}},
	}}}
	r := requestOf(pod)
	if r.cpu != 3000 || r.scoreCPU != 3000 || r.named["skerry.dev/meter"] != 2 {
		t.Errorf("request %+v", r)
	}
}
