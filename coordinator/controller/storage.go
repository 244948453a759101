package controller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"skerry.dev/skerry/api"
)

// Where a snapshot's Others have what volumes are made of.
var (
	ClaimKind        = schema.GroupKind{Kind: "PersistentVolumeClaim"}
	VolumeKind       = schema.GroupKind{Kind: "PersistentVolume"}
	StorageClassKind = schema.GroupKind{Group: storagev1.GroupName, Kind: "StorageClass"}
)

// ClaimNames are the claims that the pod's volumes name, those of ephemeral volumes among them; nil when there is none.
func ClaimNames(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, EphemeralClaim(pod, v))
		}
	}
	return names
}

// EphemeralClaim is the name of the claim of a pod's ephemeral volume.
func EphemeralClaim(pod *corev1.Pod, v *corev1.Volume) string { return pod.Name + "-" + v.Name }

// ClaimClass is the name of the claim's StorageClass; empty when it has none.
func ClaimClass(c *corev1.PersistentVolumeClaim) string {
	if old, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return old
	}
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

// VolumeClass is ClaimClass for a volume.
func VolumeClass(v *corev1.PersistentVolume) string {
	if old, ok := v.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return old
	}
	return v.Spec.StorageClassName
}

// Delays reports whether claims of the class wait for their first pod; those of no class (nil) do not.
func Delays(class *storagev1.StorageClass) bool {
	return class != nil && class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// Provides reports whether volumes for the claim can be made here: folders, on the node that is chosen for its first pod.
func Provides(class *storagev1.StorageClass, c *corev1.PersistentVolumeClaim) bool {
	return Delays(class) && class.Provisioner == api.LocalProvisioner && volumeMode(c.Spec.VolumeMode) == corev1.PersistentVolumeFilesystem
}

// IsLocal reports whether the volume is one that was made here, and is kept by a node's agent.
func IsLocal(v *corev1.PersistentVolume) bool {
	return v.Annotations[api.AnnotationProvisionedBy] == api.LocalProvisioner && v.Spec.Local != nil
}

// OnNode is the affinity of what exists on one node only.
func OnNode(name string) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{name}}},
	}}}
}

// HomeOf is the node that OnNode has put the volume on; empty for any other affinity.
func HomeOf(v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil || len(v.Spec.NodeAffinity.Required.NodeSelectorTerms) != 1 {
		return ""
	}
	term := v.Spec.NodeAffinity.Required.NodeSelectorTerms[0]
	if len(term.MatchExpressions) > 0 || len(term.MatchFields) != 1 {
		return ""
	}
	f := term.MatchFields[0]
	if f.Key != metav1.ObjectNameField || f.Operator != corev1.NodeSelectorOpIn || len(f.Values) != 1 {
		return ""
	}
	return f.Values[0]
}

// Condemned reports whether the volume's data are to be removed by its node: it was made here, its claim is gone, its
// policy says so, and its deletion waits for nothing else.
func Condemned(v *corev1.PersistentVolume) bool {
	return IsLocal(v) && v.DeletionTimestamp != nil && slices.Contains(v.Finalizers, api.FinalizerLocalData) &&
		v.Status.Phase == corev1.VolumeReleased && v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
}

// RefersTo reports whether the volume is kept for the claim, or for whatever claim will have its name.
func RefersTo(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	ref := v.Spec.ClaimRef
	return ref != nil && ref.Namespace == c.Namespace && ref.Name == c.Name && (ref.UID == "" || ref.UID == c.UID)
}

// Misfit says why the volume is not what the claim asks for, in upstream's words; empty when it is. Who has it already is
// not looked at.
func Misfit(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) string {
	want, have := c.Spec.Resources.Requests[corev1.ResourceStorage], v.Spec.Capacity[corev1.ResourceStorage]
	switch {
	case have.Cmp(want) < 0:
		return "requested PV is too small"
	case VolumeClass(v) != ClaimClass(c):
		return "storageClassName does not match"
	case volumeMode(v.Spec.VolumeMode) != volumeMode(c.Spec.VolumeMode):
		return "incompatible volumeMode"
	}
	for _, mode := range c.Spec.AccessModes {
		if !slices.Contains(v.Spec.AccessModes, mode) {
			return "incompatible accessMode"
		}
	}
	return ""
}

// Free reports whether nobody has the volume and it suits the claim, which names none itself.
func Free(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) bool {
	if v.Spec.ClaimRef != nil || v.DeletionTimestamp != nil || v.Status.Phase != corev1.VolumeAvailable || Misfit(v, c) != "" {
		return false
	}
	if c.Spec.Selector == nil {
		return true
	}
	chosen, err := metav1.LabelSelectorAsSelector(c.Spec.Selector)
	return err == nil && chosen.Matches(labels.Set(v.Labels))
}

// Reaches reports whether pods on the node can use the volume.
func Reaches(v *corev1.PersistentVolume, node *corev1.Node) bool {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return true
	}
	selector, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	return err == nil && selector.Match(node)
}

func volumeMode(mode *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if mode == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *mode
}
