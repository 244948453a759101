package table

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const networking = "networking.k8s.io"

var ingressLayout = layout(func(i *networkingv1.Ingress, now time.Time) []any {
	ports := "80"
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	class := none
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	}
	return []any{i.Name, class, ingressHosts(i.Spec.Rules), ingressAddresses(i.Status.LoadBalancer.Ingress), ports, since(i.CreationTimestamp, now)}
},
	name,
	text("Class", "The name of the IngressClass resource that should be used for additional configuration"),
	text("Hosts", "Hosts that incoming requests are matched against before the ingress rule"),
	text("Address", "Address is a list containing ingress points for the load-balancer"),
	text("Ports", "Ports of TLS configurations that open"),
	age,
)

func ingressHosts(rules []networkingv1.IngressRule) string {
	var hosts []string
	for _, rule := range rules {
		if len(hosts) == shown {
			return fmt.Sprintf("%s + %d more...", strings.Join(hosts, ","), len(rules)-shown)
		}
		if rule.Host != "" {
			hosts = append(hosts, rule.Host)
		}
	}
	return cmp.Or(strings.Join(hosts, ","), "*")
}

func ingressAddresses(points []networkingv1.IngressLoadBalancerIngress) string {
	addresses := make([]string, 0, len(points))
	for _, p := range points {
		addresses = append(addresses, cmp.Or(p.IP, p.Hostname))
	}
	slices.Sort(addresses)
	return strings.Join(slices.Compact(addresses), ",")
}

var ingressClassLayout = layout(func(c *networkingv1.IngressClass, now time.Time) []any {
	name, parameters := c.Name, none
	if c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
		name += " (default)"
	}
	if p := c.Spec.Parameters; p != nil {
		parameters = p.Kind
		if p.APIGroup != nil {
			parameters += "." + *p.APIGroup
		}
		parameters += "/" + p.Name
	}
	return []any{name, c.Spec.Controller, parameters, since(c.CreationTimestamp, now)}
},
	name,
	text("Controller", "Controller that is responsible for handling this class"),
	text("Parameters", "A reference to a resource with additional parameters"),
	age,
)

var networkPolicyLayout = layout(func(p *networkingv1.NetworkPolicy, now time.Time) []any {
	return []any{p.Name, metav1.FormatLabelSelector(&p.Spec.PodSelector), since(p.CreationTimestamp, now)}
},
	name,
	text("Pod-Selector", networkingv1.NetworkPolicySpec{}.SwaggerDoc()["podSelector"]),
	age,
)
