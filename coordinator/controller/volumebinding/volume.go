package volumebinding

import (
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// provision makes the claim's volume: a folder on the node, which its agent makes when the first pod comes. The name
// follows from the claim's UID, so that a second try finds the first one's.
func (p *planner) provision(c *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node *corev1.Node) {
	name := "pvc-" + string(c.UID)
	if p.volumes[name] != nil {
		return // somebody else's, or on its way out
	}
	policy, mode := corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeFilesystem
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	v := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Annotations: map[string]string{api.AnnotationProvisionedBy: api.LocalProvisioner}, Finalizers: []string{api.FinalizerLocalData},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes: slices.Clone(c.Spec.AccessModes), PersistentVolumeReclaimPolicy: policy, StorageClassName: class.Name,
			VolumeMode: &mode, ClaimRef: claimRef(c), NodeAffinity: &corev1.VolumeNodeAffinity{Required: controller.OnNode(node.Name)},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path.Join(api.LocalVolumes, name)}},
		},
	}
	p.write(controller.Create, v, event(c, "PersistentVolumeClaim", corev1.EventTypeNormal, "ProvisioningSucceeded", "Successfully provisioned volume "+name+" on node "+node.Name))
}

// volume takes the next step for one volume that no claim's step has written.
func (p *planner) volume(v *corev1.PersistentVolume) {
	if p.touched[v.Name] {
		return
	}
	ref := v.Spec.ClaimRef
	switch {
	case ref == nil || ref.UID == "":
		if v.DeletionTimestamp != nil {
			p.dispose(v)
			return
		}
		p.phase(v, corev1.VolumeAvailable, "")
	case p.has(ref):
		if v.Status.Phase != corev1.VolumeBound && v.DeletionTimestamp != nil {
			p.dispose(v) // its claim never came to have it
		}
	default:
		p.reclaim(v)
	}
}

// has reports whether the very claim is there.
func (p *planner) has(ref *corev1.ObjectReference) bool {
	c := p.claims[ref.Namespace+"/"+ref.Name]
	return c != nil && c.UID == ref.UID
}

// reclaim does what the policy says with a volume whose claim is gone.
func (p *planner) reclaim(v *corev1.PersistentVolume) {
	remove := v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	switch {
	case v.Status.Phase == corev1.VolumeFailed && remove && !controller.IsLocal(v) && v.DeletionTimestamp == nil:
	case v.Status.Phase != corev1.VolumeReleased && v.Status.Phase != corev1.VolumeFailed:
		p.phase(v, corev1.VolumeReleased, "")
	case v.DeletionTimestamp != nil:
		p.dispose(v)
	case remove && controller.IsLocal(v):
		p.write(controller.Delete, v)
	case remove:
		p.phase(v, corev1.VolumeFailed, fmt.Sprintf("error getting deleter volume plugin for volume %q: no deletable volume plugin matched", v.Name))
	}
}

// dispose takes the finalizers off a volume that is being deleted. The one about data stays until the node has said that
// they are gone, unless they are to be kept, or the node is no longer part of the cluster.
func (p *planner) dispose(v *corev1.PersistentVolume) {
	waits := controller.Condemned(v) && p.nodes[controller.HomeOf(v)] != nil
	updated := v.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool {
		return f == volumeProtection || f == api.FinalizerLocalData && !waits
	})
	if len(updated.Finalizers) < len(v.Finalizers) {
		p.write(controller.Update, updated)
	}
}

// phase writes the volume's phase, and why it failed.
func (p *planner) phase(v *corev1.PersistentVolume, phase corev1.PersistentVolumePhase, message string) {
	if v.Status.Phase == phase {
		return
	}
	updated := v.DeepCopy()
	updated.Status.Phase, updated.Status.Message = phase, message
	var events []controller.Event
	if phase == corev1.VolumeFailed {
		events = append(events, event(v, "PersistentVolume", corev1.EventTypeWarning, "VolumeFailedDelete", message))
	}
	p.write(controller.Status, updated, events...)
}
