package objects_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
)

func portService(name string, kind corev1.ServiceType, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: kind, Ports: ports, Selector: map[string]string{"app": name}},
	}
}

func TestNodePorts(t *testing.T) {
	e := newEnv(t)
	dns := create(t, e, portService("dns", corev1.ServiceTypeNodePort,
		corev1.ServicePort{Name: "tcp", Port: 53}, corev1.ServicePort{Name: "udp", Port: 53, Protocol: corev1.ProtocolUDP}, corev1.ServicePort{Name: "web", Port: 80}))
	p := dns.Spec.Ports
	if p[0].NodePort < 30086 || p[0].NodePort > 32767 || p[1].NodePort != p[0].NodePort || p[2].NodePort == p[0].NodePort || p[2].NodePort == 0 {
		t.Errorf("ports %+v", p)
	}
	if dns.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyCluster || dns.Spec.ClusterIP == "" {
		t.Errorf("policy %q, address %q", dns.Spec.ExternalTrafficPolicy, dns.Spec.ClusterIP)
	}
	_, err := e.Create(t.Context(), portService("b", corev1.ServiceTypeNodePort, corev1.ServicePort{Port: 80, NodePort: p[0].NodePort}), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, fmt.Sprintf("spec.ports[0].nodePort: Invalid value: %d: provided port is already allocated", p[0].NodePort))
	_, err = e.Create(t.Context(), portService("b", corev1.ServiceTypeNodePort, corev1.ServicePort{Port: 80, NodePort: 80}), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "provided port is not in the valid range. The range of valid ports is 30000-32767")
	lb := create(t, e, portService("lb", corev1.ServiceTypeLoadBalancer, corev1.ServicePort{Port: 80, NodePort: 30001}))
	if lb.Spec.Ports[0].NodePort != 30001 {
		t.Errorf("load balancer: %+v", lb.Spec.Ports)
	}
}

// TestNodePortsByType goes through the types as people do with kubectl apply: with a manifest that knows of no numbers.
func TestNodePortsByType(t *testing.T) {
	e := newEnv(t)
	first := create(t, e, portService("s", corev1.ServiceTypeNodePort, corev1.ServicePort{Port: 80}))
	number := first.Spec.Ports[0].NodePort
	update(t, e, portService("s", corev1.ServiceTypeNodePort, corev1.ServicePort{Name: "a", Port: 80}, corev1.ServicePort{Name: "b", Port: 81}))
	t.Run("a port keeps its number", func(t *testing.T) {
		s := update(t, e, portService("s", corev1.ServiceTypeLoadBalancer, corev1.ServicePort{Port: 80}))
		if s.Spec.Ports[0].NodePort != number || s.Spec.ClusterIP != first.Spec.ClusterIP {
			t.Errorf("%d, %s; not %d, %s", s.Spec.Ports[0].NodePort, s.Spec.ClusterIP, number, first.Spec.ClusterIP)
		}
	})
	t.Run("a cluster address has none", func(t *testing.T) {
		s := get(t, e, first, "default", "s")
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s = update(t, e, s)
		if s.Spec.Ports[0].NodePort != 0 || s.Spec.ExternalTrafficPolicy != "" || s.Spec.AllocateLoadBalancerNodePorts != nil {
			t.Errorf("%+v", s.Spec)
		}
	})
	t.Run("what was given back can be had", func(t *testing.T) {
		s := create(t, e, portService("other", corev1.ServiceTypeNodePort, corev1.ServicePort{Port: 80, NodePort: number}))
		if s.Spec.Ports[0].NodePort != number {
			t.Error(s.Spec.Ports)
		}
	})
	t.Run("a name has neither", func(t *testing.T) {
		s := get(t, e, first, "default", "other")
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.org"
		if s = update(t, e, s); s.Spec.ClusterIP != "" || s.Spec.Ports[0].NodePort != 0 {
			t.Errorf("%+v", s.Spec)
		}
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeNodePort, ""
		if s = update(t, e, s); s.Spec.ClusterIP == "" || s.Spec.Ports[0].NodePort == 0 {
			t.Errorf("%+v", s.Spec)
		}
	})
}
