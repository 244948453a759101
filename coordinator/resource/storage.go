package resource

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
)

func storage() []*Resource {
	volume, claim := corev1.SchemeGroupVersion.WithKind("PersistentVolume"), corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim")
	return []*Resource{
		kind[corev1.PersistentVolume, corev1.PersistentVolumeList](volume, "persistentvolumes", Resource{
			ShortNames: []string{"pv"}, Subresources: []Subresource{status(volume)},
		}),
		kind[corev1.PersistentVolumeClaim, corev1.PersistentVolumeClaimList](claim, "persistentvolumeclaims", Resource{
			ShortNames: []string{"pvc"}, Namespaced: true, Subresources: []Subresource{status(claim)},
		}),
		kind[storagev1.StorageClass, storagev1.StorageClassList](storagev1.SchemeGroupVersion.WithKind("StorageClass"), "storageclasses", Resource{
			ShortNames: []string{"sc"},
		}),
	}
}
