package volume

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestKernelName(t *testing.T) {
	yes, other := true, "other.example"
	long := strings.Repeat("x", 70)
	for name, c := range map[string]struct {
		spec             corev1.PodSpec
		pod              string
		kernel, hosts, e string
	}{
		"plain":     {corev1.PodSpec{}, "p", "p", "p", ""},
		"long":      {corev1.PodSpec{}, long, long[:63], long[:63], ""},
		"hostname":  {corev1.PodSpec{Hostname: "h"}, "p", "h", "h", ""},
		"subdomain": {corev1.PodSpec{Hostname: "h", Subdomain: "s"}, "p", "h", "h.s.ns.svc.cluster.local\th", ""},
		"full":      {corev1.PodSpec{Hostname: "h", Subdomain: "s", SetHostnameAsFQDN: &yes}, "p", "h.s.ns.svc.cluster.local", "h.s.ns.svc.cluster.local\th", ""},
		"no domain": {corev1.PodSpec{Hostname: "h", SetHostnameAsFQDN: &yes}, "p", "h", "h", ""},
		"override":  {corev1.PodSpec{Hostname: "h", Subdomain: "s", HostnameOverride: &other, SetHostnameAsFQDN: &yes}, "p", other, other, ""},
		"fits":      {corev1.PodSpec{Subdomain: long[:41], SetHostnameAsFQDN: &yes}, "p", "p." + long[:41] + ".ns.svc.cluster.local", "p." + long[:41] + ".ns.svc.cluster.local\tp", ""},
		"by one":    {corev1.PodSpec{Subdomain: long[:41], SetHostnameAsFQDN: &yes}, "pq", "", "pq." + long[:41] + ".ns.svc.cluster.local\tpq", "is too long (64 characters is the max, 65 characters requested)"},
	} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: c.pod, Namespace: "ns"}, Spec: c.spec}
		kernel, err := KernelName(p)
		if c.e == "" && err != nil || c.e != "" && (err == nil || !strings.Contains(err.Error(), c.e)) || kernel != c.kernel {
			t.Errorf("%s: %q, %v, want %q, %q", name, kernel, err, c.kernel, c.e)
		}
		if got := hostNames(p); got != c.hosts {
			t.Errorf("%s: hosts say %q, want %q", name, got, c.hosts)
		}
	}
}
