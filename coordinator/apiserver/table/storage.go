package table

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"skerry.dev/skerry/api"
)

const terminating = "Terminating"

var volumeLayout = layout(func(v *corev1.PersistentVolume, now time.Time) []any {
	size, phase, claim := v.Spec.Capacity[corev1.ResourceStorage], string(v.Status.Phase), ""
	if v.DeletionTimestamp != nil {
		phase = terminating
	}
	if ref := v.Spec.ClaimRef; ref != nil {
		claim = ref.Namespace + "/" + ref.Name
	}
	return []any{
		v.Name, size.String(), accessModes(v.Spec.AccessModes), string(v.Spec.PersistentVolumeReclaimPolicy), phase, claim,
		cmp.Or(v.Annotations[corev1.BetaStorageClassAnnotation], v.Spec.StorageClassName), orUnset(v.Spec.VolumeAttributesClassName),
		v.Status.Reason, since(v.CreationTimestamp, now), orUnset(v.Spec.VolumeMode),
	}
},
	name,
	text("Capacity", "The description of the persistent volume's resources and capacity."),
	text("Access Modes", "All ways in which the volume can be mounted."),
	text("Reclaim Policy", "What happens to the volume when it is released from its claim."),
	text("Status", "Whether the volume is available, bound to a claim, or released by a claim."),
	text("Claim", "The claim that the volume is bound to."),
	text("StorageClass", "StorageClass of the pv"),
	text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
	text("Reason", "Why the volume is in a failed state."),
	age,
	wide(text("VolumeMode", "Whether the volume is used with a file system or raw.")),
)

var claimLayout = layout(func(c *corev1.PersistentVolumeClaim, now time.Time) []any {
	phase, capacity, modes, class := string(c.Status.Phase), "", "", c.Annotations[corev1.BetaStorageClassAnnotation]
	if c.DeletionTimestamp != nil {
		phase = terminating
	}
	if c.Spec.VolumeName != "" {
		size := c.Status.Capacity[corev1.ResourceStorage]
		capacity, modes = size.String(), accessModes(c.Status.AccessModes)
	}
	if class == "" && c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	return []any{
		c.Name, phase, c.Spec.VolumeName, capacity, modes, class, orUnset(c.Spec.VolumeAttributesClassName),
		since(c.CreationTimestamp, now), orUnset(c.Spec.VolumeMode),
	}
},
	name,
	text("Status", "The current phase of the claim."),
	text("Volume", "The persistent volume that backs the claim."),
	text("Capacity", "The actual resources of the underlying volume."),
	text("Access Modes", "The actual access modes of the underlying volume."),
	text("StorageClass", "StorageClass of the pvc"),
	text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
	age,
	wide(text("VolumeMode", "Which kind of volume the claim asks for.")),
)

var storageClassLayout = layout(func(c *storagev1.StorageClass, now time.Time) []any {
	policy, mode, name := string(corev1.PersistentVolumeReclaimDelete), string(storagev1.VolumeBindingImmediate), c.Name
	if c.ReclaimPolicy != nil {
		policy = string(*c.ReclaimPolicy)
	}
	if c.VolumeBindingMode != nil {
		mode = string(*c.VolumeBindingMode)
	}
	if c.Annotations[api.AnnotationDefaultClass] == "true" {
		name += " (default)"
	}
	return []any{name, c.Provisioner, policy, mode, c.AllowVolumeExpansion != nil && *c.AllowVolumeExpansion, since(c.CreationTimestamp, now)}
},
	name,
	text("Provisioner", "The type of the provisioner."),
	text("ReclaimPolicy", "The reclaim policy of volumes that are made for this class."),
	text("VolumeBindingMode", "When volumes of this class are made and bound."),
	text("AllowVolumeExpansion", "Whether volumes of this class can grow."),
	age,
)

// accessModes are the short names of the modes, each once, in upstream's order.
func accessModes(modes []corev1.PersistentVolumeAccessMode) string {
	var short []string
	for _, m := range []struct {
		mode corev1.PersistentVolumeAccessMode
		name string
	}{{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"}} {
		if slices.Contains(modes, m.mode) {
			short = append(short, m.name)
		}
	}
	return strings.Join(short, ",")
}

func orUnset[T ~string](s *T) string {
	if s == nil {
		return unset
	}
	return string(*s)
}
