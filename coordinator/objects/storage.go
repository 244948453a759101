package objects

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/api"
)

// What upstream's admission plugin StorageObjectInUseProtection puts on volumes and claims; controller/volumebinding takes
// it away when nothing needs them.
const (
	volumeProtection = "kubernetes.io/pv-protection"
	claimProtection  = "kubernetes.io/pvc-protection"
)

// localClass is the default class of every cluster: folders on the node where the first pod with the claim runs.
func localClass() *storagev1.StorageClass {
	mode := storagev1.VolumeBindingWaitForFirstConsumer
	return &storagev1.StorageClass{
		ObjectMeta:  metav1.ObjectMeta{Name: "local", Annotations: map[string]string{api.AnnotationDefaultClass: "true"}},
		Provisioner: api.LocalProvisioner, VolumeBindingMode: &mode,
	}
}

// storageClassStrategy refuses what nobody could provide: a folder is made on some node, and which one is known only when
// a pod needs it.
func storageClassStrategy() *strategy {
	return &strategy{rules: func(obj, _ runtime.Object) field.ErrorList {
		c, ok := obj.(*storagev1.StorageClass)
		if !ok || c.Provisioner != api.LocalProvisioner || c.VolumeBindingMode == nil || *c.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer {
			return nil
		}
		return field.ErrorList{field.NotSupported(field.NewPath("volumeBindingMode"), *c.VolumeBindingMode, []storagev1.VolumeBindingMode{storagev1.VolumeBindingWaitForFirstConsumer})}
	}}
}

func (s *Store) volumeStrategy() *strategy {
	return &strategy{
		create: one(func(v *corev1.PersistentVolume) {
			now := metav1.NewTime(s.now()).Rfc3339Copy()
			v.Status = corev1.PersistentVolumeStatus{Phase: corev1.VolumePending, LastPhaseTransitionTime: &now}
			protect(&v.ObjectMeta, volumeProtection)
		}),
		update: two(func(v, old *corev1.PersistentVolume) { old.Status.DeepCopyInto(&v.Status) }),
		status: two(func(v, old *corev1.PersistentVolume) {
			old.Spec.DeepCopyInto(&v.Spec)
			s.stampPhase(&v.Status, &old.Status)
		}),
	}
}

// stampPhase notes when the phase changed, unless the client says it.
func (s *Store) stampPhase(status, old *corev1.PersistentVolumeStatus) {
	given := status.LastPhaseTransitionTime
	switch {
	case status.Phase == old.Phase && given == nil:
		status.LastPhaseTransitionTime = old.LastPhaseTransitionTime.DeepCopy()
	case status.Phase != old.Phase && (given == nil || given.Equal(old.LastPhaseTransitionTime)):
		now := metav1.NewTime(s.now()).Rfc3339Copy()
		status.LastPhaseTransitionTime = &now
	}
}

func (s *Store) claimStrategy() *strategy {
	return &strategy{
		create: one(func(c *corev1.PersistentVolumeClaim) {
			c.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}
			protect(&c.ObjectMeta, claimProtection)
			s.chooseClass(c)
		}),
		update: two(func(c, old *corev1.PersistentVolumeClaim) { old.Status.DeepCopyInto(&c.Status) }),
		status: two(func(c, old *corev1.PersistentVolumeClaim) { old.Spec.DeepCopyInto(&c.Spec) }),
	}
}

func protect(m *metav1.ObjectMeta, finalizer string) {
	if !slices.Contains(m.Finalizers, finalizer) {
		m.Finalizers = append(m.Finalizers, finalizer)
	}
}

// chooseClass gives the claim the default class, as upstream's admission plugin DefaultStorageClass: of several defaults
// the youngest counts, of those of one second the first by name. An empty class is a choice.
func (s *Store) chooseClass(c *corev1.PersistentVolumeClaim) {
	if _, old := c.Annotations[corev1.BetaStorageClassAnnotation]; old || c.Spec.StorageClassName != nil {
		return
	}
	items, _ := s.view.List(storageClasses, "")
	var chosen *storagev1.StorageClass
	for _, i := range items { // by name
		class, ok := i.Object.(*storagev1.StorageClass)
		if ok && class.Annotations[api.AnnotationDefaultClass] == "true" && (chosen == nil || chosen.CreationTimestamp.Before(&class.CreationTimestamp)) {
			chosen = class
		}
	}
	if chosen != nil {
		c.Spec.StorageClassName = &chosen.Name
	}
}
