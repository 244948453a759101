package objects_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/resource"
)

func kindOf(t testing.TB, group, version, plural string) *resource.Resource {
	t.Helper()
	res := resource.Lookup(group, version, plural)
	if res == nil {
		t.Fatalf("%s/%s %s is not served", group, version, plural)
	}
	return res
}

func podsOf(t testing.TB) *resource.Resource     { t.Helper(); return kindOf(t, "", "v1", "pods") }
func servicesOf(t testing.TB) *resource.Resource { t.Helper(); return kindOf(t, "", "v1", "services") }

func configMapsOf(t testing.TB) *resource.Resource {
	t.Helper()
	return kindOf(t, "", "v1", "configmaps")
}

func eventsCore(t testing.TB) *resource.Resource { t.Helper(); return kindOf(t, "", "v1", "events") }

func eventsV1(t testing.TB) *resource.Resource {
	t.Helper()
	return kindOf(t, "events.k8s.io", "v1", "events")
}

func deploymentsOf(t testing.TB) *resource.Resource {
	t.Helper()
	return kindOf(t, "apps", "v1", "deployments")
}

func limits(memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceMemory: quantity.MustParse(memory)}
}

func clusterService(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}
