package objects

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (s *Store) nodeStrategy() *strategy {
	return &strategy{
		update: two(func(node, old *corev1.Node) {
			old.Status.DeepCopyInto(&node.Status)
			if node.Spec.PodCIDR == "" && len(node.Spec.PodCIDRs) == 0 { // a client that leaves it out keeps it
				node.Spec.PodCIDR, node.Spec.PodCIDRs = old.Spec.PodCIDR, slices.Clone(old.Spec.PodCIDRs)
			}
		}),
		status:   two(func(node, old *corev1.Node) { old.Spec.DeepCopyInto(&node.Spec) }),
		allocate: s.allocateSubnet,
	}
}

// allocateSubnet gives a node its share of the pod network, once.
func (s *Store) allocateSubnet(obj, old runtime.Object) (*reservation, field.ErrorList) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return nil, nil
	}
	if before, ok := old.(*corev1.Node); ok && before.Spec.PodCIDR != "" {
		return nil, nil // kept, or judged by validation
	}
	path := field.NewPath("spec", "podCIDR")
	if node.Spec.PodCIDR != "" {
		return s.claimSubnet(node, path)
	}
	r := s.nodes.claim(s.nodes.used(s.view), s.nodes.candidates())
	if r == nil {
		return nil, field.ErrorList{field.InternalError(path, fmt.Errorf("all %d shares of the pod network %s are taken", s.nodes.count(), s.nodes.prefix))}
	}
	node.Spec.PodCIDR = s.nodes.subnet(r.index).String()
	node.Spec.PodCIDRs = []string{node.Spec.PodCIDR}
	return r, nil
}

func (s *Store) claimSubnet(node *corev1.Node, path *field.Path) (*reservation, field.ErrorList) {
	p, err := netip.ParsePrefix(node.Spec.PodCIDR)
	if err != nil {
		return nil, nil // validation says so
	}
	index, ok := s.nodes.number(p)
	if !ok {
		return nil, field.ErrorList{field.Invalid(path, node.Spec.PodCIDR, fmt.Sprintf("must be a /%d of the pod network %s, or empty to be given one", s.nodes.bits, s.nodes.prefix))}
	}
	r := s.nodes.claim(s.nodes.used(s.view), single(index))
	if r == nil {
		return nil, field.ErrorList{field.Invalid(path, node.Spec.PodCIDR, "is another node's")}
	}
	if len(node.Spec.PodCIDRs) == 0 {
		node.Spec.PodCIDRs = []string{node.Spec.PodCIDR}
	}
	return r, nil
}
