package autoscaler

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// set puts a condition into the status. Its time changes with its status only.
func (w *work) set(name autoscalingv2.HorizontalPodAutoscalerConditionType, holds bool, reason, message string) {
	c := autoscalingv2.HorizontalPodAutoscalerCondition{
		Type: name, Status: corev1.ConditionFalse, Reason: reason, Message: message, LastTransitionTime: metav1.NewTime(w.now),
	}
	if holds {
		c.Status = corev1.ConditionTrue
	}
	for i, old := range w.status.Conditions {
		if old.Type == name {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			w.status.Conditions[i] = c
			return
		}
	}
	w.status.Conditions = append(w.status.Conditions, c)
}

// warn tells people of trouble, once: the condition stays, and an event each quarter of a minute would say no more.
func (w *work) warn(reason, message string) {
	if !equality.Semantic.DeepEqual(w.status.Conditions, w.was.Status.Conditions) {
		w.events = append(w.events, w.event(corev1.EventTypeWarning, reason, message))
	}
}

// changes are the status, when there is something to say, and the target.
func (w *work) changes() (changes []controller.Change) {
	generation := w.was.Generation
	w.status.ObservedGeneration = &generation
	if w.news() {
		w.memory.written = w.now
		h := w.was.DeepCopy()
		h.Status = w.status
		changes = append(changes, controller.Change{Verb: controller.Status, Object: h, Events: w.events})
	}
	if w.scale != nil {
		changes = append(changes, *w.scale)
	}
	return changes
}

// news reports whether the status is worth a write. Figures change with every look; those that hardly differ are
// written once a minute.
func (w *work) news() bool {
	old, now := w.was.Status.DeepCopy(), w.status.DeepCopy()
	if equality.Semantic.DeepEqual(old, now) {
		return false
	}
	near := len(old.CurrentMetrics) == len(now.CurrentMetrics) && w.now.Sub(w.memory.written) < statusEvery
	for i := range now.CurrentMetrics {
		near = near && closeTo(value(old.CurrentMetrics[i]), value(now.CurrentMetrics[i]))
	}
	if near {
		old.CurrentMetrics, now.CurrentMetrics = nil, nil
	}
	return !equality.Semantic.DeepEqual(old, now)
}

func value(s autoscalingv2.MetricStatus) *autoscalingv2.MetricValueStatus {
	switch {
	case s.Resource != nil:
		return &s.Resource.Current
	case s.ContainerResource != nil:
		return &s.ContainerResource.Current
	}
	return nil
}

// closeTo reports that two figures differ by less than what makes anything happen.
func closeTo(a, b *autoscalingv2.MetricValueStatus) bool {
	if a == nil || b == nil || a.AverageValue == nil || b.AverageValue == nil {
		return a == b
	}
	x, y := a.AverageValue.AsApproximateFloat64(), b.AverageValue.AsApproximateFloat64()
	return x <= y*(1+tolerance) && y <= x*(1+tolerance)
}
