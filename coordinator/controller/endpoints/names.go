package endpoints

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"skerry.dev/skerry/messaging"
)

// named reports whether DNS answers for the service with something else than a virtual address.
func named(svc *corev1.Service) bool {
	external := svc.Spec.Type == corev1.ServiceTypeExternalName
	return (external || svc.Spec.ClusterIP == corev1.ClusterIPNone) && svc.DeletionTimestamp == nil
}

func serviceName(svc *corev1.Service, pods *index, foreign map[types.NamespacedName][]*discoveryv1.EndpointSlice) messaging.ServiceName {
	name := messaging.ServiceName{Namespace: svc.Namespace, Name: svc.Name}
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		name.External = svc.Spec.ExternalName
	case managed(svc):
		name.Hosts = podHosts(svc, pods.of(svc))
	default:
		name.Hosts = sliceHosts(foreign[serviceKey(svc.Namespace, svc.Name)])
	}
	slices.SortFunc(name.Hosts, func(a, b messaging.Host) int { return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.Name, b.Name)) })
	return name
}

func podHosts(svc *corev1.Service, pods []*corev1.Pod) []messaging.Host {
	var hosts []messaging.Host
	for _, pod := range pods {
		if !readinessOf(svc, pod).ready {
			continue
		}
		host := messaging.Host{IP: pod.Status.PodIP, Name: ptr.Deref(hostname(svc, pod), "")}
		for i := range svc.Spec.Ports {
			port := &svc.Spec.Ports[i]
			if number, ok := targetPort(pod, port); ok && port.Name != "" {
				host.Ports = append(host.Ports, messaging.HostPort{Name: port.Name, Protocol: string(protocol(port.Protocol)), Port: uint16(number)})
			}
		}
		hosts = append(hosts, host)
	}
	return hosts
}

func sliceHosts(list []*discoveryv1.EndpointSlice) []messaging.Host {
	var hosts []messaging.Host
	for _, slice := range list {
		ports := foreignPorts(slice)
		for _, e := range slice.Endpoints {
			if len(e.Addresses) > 0 && isTrue(e.Conditions.Ready, true) {
				hosts = append(hosts, messaging.Host{IP: e.Addresses[0], Name: ptr.Deref(e.Hostname, ""), Ports: ports})
			}
		}
	}
	return hosts
}

func foreignPorts(slice *discoveryv1.EndpointSlice) []messaging.HostPort {
	var ports []messaging.HostPort
	for _, p := range slice.Ports {
		if name := ptr.Deref(p.Name, ""); name != "" && p.Port != nil {
			ports = append(ports, messaging.HostPort{Name: name, Protocol: string(protocol(ptr.Deref(p.Protocol, ""))), Port: uint16(*p.Port)})
		}
	}
	return ports
}
