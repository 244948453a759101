package validation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingrules "k8s.io/kubernetes/pkg/apis/networking/validation"
)

// IngressClassAnnotation is how an Ingress named its class before spec.ingressClassName.
const IngressClassAnnotation = "kubernetes.io/ingress.class"

func (v *Validator) addNetworking() {
	of := func(kind string) schema.GroupKind { return schema.GroupKind{Group: networking.GroupName, Kind: kind} }
	kind(v, of("Ingress"), networkingrules.ValidateIngressCreate, networkingrules.ValidateIngressUpdate, networkingrules.ValidateIngressStatusUpdate, warnIngress)
	kind(v, of("IngressClass"), networkingrules.ValidateIngressClass, networkingrules.ValidateIngressClassUpdate, nil, nil)
	kind(v, of("NetworkPolicy"), func(p *networking.NetworkPolicy) field.ErrorList {
		return networkingrules.ValidateNetworkPolicy(p, networkingrules.ValidationOptionsForNetworking(p, nil))
	}, func(p, old *networking.NetworkPolicy) field.ErrorList {
		return networkingrules.ValidateNetworkPolicyUpdate(p, old, networkingrules.ValidationOptionsForNetworking(p, old))
	}, nil, warnNetworkPolicy)
}

func warnIngress(_ context.Context, i, old *networking.Ingress) []string {
	if _, set := i.Annotations[IngressClassAnnotation]; old == nil && set && i.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", IngressClassAnnotation)}
	}
	return nil
}

// warnNetworkPolicy says what upstream says of its blocks, and first of all that nobody here acts on a policy.
func warnNetworkPolicy(_ context.Context, p, _ *networking.NetworkPolicy) []string {
	warnings := []string{"this cluster keeps network policies and does not enforce them"}
	spec := field.NewPath("spec")
	for i, rule := range p.Spec.Ingress {
		warnings = append(warnings, warnPeers(rule.From, spec.Child("ingress").Index(i).Child("from"))...)
	}
	for i, rule := range p.Spec.Egress {
		warnings = append(warnings, warnPeers(rule.To, spec.Child("egress").Index(i).Child("to"))...)
	}
	return warnings
}

func warnPeers(peers []networking.NetworkPolicyPeer, path *field.Path) (warnings []string) {
	for i, peer := range peers {
		if peer.IPBlock == nil {
			continue
		}
		block := path.Index(i).Child("ipBlock")
		warnings = append(warnings, utilvalidation.GetWarningsForCIDR(block.Child("cidr"), peer.IPBlock.CIDR)...)
		for k, except := range peer.IPBlock.Except {
			warnings = append(warnings, utilvalidation.GetWarningsForCIDR(block.Child("except").Index(k), except)...)
		}
	}
	return warnings
}
