package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"skerry.dev/skerry/coordinator/controller"
)

// status writes what the snapshot shows; pods that this plan only asks for are not counted before they exist.
func (p *planner) status(rs *appsv1.ReplicaSet, c claims) {
	status, wake := observe(rs, c, p.now)
	if !p.countsTerminating {
		status.TerminatingReplicas = nil
	}
	p.wake = controller.Sooner(p.wake, wake)
	refusal := p.refusal(rs, c)
	status.Conditions = failure(rs.Status.Conditions, refusal, p.now)
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return
	}
	updated := rs.DeepCopy()
	updated.Status = status
	change := controller.Change{Verb: controller.Status, Object: p.stored(updated)}
	if refusal != "" && condition(rs.Status.Conditions) == nil {
		e := p.event(rs, "FailedCreate", "Error creating: "+refusal)
		e.Type = corev1.EventTypeWarning
		change.Events = append(change.Events, e)
	}
	p.changes = append(p.changes, change)
}

// refusal is why pods that are missing could not be made. Words about pods that nobody asks for any more are history.
func (p *planner) refusal(rs *appsv1.ReplicaSet, c claims) string {
	if len(c.counted) >= int(wanted(rs)) {
		return ""
	}
	return p.s.Refused[rs.UID]
}

func observe(rs *appsv1.ReplicaSet, c claims, now time.Time) (appsv1.ReplicaSetStatus, time.Time) {
	terminating := int32(len(c.terminating))
	status := appsv1.ReplicaSetStatus{Replicas: int32(len(c.counted)), TerminatingReplicas: &terminating, ObservedGeneration: rs.Generation}
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	var wake time.Time
	for _, pod := range c.counted {
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !controller.PodReady(pod) {
			continue
		}
		status.ReadyReplicas++
		available, due := controller.PodAvailable(pod, rs.Spec.MinReadySeconds, now)
		if available {
			status.AvailableReplicas++
		}
		wake = controller.Sooner(wake, due)
	}
	return status, wake
}

// failure is the conditions with ReplicaFailure present exactly while creates are refused.
func failure(have []appsv1.ReplicaSetCondition, refusal string, now time.Time) []appsv1.ReplicaSetCondition {
	var kept []appsv1.ReplicaSetCondition
	for _, c := range have {
		if c.Type != appsv1.ReplicaSetReplicaFailure || refusal != "" {
			kept = append(kept, c)
		}
	}
	if refusal == "" || condition(kept) != nil {
		return kept
	}
	return append(kept, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now),
		Reason: "FailedCreate", Message: refusal,
	})
}

func condition(conditions []appsv1.ReplicaSetCondition) *appsv1.ReplicaSetCondition {
	for i := range conditions {
		if conditions[i].Type == appsv1.ReplicaSetReplicaFailure {
			return &conditions[i]
		}
	}
	return nil
}
