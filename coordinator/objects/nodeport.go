package objects

import (
	"fmt"
	"hash/fnv"
	"iter"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/view"
)

// Ports that services have on every node, upstream's default range. The first ones are left to those who name one.
const (
	firstNodePort = 30000
	lastNodePort  = 32767
	fixedPorts    = 86
)

// needsNodePorts reports whether every node forwards ports of its own to the service.
func needsNodePorts(svc *corev1.Service) bool {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		return svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts
	}
	return svc.Spec.Type == corev1.ServiceTypeNodePort
}

func isExternal(svc *corev1.Service) bool {
	switch svc.Spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		return true
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeExternalName:
	}
	return svc.Spec.Type == corev1.ServiceTypeClusterIP && len(svc.Spec.ExternalIPs) > 0
}

// servicePort tells a service's ports apart.
type servicePort struct {
	protocol corev1.Protocol
	port     int32
}

// keepNodePorts gives ports that the client has left without a number the one that they had.
func keepNodePorts(svc, old *corev1.Service) {
	if !needsNodePorts(svc) || !needsNodePorts(old) {
		return
	}
	had, used := map[servicePort]int32{}, map[servicePort]bool{}
	for _, p := range old.Spec.Ports {
		had[servicePort{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range svc.Spec.Ports {
		used[servicePort{p.Protocol, p.NodePort}] = true
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if number := had[servicePort{p.Protocol, p.Port}]; p.NodePort == 0 && !used[servicePort{p.Protocol, number}] {
			p.NodePort = number
		}
	}
}

// dropNodePorts clears what only another type has, unless the client changed it too.
func dropNodePorts(svc, old *corev1.Service) {
	if needsNodePorts(old) && !needsNodePorts(svc) && sameNodePorts(svc, old) {
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = 0
		}
	}
	if isExternal(old) && !isExternal(svc) && svc.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		svc.Spec.ExternalTrafficPolicy = ""
	}
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer || old.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	svc.Spec.AllocateLoadBalancerNodePorts, svc.Spec.HealthCheckNodePort = nil, 0
	if svc.Spec.LoadBalancerClass != nil && old.Spec.LoadBalancerClass != nil && *svc.Spec.LoadBalancerClass == *old.Spec.LoadBalancerClass {
		svc.Spec.LoadBalancerClass = nil
	}
}

func sameNodePorts(a, b *corev1.Service) bool {
	set := func(svc *corev1.Service) map[int32]bool {
		out := map[int32]bool{}
		for _, p := range svc.Spec.Ports {
			out[p.NodePort] = true
		}
		return out
	}
	have, before := set(a), set(b)
	for number := range have {
		if !before[number] {
			return false
		}
	}
	return len(have) == len(before)
}

// allocateNodePorts gives a number to each port that has none. Ports of one number, for TCP and UDP, share theirs.
func (s *Store) allocateNodePorts(svc, old *corev1.Service) (*reservation, field.ErrorList) {
	if !needsNodePorts(svc) {
		return nil, nil
	}
	var got *reservation
	mine := map[int32]bool{} // numbers that this service has already, or is given now
	if old != nil {
		for _, p := range old.Spec.Ports {
			mine[p.NodePort] = true
		}
	}
	shared := map[int32]int32{} // by the service's port
	for i := range svc.Spec.Ports {
		r, errs := s.allocateNodePort(svc, i, mine, shared)
		if len(errs) > 0 {
			got.settle(errs.ToAggregate())
			return nil, errs
		}
		got = got.and(r)
	}
	return got, nil
}

func (s *Store) allocateNodePort(svc *corev1.Service, i int, mine map[int32]bool, shared map[int32]int32) (r *reservation, errs field.ErrorList) {
	p := &svc.Spec.Ports[i]
	path := field.NewPath("spec", "ports").Index(i).Child("nodePort")
	switch number := shared[p.Port]; {
	case p.NodePort == 0 && number != 0:
		p.NodePort = number
	case p.NodePort == 0:
		if r = s.nodePorts.claim(nodePortsUsed(s.view), anyNodePort(fmt.Sprint(svc.UID, i))); r == nil {
			return nil, field.ErrorList{field.InternalError(path, fmt.Errorf("failed to allocate a nodePort: range is full"))}
		}
		p.NodePort = int32(r.index) //nolint:gosec // it is a port
	case mine[p.NodePort]:
	case p.NodePort < firstNodePort || p.NodePort > lastNodePort:
		return nil, field.ErrorList{field.Invalid(path, p.NodePort, fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %d-%d", firstNodePort, lastNodePort))}
	default:
		if r = s.nodePorts.claim(nodePortsUsed(s.view), single(uint32(p.NodePort))); r == nil { //nolint:gosec // it is a port
			return nil, field.ErrorList{field.Invalid(path, p.NodePort, "provided port is already allocated")}
		}
	}
	mine[p.NodePort], shared[p.Port] = true, p.NodePort
	return r, nil
}

// anyNodePort are all ports, from a place that depends on seed, those that people name last.
func anyNodePort(seed string) iter.Seq[uint32] {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed)) // never fails
	const first = firstNodePort + fixedPorts
	const span = lastNodePort + 1 - first
	return func(yield func(uint32) bool) {
		for i := range uint32(span) {
			if !yield(first + (h.Sum32()%span+i)%span) {
				return
			}
		}
		for p := uint32(firstNodePort); p < first; p++ {
			if !yield(p) {
				return
			}
		}
	}
}

func nodePortsUsed(v *view.View) func() map[uint32]bool {
	return func() map[uint32]bool {
		items, _ := v.List(services, "")
		taken := map[uint32]bool{}
		for _, i := range items {
			if svc, ok := i.Object.(*corev1.Service); ok {
				for _, p := range svc.Spec.Ports {
					taken[uint32(p.NodePort)] = true //nolint:gosec // it is a port
				}
			}
		}
		return taken
	}
}
