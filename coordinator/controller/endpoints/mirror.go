package endpoints

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// MirroredBy marks the slices that are made from Endpoints which somebody keeps by hand, as upstream does.
const MirroredBy = "endpointslicemirroring-controller.k8s.io"

const (
	// leaderAnnotation is that of Endpoints which only hold an old leader election.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
	// mirrorLimit bounds the addresses of one subset, and of one slice.
	mirrorLimit = 1000
)

// mirror gives every Service without a selector slices of the Endpoints under its name, and removes those that have none.
func (p *planner) mirror() {
	left := map[string]*discoveryv1.EndpointSlice{}
	for _, slice := range p.s.EndpointSlices {
		if slice.Labels[discoveryv1.LabelManagedBy] == MirroredBy {
			left[slice.Namespace+"/"+slice.Name] = slice
		}
	}
	for _, svc := range p.s.Services {
		e := p.stored.legacy[serviceKey(svc.Namespace, svc.Name)]
		if e == nil || !mirrored(svc, e) || p.closing[svc.Namespace] {
			continue
		}
		for _, want := range mirrorSlices(e) {
			key := want.Namespace + "/" + want.Name
			have := left[key]
			delete(left, key)
			p.put(have, want)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(left)) {
		p.remove(left[key])
	}
}

func mirrored(svc *corev1.Service, e *legacyEndpoints) bool {
	_, leader := e.Annotations[leaderAnnotation]
	return len(svc.Spec.Selector) == 0 && svc.DeletionTimestamp == nil && e.DeletionTimestamp == nil &&
		e.Labels[discoveryv1.LabelSkipMirror] != "true" && e.Labels[legacyLabel] != legacyManager && !leader
}

func (p *planner) put(have, want *discoveryv1.EndpointSlice) {
	switch {
	case have == nil:
		p.changes = append(p.changes, controller.Change{Verb: controller.Create, Object: want})
	case !equality.Semantic.DeepEqual(have.Endpoints, want.Endpoints) || !maps.Equal(have.Labels, want.Labels) || !maps.Equal(have.Annotations, want.Annotations):
		updated := have.DeepCopy()
		updated.Endpoints, updated.Labels, updated.Annotations = want.Endpoints, want.Labels, want.Annotations
		p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: updated})
	}
}

// mirrorSlices are the slices for Endpoints, named after what they hold, so that planning twice names the same.
func mirrorSlices(e *legacyEndpoints) []*discoveryv1.EndpointSlice {
	groups := map[string]*group{}
	for i := range e.Subsets {
		addSubset(groups, &e.Subsets[i])
	}
	var all []*discoveryv1.EndpointSlice
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		n := 0
		for part := range slices.Chunk(groups[key].endpoints, mirrorLimit) {
			slice := mirrorSlice(e, groups[key], part)
			slice.Name = sliceName(e.Name, string(e.UID), key, n)
			all = append(all, slice)
			n++
		}
	}
	return all
}

func addSubset(groups map[string]*group, s *corev1.EndpointSubset) { //nolint:staticcheck // see legacyEndpoints
	ports := make([]discoveryv1.EndpointPort, 0, len(s.Ports))
	for _, port := range s.Ports {
		ports = append(ports, discoveryv1.EndpointPort{Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol, AppProtocol: port.AppProtocol})
	}
	count := 0
	add := func(addresses []corev1.EndpointAddress, ready bool) {
		for _, a := range addresses {
			address, err := netip.ParseAddr(a.IP)
			if err != nil || count == mirrorLimit {
				continue
			}
			count++
			g := &group{family: discoveryv1.AddressTypeIPv4, ports: ports}
			if address.Is6() {
				g.family = discoveryv1.AddressTypeIPv6
			}
			if known := groups[g.key()]; known != nil {
				g = known
			}
			groups[g.key()] = g
			endpoint := discoveryv1.Endpoint{
				Addresses: []string{address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
				TargetRef: a.TargetRef, NodeName: a.NodeName,
			}
			if a.Hostname != "" {
				endpoint.Hostname = &a.Hostname
			}
			g.endpoints = append(g.endpoints, endpoint)
		}
	}
	add(s.Addresses, true)
	add(s.NotReadyAddresses, false)
}

func mirrorSlice(e *legacyEndpoints, g *group, part []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: e.Namespace, Labels: map[string]string{}, OwnerReferences: []metav1.OwnerReference{controller.Reference(e, "v1", "Endpoints")},
		},
		AddressType: g.family, Ports: g.ports, Endpoints: part,
	}
	maps.Copy(slice.Labels, e.Labels)
	slice.Labels[discoveryv1.LabelServiceName], slice.Labels[discoveryv1.LabelManagedBy] = e.Name, MirroredBy
	for name, value := range e.Annotations {
		if name != corev1.EndpointsLastChangeTriggerTime && name != corev1.LastAppliedConfigAnnotation {
			metav1.SetMetaDataAnnotation(&slice.ObjectMeta, name, value)
		}
	}
	slices.SortFunc(slice.Endpoints, func(a, b discoveryv1.Endpoint) int { return cmp.Compare(a.Addresses[0], b.Addresses[0]) })
	return slice
}
