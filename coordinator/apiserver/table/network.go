package table

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// shown is how many addresses or ports a cell lists before it only counts them.
const shown = 3

var serviceLayout = layout(serviceCells,
	name,
	text("Type", corev1.ServiceSpec{}.SwaggerDoc()["type"]),
	text("Cluster-IP", corev1.ServiceSpec{}.SwaggerDoc()["clusterIP"]),
	text("External-IP", corev1.ServiceSpec{}.SwaggerDoc()["externalIPs"]),
	text("Port(s)", corev1.ServiceSpec{}.SwaggerDoc()["ports"]),
	age,
	wide(text("Selector", corev1.ServiceSpec{}.SwaggerDoc()["selector"])),
)

func serviceCells(s *corev1.Service, now time.Time) []any {
	return []any{
		s.Name, string(s.Spec.Type), or(s.Spec.ClusterIP, none), externalIP(s), or(servicePorts(s), none),
		since(s.CreationTimestamp, now), or(labels.FormatLabels(s.Spec.Selector), none),
	}
}

func externalIP(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, or(in.IP, in.Hostname))
		}
		return or(strings.Join(append(ips, s.Spec.ExternalIPs...), ","), "<pending>")
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
	}
	return or(strings.Join(s.Spec.ExternalIPs, ","), none)
}

func servicePorts(s *corev1.Service) string {
	list := make([]string, len(s.Spec.Ports))
	for i, p := range s.Spec.Ports {
		list[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			list[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return strings.Join(list, ",")
}

var endpointsLayout = layout(func(e *corev1.Endpoints, now time.Time) []any { //nolint:staticcheck // served for old clients
	return []any{e.Name, endpointAddresses(e.Subsets), since(e.CreationTimestamp, now)}
}, name, text("Endpoints", "The addresses behind the service."), age)

func endpointAddresses(subsets []corev1.EndpointSubset) string { //nolint:staticcheck // served for old clients
	var list []string
	for _, s := range subsets {
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 {
				list = append(list, a.IP)
			}
			for _, p := range s.Ports {
				list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return some(list)
}

var endpointSliceLayout = layout(endpointSliceCells,
	name,
	text("AddressType", discoveryv1.EndpointSlice{}.SwaggerDoc()["addressType"]),
	text("Ports", discoveryv1.EndpointSlice{}.SwaggerDoc()["ports"]),
	text("Endpoints", discoveryv1.EndpointSlice{}.SwaggerDoc()["endpoints"]),
	age,
)

func endpointSliceCells(e *discoveryv1.EndpointSlice, now time.Time) []any {
	var ports, addresses []string
	for _, p := range e.Ports {
		ports = append(ports, slicePort(p))
	}
	for _, ep := range e.Endpoints {
		addresses = append(addresses, ep.Addresses...)
	}
	return []any{e.Name, string(e.AddressType), moreOr(ports, unset), moreOr(addresses, unset), since(e.CreationTimestamp, now)}
}

func slicePort(p discoveryv1.EndpointPort) string {
	switch {
	case p.Port != nil:
		return strconv.Itoa(int(*p.Port))
	case p.Name != nil:
		return *p.Name
	default:
		return "*"
	}
}

func some(list []string) string { return moreOr(list, none) }

// moreOr lists the first few and counts the rest; an empty list is rendered as empty.
func moreOr(list []string, empty string) string {
	if len(list) > shown {
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shown], ","), len(list)-shown)
	}
	return or(strings.Join(list, ","), empty)
}
