package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"skerry.dev/skerry/coordinator/controller"
)

// status writes what the snapshot shows. The new template counts as observed once it has a revision.
func (w *work) status(collision bool) {
	status := appsv1.StatefulSetStatus{
		ObservedGeneration: w.set.Status.ObservedGeneration, CurrentRevision: w.set.Status.CurrentRevision, UpdateRevision: w.set.Status.UpdateRevision,
		CollisionCount: w.set.Status.CollisionCount, Conditions: w.set.Status.Conditions,
	}
	if w.update != nil {
		status.ObservedGeneration = w.set.Generation
		status.CurrentRevision, status.UpdateRevision = w.current.Name, w.update.Name
	}
	for _, pod := range w.pods {
		w.count(&status, pod)
	}
	w.complete(&status)
	if collision {
		count := int32(1)
		if have := w.set.Status.CollisionCount; have != nil {
			count += *have
		}
		status.CollisionCount = &count
	}
	if equality.Semantic.DeepEqual(w.set.Status, status) {
		return
	}
	updated := w.set.DeepCopy()
	updated.Status = status
	w.changes = append(w.changes, controller.Change{Verb: controller.Status, Object: updated})
}

func (w *work) count(status *appsv1.StatefulSetStatus, pod *corev1.Pod) {
	status.Replicas++
	if pod.Status.Phase == corev1.PodRunning && controller.PodReady(pod) {
		status.ReadyReplicas++
		if w.available(pod) {
			status.AvailableReplicas++
		}
	}
	if pod.DeletionTimestamp != nil || w.update == nil {
		return
	}
	if revisionOf(pod) == status.CurrentRevision {
		status.CurrentReplicas++
	}
	if revisionOf(pod) == status.UpdateRevision {
		status.UpdatedReplicas++
	}
}

// complete ends an update that has reached every pod: what was new is current then.
func (w *work) complete(status *appsv1.StatefulSetStatus) {
	all := status.Replicas
	if w.update == nil || int(all) != len(w.wanted) || status.UpdatedReplicas != all || status.ReadyReplicas != all {
		return
	}
	status.CurrentReplicas, status.CurrentRevision = status.UpdatedReplicas, status.UpdateRevision
}
