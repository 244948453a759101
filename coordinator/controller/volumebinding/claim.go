package volumebinding

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// claim takes the next step for one claim.
func (p *planner) claim(c *corev1.PersistentVolumeClaim) {
	switch {
	case c.DeletionTimestamp != nil:
		p.release(c)
	case c.Spec.VolumeName != "":
		p.follow(c)
	default:
		p.find(c)
	}
}

// own makes the claims of a pod's ephemeral volumes. They are the pod's, and go with it.
func (p *planner) own(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil || controller.PodFinished(pod) {
		return
	}
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Ephemeral == nil || v.Ephemeral.VolumeClaimTemplate == nil {
			continue
		}
		name := controller.EphemeralClaim(pod, v)
		if p.claims[pod.Namespace+"/"+name] != nil {
			continue
		}
		template := v.Ephemeral.VolumeClaimTemplate
		p.write(controller.Create, &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: pod.Namespace, Name: name, Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
				OwnerReferences: []metav1.OwnerReference{controller.Reference(pod, "v1", "Pod")},
			},
			Spec: *template.Spec.DeepCopy(),
		})
	}
}

// release lets a claim go that is being deleted, once no pod on a node uses it.
func (p *planner) release(c *corev1.PersistentVolumeClaim) {
	if p.used[c.Namespace+"/"+c.Name] || !slices.Contains(c.Finalizers, claimProtection) {
		return
	}
	updated := c.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool { return f == claimProtection })
	p.write(controller.Update, updated)
}

// follow completes the binding of a claim that names its volume, or says that it is lost.
func (p *planner) follow(c *corev1.PersistentVolumeClaim) {
	v := p.volumes[c.Spec.VolumeName]
	switch {
	case v != nil && controller.RefersTo(v, c):
		p.bind(c, v)
	case c.Annotations[annotationBound] == yes:
		p.lose(c, v)
	case v != nil && v.Spec.ClaimRef == nil && v.DeletionTimestamp == nil && controller.Misfit(v, c) == "":
		p.bind(c, v)
	}
}

func (p *planner) lose(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	if c.Status.Phase == corev1.ClaimLost {
		return
	}
	reason, message := "ClaimLost", "Bound claim has lost its PersistentVolume. Any data on the volume is lost!"
	if v != nil {
		message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
		if v.Spec.ClaimRef != nil {
			reason, message = "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly"
		}
	}
	updated := c.DeepCopy()
	updated.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimLost}
	p.write(controller.Status, updated, event(c, "PersistentVolumeClaim", corev1.EventTypeWarning, reason, message))
}

// find looks for the volume of a claim that has none, or makes it. A claim whose class waits is left alone until the
// scheduler has chosen a node for its first pod.
func (p *planner) find(c *corev1.PersistentVolumeClaim) {
	class := p.classes[controller.ClaimClass(c)]
	for _, v := range p.order {
		if controller.RefersTo(v, c) && v.DeletionTimestamp == nil && !p.touched[v.Name] && controller.Misfit(v, c) == "" {
			p.bind(c, v)
			return
		}
	}
	selected, delays := c.Annotations[api.AnnotationSelectedNode], controller.Delays(class)
	node := p.nodes[selected]
	switch {
	case delays && selected == "":
		return
	case delays && node == nil:
		p.reconsider(c)
		return
	case !delays:
		node = nil
	}
	for _, v := range p.order {
		if controller.Free(v, c) && !p.touched[v.Name] && (node == nil || controller.Reaches(v, node)) {
			p.bind(c, v)
			return
		}
	}
	switch {
	case controller.Provides(class, c):
		p.provision(c, class, node)
	case delays && class.Provisioner == noProvisioner:
		p.reconsider(c)
	}
}

// reconsider has the scheduler choose another node.
func (p *planner) reconsider(c *corev1.PersistentVolumeClaim) {
	updated := c.DeepCopy()
	delete(updated.Annotations, api.AnnotationSelectedNode)
	p.write(controller.Update, updated)
}

// bind takes the next step of binding the two: the volume names the claim, then the claim the volume, then both say so.
func (p *planner) bind(c *corev1.PersistentVolumeClaim, v *corev1.PersistentVolume) {
	if ref := v.Spec.ClaimRef; ref == nil || ref.UID == "" {
		if !p.touched[v.Name] {
			p.write(controller.Update, keptFor(v, c))
		}
		return
	}
	p.phase(v, corev1.VolumeBound, "")
	if c.Spec.VolumeName != v.Name || c.Annotations[annotationBound] != yes {
		updated := c.DeepCopy()
		updated.Annotations = maps.Clone(c.Annotations)
		annotate(&updated.Annotations, annotationBound)
		if c.Spec.VolumeName == "" {
			annotate(&updated.Annotations, annotationByController)
		}
		updated.Spec.VolumeName = v.Name
		p.write(controller.Update, updated)
		return
	}
	status := c.Status.DeepCopy()
	status.Phase, status.AccessModes, status.Capacity = corev1.ClaimBound, v.Spec.AccessModes, v.Spec.Capacity
	if equality.Semantic.DeepEqual(&c.Status, status) {
		return
	}
	updated := c.DeepCopy()
	status.DeepCopyInto(&updated.Status)
	p.write(controller.Status, updated)
}

// keptFor is the volume with the claim's name and UID in it.
func keptFor(v *corev1.PersistentVolume, c *corev1.PersistentVolumeClaim) *corev1.PersistentVolume {
	updated := v.DeepCopy()
	if v.Spec.ClaimRef == nil {
		annotate(&updated.Annotations, annotationByController)
	}
	updated.Spec.ClaimRef = claimRef(c)
	return updated
}

func claimRef(c *corev1.PersistentVolumeClaim) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID}
}

func annotate(annotations *map[string]string, name string) {
	if *annotations == nil {
		*annotations = map[string]string{}
	}
	(*annotations)[name] = yes
}
