package containerspec

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWantsAppArmor(t *testing.T) {
	own := &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
	free := &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}}
	for name, c := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"nothing":    {corev1.PodSpec{Containers: []corev1.Container{{}, {SecurityContext: &corev1.SecurityContext{}}}}, false},
		"unconfined": {corev1.PodSpec{Containers: []corev1.Container{{SecurityContext: free}}}, false},
		"pod":        {corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{AppArmorProfile: own.AppArmorProfile}}, true},
		"container":  {corev1.PodSpec{Containers: []corev1.Container{{SecurityContext: free}, {SecurityContext: own}}}, true},
		"init":       {corev1.PodSpec{InitContainers: []corev1.Container{{SecurityContext: own}}}, true},
		"ephemeral": {corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{SecurityContext: own}},
		}}, true},
	} {
		if got := WantsAppArmor(&corev1.Pod{Spec: c.spec}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
