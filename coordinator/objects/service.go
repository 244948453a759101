package objects

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (s *Store) serviceStrategy() *strategy {
	return &strategy{
		createOnUpdate: true,
		create: one(func(svc *corev1.Service) {
			svc.Status = corev1.ServiceStatus{}
			completeClusterIPs(svc)
		}),
		update:   two(updateService),
		status:   two(func(svc, old *corev1.Service) { old.Spec.DeepCopyInto(&svc.Spec) }),
		allocate: s.allocateService,
	}
}

func needsClusterIP(svc *corev1.Service) bool { return svc.Spec.Type != corev1.ServiceTypeExternalName }

// completeClusterIPs makes the old field and the new one say the same when only the old one is given.
func completeClusterIPs(svc *corev1.Service) {
	if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	}
}

// updateService keeps what was allocated when the client leaves it out, and clears what another type cannot have unless
// the client changed it too: then it is an error, which validation gives.
func updateService(svc, old *corev1.Service) {
	old.Status.DeepCopyInto(&svc.Status)
	keepAllocated(svc, old)
	switch {
	case needsClusterIP(old) && !needsClusterIP(svc):
		dropClusterIP(svc, old)
	case svc.Spec.ClusterIP != old.Spec.ClusterIP && slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs):
		svc.Spec.ClusterIPs = nil // only the old field was changed
	}
	completeClusterIPs(svc)
	dropNodePorts(svc, old)
}

func keepAllocated(svc, old *corev1.Service) {
	keepNodePorts(svc, old)
	if !needsClusterIP(svc) || !needsClusterIP(old) {
		return
	}
	if svc.Spec.ClusterIP == "" && len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = old.Spec.ClusterIP, slices.Clone(old.Spec.ClusterIPs)
	}
	if svc.Spec.IPFamilies == nil {
		svc.Spec.IPFamilies = slices.Clone(old.Spec.IPFamilies)
	}
	if svc.Spec.IPFamilyPolicy == nil && old.Spec.IPFamilyPolicy != nil {
		policy := *old.Spec.IPFamilyPolicy
		svc.Spec.IPFamilyPolicy = &policy
	}
}

func dropClusterIP(svc, old *corev1.Service) {
	if svc.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) {
		svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "", nil
	}
	if slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies) {
		svc.Spec.IPFamilies = nil
	}
	if equality.Semantic.DeepEqual(svc.Spec.IPFamilyPolicy, old.Spec.IPFamilyPolicy) {
		svc.Spec.IPFamilyPolicy = nil
	}
}

// allocateService gives a service its families and, unless it is headless or has one, its address, and its node ports.
func (s *Store) allocateService(obj, old runtime.Object) (*reservation, field.ErrorList) {
	svc, ok := obj.(*corev1.Service)
	if !ok || !needsClusterIP(svc) {
		return nil, nil
	}
	if errs := setFamilies(svc); len(errs) > 0 {
		return nil, errs
	}
	before, _ := old.(*corev1.Service)
	address, errs := s.allocateAddress(svc, before)
	if len(errs) > 0 {
		return nil, errs
	}
	ports, errs := s.allocateNodePorts(svc, before)
	if len(errs) > 0 {
		address.settle(errs.ToAggregate())
		return nil, errs
	}
	return address.and(ports), nil
}

func (s *Store) allocateAddress(svc, old *corev1.Service) (*reservation, field.ErrorList) {
	if old != nil && old.Spec.ClusterIP != "" {
		return nil, nil // kept, or judged by validation
	}
	switch svc.Spec.ClusterIP {
	case corev1.ClusterIPNone:
		return nil, nil
	case "":
		return s.giveAddress(svc)
	}
	return s.claimAddress(svc)
}

// setFamilies: there is one family, IPv4.
func setFamilies(svc *corev1.Service) field.ErrorList {
	spec := field.NewPath("spec")
	if p := svc.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		return field.ErrorList{field.Invalid(spec.Child("ipFamilyPolicy"), *p, "this cluster is not configured for dual-stack services")}
	}
	for n, family := range svc.Spec.IPFamilies {
		if family != corev1.IPv4Protocol {
			return field.ErrorList{field.Invalid(spec.Child("ipFamilies").Index(n), family, "not configured on this cluster")}
		}
	}
	if svc.Spec.IPFamilies == nil {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if svc.Spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		svc.Spec.IPFamilyPolicy = &policy
	}
	return nil
}

func (s *Store) giveAddress(svc *corev1.Service) (*reservation, field.ErrorList) {
	r := s.services.claim(s.services.used(s.view), s.services.candidates(string(svc.UID)))
	if r == nil {
		return nil, field.ErrorList{field.InternalError(field.NewPath("spec", "clusterIPs"), fmt.Errorf("failed to allocate a serviceIP: range %s is full", s.services.prefix))}
	}
	svc.Spec.ClusterIP = s.services.addr(r.index).String()
	svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
	return r, nil
}

// claimAddress takes the address that the client asked for, in upstream's words if it cannot be had.
func (s *Store) claimAddress(svc *corev1.Service) (*reservation, field.ErrorList) {
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil {
		return nil, nil // validation says so
	}
	path := field.NewPath("spec", "clusterIPs")
	if !s.services.contains(ip) || s.services.index(ip) == 0 || s.services.index(ip) == s.services.size()-1 {
		return nil, field.ErrorList{field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: the provided network does not match the current range", ip))}
	}
	r := s.services.claim(s.services.used(s.view), single(s.services.index(ip)))
	if r == nil {
		return nil, field.ErrorList{field.Invalid(path, svc.Spec.ClusterIPs, fmt.Sprintf("failed to allocate IP %s: provided IP is already allocated", ip))}
	}
	return r, nil
}
