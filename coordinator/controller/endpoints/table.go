package endpoints

import (
	"cmp"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// Table is what every node's proxy needs: the ports of all Services that have a cluster address, with the endpoints that
// take traffic now, what DNS says of the others, and where each node's pods are. It is made from the pods themselves, so that it does not wait for
// the EndpointSlices to be written; Services without a selector take the slices that somebody else keeps for them.
// Epoch, Generation and the networks are the caller's to fill in. Equal snapshots make equal tables.
func Table(s *controller.Snapshot) messaging.ServiceTable {
	var t messaging.ServiceTable
	pods, foreign := newIndex(s), foreignSlices(s)
	for _, svc := range s.Services {
		if routed(svc) {
			t.Services = append(t.Services, servicePorts(svc, pods, foreign)...)
		}
		if named(svc) {
			t.Names = append(t.Names, serviceName(svc, pods, foreign))
		}
	}
	for _, n := range s.Nodes {
		if route, ok := nodeRoute(n); ok {
			t.Nodes = append(t.Nodes, route)
		}
	}
	return t
}

// routed reports whether the service has a virtual address.
func routed(svc *corev1.Service) bool {
	ip := svc.Spec.ClusterIP
	return ip != "" && ip != corev1.ClusterIPNone && svc.Spec.Type != corev1.ServiceTypeExternalName && svc.DeletionTimestamp == nil
}

func foreignSlices(s *controller.Snapshot) map[types.NamespacedName][]*discoveryv1.EndpointSlice {
	found := map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for _, slice := range s.EndpointSlices {
		if slice.Labels[discoveryv1.LabelManagedBy] != ManagedBy {
			key := serviceKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
			found[key] = append(found[key], slice)
		}
	}
	return found
}

func servicePorts(svc *corev1.Service, pods *index, foreign map[types.NamespacedName][]*discoveryv1.EndpointSlice) []messaging.ServicePort {
	var ports []messaging.ServicePort
	var mine []*corev1.Pod
	if managed(svc) {
		mine = pods.of(svc)
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		var c candidates
		for _, pod := range mine {
			if number, ok := targetPort(pod, port); ok {
				c.add(readinessOf(svc, pod), pod.Status.PodIP, number)
			}
		}
		if !managed(svc) {
			c.addSlices(foreign[serviceKey(svc.Namespace, svc.Name)], port.Name)
		}
		ports = append(ports, messaging.ServicePort{
			Namespace: svc.Namespace, Name: svc.Name, Protocol: string(protocol(port.Protocol)), ClusterIP: svc.Spec.ClusterIP,
			Port: uint16(port.Port), PortName: port.Name, NodePort: uint16(port.NodePort), Local: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal,
			Affinity: svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP, Endpoints: c.usable(),
			External: svc.Spec.ExternalIPs, Own: ptr.Deref(svc.Spec.InternalTrafficPolicy, "") == corev1.ServiceInternalTrafficPolicyLocal,
		})
	}
	return ports
}

// candidates are the endpoints of one port.
type candidates struct{ ready, leaving []string }

func (c *candidates) add(r readiness, ip string, port int32) {
	address := hostPort(ip, port)
	switch {
	case r.ready:
		c.ready = append(c.ready, address)
	case r.serving && r.terminating:
		c.leaving = append(c.leaving, address)
	}
}

func hostPort(ip string, port int32) string {
	if isIPv6(ip) {
		ip = "[" + ip + "]"
	}
	return ip + ":" + strconv.Itoa(int(port))
}

func (c *candidates) addSlices(list []*discoveryv1.EndpointSlice, port string) {
	for _, slice := range list {
		number, ok := slicePort(slice, port)
		if !ok {
			continue
		}
		for _, e := range slice.Endpoints {
			r := readiness{ready: isTrue(e.Conditions.Ready, true), serving: isTrue(e.Conditions.Serving, true), terminating: isTrue(e.Conditions.Terminating, false)}
			for _, ip := range e.Addresses[:min(1, len(e.Addresses))] {
				c.add(r, ip, number)
			}
		}
	}
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) (int32, bool) {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
			return *p.Port, true
		}
	}
	return 0, false
}

func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}

// usable are the ready endpoints, sorted; when there is none, those that are leaving but still answer, as upstream's
// proxies do.
func (c *candidates) usable() []string {
	use := c.ready
	if len(use) == 0 {
		use = c.leaving
	}
	slices.Sort(use)
	return slices.Compact(use)
}

// nodeRoute is false for a node that has no pod network or no address yet.
func nodeRoute(n *corev1.Node) (messaging.NodeRoute, bool) {
	address := n.Annotations[api.AnnotationNodeAddress]
	if address == "" {
		address = internalIP(n)
	}
	return messaging.NodeRoute{Node: n.Name, Address: address, PodCIDR: n.Spec.PodCIDR}, address != "" && n.Spec.PodCIDR != ""
}

func internalIP(n *corev1.Node) string {
	found := slices.Clone(n.Status.Addresses)
	slices.SortFunc(found, func(a, b corev1.NodeAddress) int { return cmp.Compare(a.Address, b.Address) })
	for _, a := range found {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}
