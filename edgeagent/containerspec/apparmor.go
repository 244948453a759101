package containerspec

import (
	corev1 "k8s.io/api/core/v1"
)

// WantsAppArmor says whether the pod or a container of it asks for an AppArmor profile: isRequired of the kubelet's pkg/security/apparmor. The API
// has made fields of the annotations of old.
func WantsAppArmor(p *corev1.Pod) bool {
	if c := p.Spec.SecurityContext; c != nil && confined(c.AppArmorProfile) {
		return true
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if c := list[i].SecurityContext; c != nil && confined(c.AppArmorProfile) {
				return true
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := p.Spec.EphemeralContainers[i].SecurityContext; c != nil && confined(c.AppArmorProfile) {
			return true
		}
	}
	return false
}

func confined(profile *corev1.AppArmorProfile) bool {
	return profile != nil && profile.Type != corev1.AppArmorProfileTypeUnconfined
}
