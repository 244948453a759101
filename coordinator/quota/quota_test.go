package quota_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/quota"
)

func hard(list corev1.ResourceList) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: list}}
}

func service(kind corev1.ServiceType, ports int) *corev1.Service {
	return &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, Ports: make([]corev1.ServicePort, ports)}}
}

// A Service that becomes one with node ports asks for as many as it comes to have more.
func TestChangeOfService(t *testing.T) {
	q := hard(corev1.ResourceList{corev1.ResourceServicesNodePorts: resource.MustParse("3"), corev1.ResourceServices: resource.MustParse("1")})
	others := corev1.ResourceList{corev1.ResourceServicesNodePorts: resource.MustParse("1")}
	for name, test := range map[string]struct {
		from, to *corev1.Service
		words    string
	}{
		"stays inside":   {service(corev1.ServiceTypeClusterIP, 5), service(corev1.ServiceTypeClusterIP, 9), ""},
		"as many as fit": {service(corev1.ServiceTypeClusterIP, 2), service(corev1.ServiceTypeNodePort, 2), ""},
		"one too many": {
			service(corev1.ServiceTypeNodePort, 1), service(corev1.ServiceTypeNodePort, 3),
			"exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=3",
		},
		"fewer than before": {service(corev1.ServiceTypeNodePort, 9), service(corev1.ServiceTypeLoadBalancer, 8), ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := quota.Check(q, test.to, test.from, others, time.Now())
			if test.words == "" && err != nil || test.words != "" && (err == nil || err.Error() != test.words) {
				t.Errorf("got %v, want %q", err, test.words)
			}
		})
	}
}

func TestPodUse(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	grace := int64(30)
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}},
		Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), "example.com/gpu": resource.MustParse("2"), "hugepages-2Mi": resource.MustParse("4Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		}}},
	}}
	full := "count/pods=1,cpu=3,hugepages-2Mi=4Mi,limits.memory=1Gi,pods=1,requests.cpu=3,requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi"
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"runs":  {func(*corev1.Pod) {}, full},
		"ended": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, "count/pods=1"},
		"stops": {func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now}, &grace
		}, full},
		"should be gone": {func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: now.Add(-time.Minute)}, &grace
		}, "count/pods=1"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod.DeepCopy()
			test.change(p)
			if got := quota.Words(quota.Used(p, now)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
	if quota.Used(&corev1.Node{}, now) != nil {
		t.Error("a node is in no namespace and uses nothing")
	}
}
