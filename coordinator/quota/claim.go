package quota

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ofClass comes between a StorageClass and what of it a quota limits.
const ofClass = ".storageclass.storage.k8s.io/"

// claimUse adds what a claim uses, once in all and once of its class.
func claimUse(c *corev1.PersistentVolumeClaim, used corev1.ResourceList) {
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	used[corev1.ResourcePersistentVolumeClaims], used[corev1.ResourceRequestsStorage] = one(), size
	class, old := c.Annotations[corev1.BetaStorageClassAnnotation]
	if !old && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	if class != "" {
		used[corev1.ResourceName(class+ofClass)+corev1.ResourcePersistentVolumeClaims] = one()
		used[corev1.ResourceName(class+ofClass)+corev1.ResourceRequestsStorage] = size
	}
}

// claimResource reports whether claims can use what a quota limits under that name.
func claimResource(name corev1.ResourceName) bool {
	if _, what, isClass := strings.Cut(string(name), ofClass); isClass {
		name = corev1.ResourceName(what)
	}
	return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
}
