package endpoints

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
)

// ManagedBy is the label value of the slices that this package writes; it is upstream's, so that tools that look for the
// control plane's slices find them.
const ManagedBy = "endpointslice-controller.k8s.io"

// perSlice is how many endpoints one slice holds, as upstream's default.
const perSlice = 100

// stored are the snapshot's objects by service.
type stored struct {
	slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
	legacy map[types.NamespacedName]*corev1.Endpoints //nolint:staticcheck // still what old clients read
	names  map[types.NamespacedName]bool              // of all slices
}

func (p *planner) indexStored() {
	p.stored = stored{
		slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		legacy: map[types.NamespacedName]*corev1.Endpoints{}, //nolint:staticcheck // still what old clients read
		names:  map[types.NamespacedName]bool{},
	}
	for _, slice := range p.s.EndpointSlices {
		p.stored.names[serviceKey(slice.Namespace, slice.Name)] = true
		if slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy {
			key := serviceKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])
			p.stored.slices[key] = append(p.stored.slices[key], slice)
		}
	}
	for _, e := range p.s.Endpoints {
		p.stored.legacy[serviceKey(e.Namespace, e.Name)] = e
	}
}

// group is the endpoints of a service that have the same ports and address family, which one slice can hold.
type group struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

func (g *group) key() string {
	raw, err := json.Marshal(g.ports)
	if err != nil {
		panic(fmt.Sprintf("endpoint ports: %v", err)) // plain data always marshals
	}
	return string(g.family) + string(raw)
}

// slices brings the service's slices in line with its pods, with as few writes as that takes.
func (p *planner) slices(svc *corev1.Service) {
	have := map[string][]*discoveryv1.EndpointSlice{}
	for _, slice := range p.stored.slices[serviceKey(svc.Namespace, svc.Name)] {
		g := group{family: slice.AddressType, ports: slice.Ports}
		have[g.key()] = append(have[g.key()], slice)
	}
	for _, g := range p.groups(svc) {
		p.pack(svc, g, have[g.key()])
		delete(have, g.key())
	}
	for _, rest := range have {
		for _, slice := range rest {
			p.remove(slice)
		}
	}
}

// groups are never none: a service without pods has one empty slice.
func (p *planner) groups(svc *corev1.Service) []*group {
	byKey := map[string]*group{}
	var order []*group
	for _, pod := range p.pods.of(svc) {
		g := &group{family: discoveryv1.AddressTypeIPv4, ports: slicePorts(svc, pod)}
		if isIPv6(pod.Status.PodIP) {
			g.family = discoveryv1.AddressTypeIPv6
		}
		if known := byKey[g.key()]; known != nil {
			g = known
		} else {
			byKey[g.key()] = g
			order = append(order, g)
		}
		g.endpoints = append(g.endpoints, p.endpoint(svc, pod))
	}
	if len(order) == 0 {
		order = []*group{{family: serviceFamily(svc)}}
	}
	return order
}

func serviceFamily(svc *corev1.Service) discoveryv1.AddressType {
	if len(svc.Spec.IPFamilies) > 0 && svc.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}

func slicePorts(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		number, ok := targetPort(pod, port)
		if !ok {
			continue
		}
		name, proto := port.Name, protocol(port.Protocol)
		ports = append(ports, discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: &proto, AppProtocol: port.AppProtocol})
	}
	return ports
}

func (p *planner) endpoint(svc *corev1.Service, pod *corev1.Pod) discoveryv1.Endpoint {
	r := readinessOf(svc, pod)
	e := discoveryv1.Endpoint{
		Addresses:  []string{pod.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &r.ready, Serving: &r.serving, Terminating: &r.terminating},
		Hostname:   hostname(svc, pod), TargetRef: podTarget(pod), NodeName: nodeName(pod),
	}
	if zone := p.zones[pod.Spec.NodeName]; zone != "" {
		e.Zone = &zone
	}
	return e
}

// pack puts the group's endpoints into slices: each endpoint stays in the slice that has it, new ones fill the slices
// with room, the rest make new slices, and slices left empty go, but for the last.
func (p *planner) pack(svc *corev1.Service, g *group, slices []*discoveryv1.EndpointSlice) {
	fresh := map[types.UID]discoveryv1.Endpoint{}
	for _, e := range g.endpoints {
		fresh[e.TargetRef.UID] = e
	}
	kept := make([][]discoveryv1.Endpoint, len(slices))
	for i, slice := range slices {
		for _, e := range slice.Endpoints {
			if e.TargetRef == nil {
				continue
			}
			if now, stays := fresh[e.TargetRef.UID]; stays {
				kept[i] = append(kept[i], now)
				delete(fresh, e.TargetRef.UID)
			}
		}
	}
	left := remaining(fresh)
	for i := range slices {
		n := min(len(left), max(0, perSlice-len(kept[i])))
		kept[i], left = append(kept[i], left[:n]...), left[n:]
	}
	filled := p.update(svc, g, slices, kept)
	for len(left) > 0 || !filled {
		n := min(len(left), perSlice)
		p.create(svc, g, left[:n])
		left, filled = left[n:], true
	}
}

func remaining(fresh map[types.UID]discoveryv1.Endpoint) []discoveryv1.Endpoint {
	left := make([]discoveryv1.Endpoint, 0, len(fresh))
	for _, e := range fresh {
		left = append(left, e)
	}
	slices.SortFunc(left, func(a, b discoveryv1.Endpoint) int {
		return cmp.Or(cmp.Compare(a.TargetRef.Name, b.TargetRef.Name), cmp.Compare(a.TargetRef.UID, b.TargetRef.UID))
	})
	return left
}

// update writes the slices that differ and removes empty ones; false when no slice stays.
func (p *planner) update(svc *corev1.Service, g *group, slices []*discoveryv1.EndpointSlice, kept [][]discoveryv1.Endpoint) bool {
	stays := false
	for i, slice := range slices {
		last := i == len(slices)-1
		if len(kept[i]) == 0 && (stays || !last) {
			p.remove(slice)
			continue
		}
		stays = true
		want := p.build(svc, g, kept[i])
		if equality.Semantic.DeepEqual(slice.Endpoints, want.Endpoints) && equality.Semantic.DeepEqual(slice.Labels, want.Labels) {
			continue
		}
		updated := slice.DeepCopy()
		updated.Endpoints, updated.Labels = want.Endpoints, want.Labels
		p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: updated})
	}
	return stays
}

func (p *planner) create(svc *corev1.Service, g *group, endpoints []discoveryv1.Endpoint) {
	if p.closing[svc.Namespace] {
		return
	}
	slice := p.build(svc, g, endpoints)
	slice.Name = p.name(svc, g)
	p.changes = append(p.changes, controller.Change{Verb: controller.Create, Object: slice})
}

func (p *planner) build(svc *corev1.Service, g *group, endpoints []discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, GenerateName: svc.Name + "-", OwnerReferences: []metav1.OwnerReference{reference(svc)},
			Labels: ownLabels(svc, map[string]string{discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: ManagedBy}),
		},
		AddressType: g.family, Ports: g.ports, Endpoints: endpoints,
	}
}

// name follows from the service, the group and what is taken, so that planning twice names the same slice.
func (p *planner) name(svc *corev1.Service, g *group) string {
	for n := 0; ; n++ {
		name := sliceName(svc.Name, string(svc.UID), g.key(), n)
		if key := serviceKey(svc.Namespace, name); !p.stored.names[key] {
			p.stored.names[key] = true
			return name
		}
	}
}

// sliceName is the name of the n-th slice of a group of an object.
func sliceName(object, uid, group string, n int) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s/%s/%d", uid, group, n)
	return fmt.Sprintf("%s-%08x", object, h.Sum32())
}

func (p *planner) remove(slice *discoveryv1.EndpointSlice) {
	if slice.DeletionTimestamp == nil {
		p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: slice})
	}
}

// sweep deletes what belongs to services that are gone or have no selector any more.
func (p *planner) sweep() {
	alive := map[types.NamespacedName]bool{}
	for _, svc := range p.s.Services {
		alive[serviceKey(svc.Namespace, svc.Name)] = managed(svc)
	}
	for _, slice := range p.s.EndpointSlices {
		if slice.Labels[discoveryv1.LabelManagedBy] == ManagedBy && !alive[serviceKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])] {
			p.remove(slice)
		}
	}
	for _, e := range p.s.Endpoints {
		if e.Labels[legacyLabel] == legacyManager && !alive[serviceKey(e.Namespace, e.Name)] && e.DeletionTimestamp == nil {
			p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: e})
		}
	}
}
