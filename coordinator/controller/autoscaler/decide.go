package autoscaler

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// work is one autoscaler under consideration.
type work struct {
	look   *survey
	was    *autoscalingv2.HorizontalPodAutoscaler
	status autoscalingv2.HorizontalPodAutoscalerStatus // as it will be
	memory *memory
	now    time.Time
	events []controller.Event
	scale  *controller.Change
}

// decide looks at one autoscaler: first at whether what was asked for last was done, then at its metrics.
func decide(l *survey, h *autoscalingv2.HorizontalPodAutoscaler, m *memory, now time.Time) []controller.Change {
	w := &work{look: l, was: h, memory: m, now: now}
	h.Status.DeepCopyInto(&w.status)
	m.generation = h.Generation
	t := l.target(h)
	switch {
	case m.asked != nil:
		w.confirm(t)
	default:
		m.due = now.Add(period)
		w.run(t)
	}
	return w.changes()
}

// confirm writes down a change of scale once it was made. One that was refused, or overtaken by somebody else's, is
// decided anew.
func (w *work) confirm(t *target) {
	a := w.memory.asked
	w.memory.asked = nil
	if t.problem != "" || t.replicas != a.to {
		w.memory.due = w.now.Add(afterFailure)
		w.set(autoscalingv2.AbleToScale, false, "FailedUpdateScale", "the HPA controller was unable to update the target scale: it was refused, or changed by others meanwhile")
		return
	}
	w.memory.note(a)
	w.set(autoscalingv2.AbleToScale, true, "SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", a.to))
	w.status.CurrentReplicas, w.status.DesiredReplicas = a.from, a.to
	at := metav1.NewTime(a.at)
	w.status.LastScaleTime = &at
}

// run is upstream's reconcileAutoscaler up to the change of scale.
func (w *work) run(t *target) {
	if t.problem != "" {
		w.set(autoscalingv2.AbleToScale, false, "FailedGetScale", "the HPA controller was unable to get the target's current scale: "+t.problem)
		w.warn("FailedGetScale", t.problem)
		return
	}
	w.set(autoscalingv2.AbleToScale, true, "SucceededGetScale", "the HPA controller was able to get the target's current scale")
	if w.memory.recommendations == nil {
		w.memory.recommendations = []recommendation{{w.now, t.replicas}}
	}
	least := int32(1)
	if w.was.Spec.MinReplicas != nil {
		least = *w.was.Spec.MinReplicas
	}
	l := limits{least: least, most: w.was.Spec.MaxReplicas, current: t.replicas, behavior: w.was.Spec.Behavior}
	switch {
	case t.replicas == 0:
		w.set(autoscalingv2.ScalingActive, false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
		w.stay(t.replicas, nil)
	case t.replicas > l.most:
		w.rescale(t, l.most, "Current number of replicas above Spec.MaxReplicas", nil)
	case t.replicas < l.least:
		w.rescale(t, l.least, "Current number of replicas below Spec.MinReplicas", nil)
	default:
		w.follow(t, l)
	}
}

// follow does what the metrics say, within the limits.
func (w *work) follow(t *target, l limits) {
	wanted, metric, statuses, err := w.metrics(t)
	if err != nil && wanted < 0 {
		w.status.CurrentReplicas, w.status.CurrentMetrics = t.replicas, statuses
		w.warn("FailedComputeMetricsReplicas", err.Error())
		return
	}
	stable := l.stabilize(w.memory, wanted, w.now)
	w.set(autoscalingv2.AbleToScale, true, stable.reason, stable.message)
	bounded := l.bound(w.memory, stable.replicas, w.now)
	w.set(autoscalingv2.ScalingLimited, bounded.replicas != stable.replicas, bounded.reason, bounded.message)
	if bounded.replicas == t.replicas {
		w.stay(t.replicas, statuses)
		return
	}
	w.rescale(t, bounded.replicas, reasonOf(t.replicas, wanted, metric), statuses)
}

func (w *work) stay(replicas int32, statuses []autoscalingv2.MetricStatus) {
	w.status.CurrentReplicas, w.status.DesiredReplicas, w.status.CurrentMetrics = replicas, replicas, statuses
}

// rescale asks for other replicas. What came of it is looked at in the next plan, which follows the write.
func (w *work) rescale(t *target, replicas int32, reason string, statuses []autoscalingv2.MetricStatus) {
	w.status.CurrentReplicas, w.status.CurrentMetrics = t.replicas, statuses
	w.memory.asked = &asked{at: w.now, from: t.replicas, to: replicas}
	message := fmt.Sprintf("New size: %d; reason: %s", replicas, reason)
	w.scale = &controller.Change{
		Verb: controller.Update, Object: t.scaled(replicas),
		Events: []controller.Event{w.event(corev1.EventTypeNormal, "SuccessfulRescale", message)},
	}
}

// metrics proposes the highest of what the metrics ask for. It is -1 with an error when nothing is to be done: no metric
// is known, or some are not and the others would scale down.
func (w *work) metrics(t *target) (wanted int32, metric string, statuses []autoscalingv2.MetricStatus, err error) {
	pods := w.look.pods(w.was.Namespace, t.selector)
	if rivals := w.look.rivals(w.was, pods); rivals != "" {
		message := fmt.Sprintf("pods by selector %v are controlled by more than one HPA (e.g. %v)", t.selector, rivals)
		w.set(autoscalingv2.ScalingActive, false, "AmbiguousSelector", message)
		w.warn("AmbiguousSelector", message)
		return -1, "", nil, fmt.Errorf("%s", message)
	}
	specs := w.was.Spec.Metrics
	statuses = make([]autoscalingv2.MetricStatus, len(specs))
	var first *failure
	failed := 0
	for i := range specs {
		one, trouble := w.metric(&specs[i], t, pods)
		if trouble != nil {
			if failed++; first == nil {
				first = trouble
			}
			continue
		}
		statuses[i] = one.status
		if wanted == 0 || one.replicas > wanted {
			wanted, metric = one.replicas, one.name
		}
	}
	if first != nil {
		err = fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %s", failed, len(specs), first.wrapped)
	}
	if failed >= len(specs) || failed > 0 && wanted < t.replicas {
		message := "no metric is asked for"
		reason := "InvalidMetricSourceType"
		if first != nil {
			reason, message = first.reason, first.message
		}
		w.set(autoscalingv2.ScalingActive, false, reason, "the HPA was unable to compute the replica count: "+message)
		w.warn(reason, message)
		return -1, "", statuses, fmt.Errorf("invalid metrics (%d invalid out of %d), first error is: %s", failed, len(specs), message)
	}
	w.set(autoscalingv2.ScalingActive, true, "ValidMetricFound", "the HPA was able to successfully calculate a replica count from "+metric)
	return wanted, metric, statuses, err
}

func (w *work) event(kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{
			Kind: "HorizontalPodAutoscaler", APIVersion: autoscalingv2.SchemeGroupVersion.String(),
			Namespace: w.was.Namespace, Name: w.was.Name, UID: w.was.UID, ResourceVersion: w.was.ResourceVersion,
		},
		Type: kind, Reason: reason, Message: message, Component: "horizontal-pod-autoscaler",
	}
}
