package controllertest

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Perform does the changes in order and returns one line for each, and one for each of its events.
func (w *World) Perform(changes []controller.Change) []string {
	var lines []string
	for _, c := range changes {
		line, done := w.perform(c)
		if line != "" {
			lines = append(lines, line)
		}
		for _, e := range c.Events {
			if done {
				lines = append(lines, w.name(fmt.Sprintf("  event %s %s/%s %s: %s", e.Type, e.Regarding.Kind, e.Regarding.Name, e.Reason, e.Message)))
			}
		}
	}
	return lines
}

func (w *World) perform(c controller.Change) (line string, done bool) {
	if c.Verb == "" {
		return "", true
	}
	o := object(c.Object)
	old := w.objects[key(o)]
	if c.Verb == controller.Create {
		return w.create(o, old)
	}
	if problem := conflict(c, o, old); problem != "" {
		return w.name(fmt.Sprintf("%s %s: %s", c.Verb, title(o), problem)), false
	}
	switch c.Verb {
	case controller.Delete, controller.Evict:
		return w.delete(c, old), true
	default:
		return w.write(c.Verb, o, old), true
	}
}

func conflict(c controller.Change, o, old controller.Object) string {
	switch {
	case old == nil:
		return "not found"
	case o.GetUID() != "" && o.GetUID() != old.GetUID():
		return "other uid"
	case c.Verb != controller.Delete && c.Verb != controller.Evict && o.GetResourceVersion() != old.GetResourceVersion():
		return "conflict"
	}
	return ""
}

func (w *World) create(o, old controller.Object) (string, bool) {
	if old != nil {
		return w.name(fmt.Sprintf("create %s: exists", title(o))), false
	}
	owner := metav1.GetControllerOf(o)
	if w.Refuse != nil {
		if words := w.Refuse(o); words != "" {
			if owner != nil {
				w.Refused[owner.UID] = words
			}
			return w.name(fmt.Sprintf("create %s: %s", title(o), words)), false
		}
	}
	if owner != nil {
		delete(w.Refused, owner.UID)
	}
	if pod, ok := o.(*corev1.Pod); ok && pod.Status.Phase == "" {
		pod = pod.DeepCopy()
		pod.Status.Phase = corev1.PodPending
		o = pod
	}
	return w.name("create " + title(w.Put(o)) + details(o)), true
}

func (w *World) write(verb controller.Verb, o, old controller.Object) string {
	merged := copyOf(o)
	merged.SetDeletionTimestamp(old.GetDeletionTimestamp())
	line := fmt.Sprintf("%s %s%s", verb, title(o), difference(old, merged))
	w.Put(merged)
	return w.name(line)
}

// delete follows the write path: a running pod is asked to stop and stays, an object with finalizers stays.
func (w *World) delete(c controller.Change, old controller.Object) string {
	line := string(c.Verb) + " " + title(old) + deleteDetails(c, old)
	grace := int64(0)
	if pod, ok := old.(*corev1.Pod); ok && pod.Spec.NodeName != "" && !controller.PodFinished(pod) {
		grace = 30
		if pod.Spec.TerminationGracePeriodSeconds != nil {
			grace = *pod.Spec.TerminationGracePeriodSeconds
		}
	}
	if c.Grace != nil {
		grace = *c.Grace
	}
	o := copyOf(old)
	if o.GetDeletionTimestamp() == nil {
		t := metav1.NewTime(w.Now.Add(time.Duration(grace) * time.Second))
		o.SetDeletionTimestamp(&t)
	}
	o.SetDeletionGracePeriodSeconds(&grace)
	switch c.Propagation {
	case metav1.DeletePropagationForeground:
		o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerDeleteDependents))
	case metav1.DeletePropagationOrphan:
		o.SetFinalizers(append(o.GetFinalizers(), metav1.FinalizerOrphanDependents))
	case metav1.DeletePropagationBackground, "":
	}
	w.Put(o)
	return w.name(line)
}

// Rounds runs the plans until none asks for anything and returns what was done. It fails when that does not happen
// within limit rounds: plans that never rest are wrong.
func (w *World) Rounds(plans []controller.Plan, limit int) (lines []string, wake time.Time, err error) {
	for range limit {
		var changes []controller.Change
		wake = time.Time{}
		s := w.Snapshot()
		for _, plan := range plans {
			more, at := plan(s, w.Now)
			changes = append(changes, more...)
			wake = controller.Sooner(wake, at)
		}
		if len(changes) == 0 {
			return lines, wake, nil
		}
		lines = append(lines, w.Perform(changes)...)
	}
	return lines, wake, fmt.Errorf("plans did not come to rest in %d rounds; last: %v", limit, lines[max(0, len(lines)-5):])
}
