package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"skerry.dev/skerry/coordinator/controller"
)

// status writes what the snapshot shows. The new template counts as observed once it has a revision.
func (w *work) status(collision bool) {
	status := w.observe()
	if collision {
		count := int32(1)
		if have := w.ds.Status.CollisionCount; have != nil {
			count += *have
		}
		status.CollisionCount = &count
	}
	if equality.Semantic.DeepEqual(w.ds.Status, status) {
		return
	}
	updated := w.ds.DeepCopy()
	updated.Status = status
	w.changes = append(w.changes, controller.Change{Verb: controller.Status, Object: updated})
}

func (w *work) observe() appsv1.DaemonSetStatus {
	status := appsv1.DaemonSetStatus{
		DesiredNumberScheduled: int32(w.desired), ObservedGeneration: w.ds.Status.ObservedGeneration,
		CollisionCount: w.ds.Status.CollisionCount, Conditions: w.ds.Status.Conditions,
	}
	if w.hash != "" {
		status.ObservedGeneration = w.ds.Generation
	}
	for _, at := range w.places {
		switch {
		case at.gone || len(at.pods) == 0:
			continue
		case !at.run:
			status.NumberMisscheduled++
			continue
		}
		status.CurrentNumberScheduled++
		pod := at.pods[0]
		if controller.PodReady(pod) {
			status.NumberReady++
			if w.available(pod) {
				status.NumberAvailable++
			}
		}
		if w.updated(pod) {
			status.UpdatedNumberScheduled++
		}
	}
	status.NumberUnavailable = status.DesiredNumberScheduled - status.NumberAvailable
	return status
}
