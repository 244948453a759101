package endpoints

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// The Endpoints kind is deprecated, but what reads it has not gone away.
type legacyEndpoints = corev1.Endpoints //nolint:staticcheck // still what old clients read

// Marks of the Endpoints that this package writes, as upstream's.
const (
	legacyLabel   = "endpoints.kubernetes.io/managed-by"
	legacyManager = "endpoint-controller"
)

// legacyLimit is how many addresses an Endpoints object holds; services with more are cut, and say so.
const legacyLimit = 1000

// legacy brings the service's Endpoints in line with its pods. One that somebody else made under the name is taken over,
// as upstream does.
func (p *planner) legacy(svc *corev1.Service) {
	want := p.buildLegacy(svc)
	have := p.stored.legacy[serviceKey(svc.Namespace, svc.Name)]
	if have == nil {
		if !p.closing[svc.Namespace] {
			p.changes = append(p.changes, controller.Change{Verb: controller.Create, Object: want})
		}
		return
	}
	same := equality.Semantic.DeepEqual(have.Subsets, want.Subsets) && maps.Equal(have.Labels, want.Labels) &&
		have.Annotations[corev1.EndpointsOverCapacity] == want.Annotations[corev1.EndpointsOverCapacity]
	if same {
		return
	}
	updated := have.DeepCopy()
	updated.Subsets, updated.Labels = want.Subsets, want.Labels
	delete(updated.Annotations, corev1.EndpointsOverCapacity)
	if note := want.Annotations[corev1.EndpointsOverCapacity]; note != "" {
		metav1.SetMetaDataAnnotation(&updated.ObjectMeta, corev1.EndpointsOverCapacity, note)
	}
	p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: updated})
}

func (p *planner) buildLegacy(svc *corev1.Service) *legacyEndpoints {
	e := &legacyEndpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: svc.Namespace, Name: svc.Name, Labels: ownLabels(svc, map[string]string{legacyLabel: legacyManager}),
	}}
	pods := p.pods.of(svc)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Status.PodIP, b.Status.PodIP), cmp.Compare(a.UID, b.UID))
	})
	if len(pods) > legacyLimit {
		pods = pods[:legacyLimit]
		e.Annotations = map[string]string{corev1.EndpointsOverCapacity: "truncated"}
	}
	for _, pod := range pods {
		r := readinessOf(svc, pod)
		if r.terminating && !svc.Spec.PublishNotReadyAddresses {
			continue
		}
		subset := subsetFor(e, legacyPorts(svc, pod))
		address := corev1.EndpointAddress{IP: pod.Status.PodIP, NodeName: nodeName(pod), TargetRef: podTarget(pod)}
		if name := hostname(svc, pod); name != nil {
			address.Hostname = *name
		}
		if r.ready {
			subset.Addresses = append(subset.Addresses, address)
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
		}
	}
	return e
}

func legacyPorts(svc *corev1.Service, pod *corev1.Pod) []corev1.EndpointPort {
	var ports []corev1.EndpointPort
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		if number, ok := targetPort(pod, port); ok {
			ports = append(ports, corev1.EndpointPort{Name: port.Name, Port: number, Protocol: protocol(port.Protocol), AppProtocol: port.AppProtocol})
		}
	}
	return ports
}

// subsetFor finds or adds the subset with those ports.
func subsetFor(e *legacyEndpoints, ports []corev1.EndpointPort) *corev1.EndpointSubset { //nolint:staticcheck // see legacyEndpoints
	for i := range e.Subsets {
		if equality.Semantic.DeepEqual(e.Subsets[i].Ports, ports) {
			return &e.Subsets[i]
		}
	}
	e.Subsets = append(e.Subsets, corev1.EndpointSubset{Ports: ports}) //nolint:staticcheck // see legacyEndpoints
	return &e.Subsets[len(e.Subsets)-1]
}
