package garbage

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Events are looked at now and then only, and removed some at a time: each removal is a write.
const (
	eventSweep = 5 * time.Minute
	eventBatch = 500
)

// Events returns the plan that removes events once they were last seen longer than keep ago; zero means an hour, as
// kube-apiserver's --event-ttl. It reads no changes: it wakes by itself.
func Events(keep time.Duration) controller.Controller {
	if keep <= 0 {
		keep = time.Hour
	}
	return controller.Controller{Name: "events", Plan: func(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
		return planEvents(s, now, keep)
	}}
}

// planEvents removes events that were last seen too long ago. They are for people, who read the stream EVENTS for more.
func planEvents(s *controller.Snapshot, now time.Time, keep time.Duration) ([]controller.Change, time.Time) {
	var changes []controller.Change
	none := int64(0)
	for _, obj := range s.Others[eventKind] {
		e, ok := obj.(*corev1.Event)
		if !ok || now.Sub(lastSeen(e)) < keep {
			continue
		}
		changes = append(changes, controller.Change{Verb: controller.Delete, Object: e, Grace: &none})
		if len(changes) == eventBatch {
			break
		}
	}
	return changes, now.Add(eventSweep)
}

func lastSeen(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(last) {
			last = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	return last
}
