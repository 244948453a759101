package resource

import (
	networkingv1 "k8s.io/api/networking/v1"
)

func networking() []*Resource {
	v1 := networkingv1.SchemeGroupVersion
	ingress := v1.WithKind("Ingress")
	return []*Resource{
		kind[networkingv1.Ingress, networkingv1.IngressList](ingress, "ingresses", Resource{
			ShortNames: []string{"ing"}, Namespaced: true, Subresources: []Subresource{status(ingress)},
		}),
		kind[networkingv1.IngressClass, networkingv1.IngressClassList](v1.WithKind("IngressClass"), "ingressclasses", Resource{}),
		kind[networkingv1.NetworkPolicy, networkingv1.NetworkPolicyList](v1.WithKind("NetworkPolicy"), "networkpolicies", Resource{
			ShortNames: []string{"netpol"}, Namespaced: true,
		}),
	}
}
