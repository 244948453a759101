package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// readStorage takes claims, volumes and classes from a snapshot. Where these kinds are not served, no claim exists.
func (in *Input) readStorage(s *controller.Snapshot) {
	in.Claims = controller.Rest[*corev1.PersistentVolumeClaim](s, controller.ClaimKind)
	in.Volumes = controller.Rest[*corev1.PersistentVolume](s, controller.VolumeKind)
	in.Classes = controller.Rest[*storagev1.StorageClass](s, controller.StorageClassKind)
}

// consumers tells claims that wait for their first pod on which node it will run. A pod is bound when all its claims are:
// were it bound first, a crash in between could leave it on a node where its volumes never come to be.
type consumers struct {
	claims  map[string]*corev1.PersistentVolumeClaim // that have no volume, by namespace and name
	changes []controller.Change
}

func newConsumers(in *Input) *consumers {
	s, classes := &consumers{claims: map[string]*corev1.PersistentVolumeClaim{}}, map[string]*storagev1.StorageClass{}
	for _, c := range in.Classes {
		classes[c.Name] = c
	}
	for _, c := range in.Claims {
		if awaitsNode(c, classes) || c.Status.Phase != corev1.ClaimBound {
			s.claims[c.Namespace+"/"+c.Name] = c
		}
	}
	return s
}

// choose tells the claims of a pod that was placed. It reports whether the pod has to wait for one of them. A claim that
// another pod of this pass has told is left alone: the next pass places the pod where that one goes.
func (s *consumers) choose(d Decision) (waits bool) {
	for _, key := range claimKeys(d.Pod) {
		c, unbound := s.claims[key]
		if !unbound {
			continue
		}
		waits = true
		if c.Annotations[api.AnnotationSelectedNode] != "" {
			continue
		}
		updated := c.DeepCopy()
		updated.Annotations = maps.Clone(c.Annotations)
		if updated.Annotations == nil {
			updated.Annotations = map[string]string{}
		}
		updated.Annotations[api.AnnotationSelectedNode] = d.Node
		s.claims[key] = updated
		s.changes = append(s.changes, controller.Change{Verb: controller.Update, Object: updated})
	}
	return waits
}
