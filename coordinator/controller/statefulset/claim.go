package statefulset

import (
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

func claimsOf(s *controller.Snapshot) map[string]*corev1.PersistentVolumeClaim {
	claims := map[string]*corev1.PersistentVolumeClaim{}
	for _, c := range controller.Rest[*corev1.PersistentVolumeClaim](s, controller.ClaimKind) {
		claims[c.Namespace+"/"+c.Name] = c
	}
	return claims
}

// claimName is the name of the claim that the pod of that number has from that template.
func claimName(set *appsv1.StatefulSet, template *corev1.PersistentVolumeClaim, number int) string {
	return template.Name + "-" + set.Name + "-" + strconv.Itoa(number)
}

// provide makes the claims that the pod at that place needs and does not have, and sees to whom they belong. It reports
// whether the pod may be made: not while a claim of its is being deleted, whose data the pod would get and lose.
func (w *work) provide(place int) bool {
	number, free := start(w.set)+place, true
	for i := range w.set.Spec.VolumeClaimTemplates {
		template := &w.set.Spec.VolumeClaimTemplates[i]
		have := w.claims[w.set.Namespace+"/"+claimName(w.set, template, number)]
		switch {
		case have == nil:
			w.claim(template, number)
		case have.DeletionTimestamp != nil || w.orphaned(have):
			free = false
		default:
			w.own(have, w.heir(nil))
		}
	}
	return free
}

func (w *work) claim(template *corev1.PersistentVolumeClaim, number int) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: w.set.Namespace, Name: claimName(w.set, template, number),
		Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), OwnerReferences: w.heir(nil),
	}}
	template.Spec.DeepCopyInto(&claim.Spec)
	if claim.Labels == nil {
		claim.Labels = map[string]string{}
	}
	maps.Copy(claim.Labels, w.set.Spec.Selector.MatchLabels)
	pod := w.set.Name + "-" + strconv.Itoa(number)
	message := "create Claim " + claim.Name + " Pod " + pod + " in StatefulSet " + w.set.Name + " success"
	w.changes = append(w.changes, controller.Change{
		Verb: controller.Create, Object: claim, Events: []controller.Event{event(w.set, "SuccessfulCreate", message)},
	})
}

// bequeath has the claims of a pod that is one too many go with it, or stay, as the set says. It reports whether that is
// written: only then may the pod go.
func (w *work) bequeath(pod *corev1.Pod) bool {
	settled := true
	for i := range w.set.Spec.VolumeClaimTemplates {
		name := claimName(w.set, &w.set.Spec.VolumeClaimTemplates[i], ordinal(w.set, pod))
		have := w.claims[w.set.Namespace+"/"+name]
		if have != nil && have.DeletionTimestamp == nil && w.own(have, w.heir(pod)) {
			settled = false
		}
	}
	return settled
}

// heir is the owner with whom a claim is to go: the set when it is deleted, the pod when it is one too many (nil for a pod
// that is wanted), or nobody.
func (w *work) heir(surplus *corev1.Pod) []metav1.OwnerReference {
	policy := w.set.Spec.PersistentVolumeClaimRetentionPolicy
	switch {
	case policy == nil:
		return nil
	case surplus != nil && policy.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		return []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: surplus.Name, UID: surplus.UID}}
	case policy.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		return []metav1.OwnerReference{reference(w.set)}
	}
	return nil
}

// own makes heirs the claim's owners, beside those that have nothing to do with the set. It reports whether that is a change.
func (w *work) own(claim *corev1.PersistentVolumeClaim, heirs []metav1.OwnerReference) bool {
	owners := slices.DeleteFunc(slices.Clone(claim.OwnerReferences), func(r metav1.OwnerReference) bool {
		return r.UID == w.set.UID || w.mine(r)
	})
	owners = append(owners, heirs...)
	same := slices.EqualFunc(owners, claim.OwnerReferences, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID })
	if same {
		return false
	}
	updated := claim.DeepCopy()
	updated.OwnerReferences = owners
	w.changes = append(w.changes, controller.Change{Verb: controller.Update, Object: updated})
	return true
}

// orphaned reports whether the claim went with a pod that is gone: it is about to be deleted.
func (w *work) orphaned(claim *corev1.PersistentVolumeClaim) bool {
	return slices.ContainsFunc(claim.OwnerReferences, func(r metav1.OwnerReference) bool { return r.Kind == "Pod" && !w.mine(r) })
}

// mine is a reference to one of the set's pods: none that is gone, which the garbage collector is about to act on.
func (w *work) mine(r metav1.OwnerReference) bool {
	return r.Kind == "Pod" && slices.ContainsFunc(w.pods, func(pod *corev1.Pod) bool { return pod.UID == r.UID })
}

// mountClaims gives the pod its claims as volumes, in place of volumes of the same names.
func mountClaims(pod *corev1.Pod, set *appsv1.StatefulSet, number int) {
	for i := range set.Spec.VolumeClaimTemplates {
		template := &set.Spec.VolumeClaimTemplates[i]
		pod.Spec.Volumes = slices.DeleteFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == template.Name })
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: template.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, template, number)},
		}})
	}
}
