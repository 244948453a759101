package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Reasons of conditions, as upstream words them.
const (
	reasonNewSet      = "NewReplicaSetCreated"
	reasonFoundSet    = "FoundNewReplicaSet"
	reasonUpdated     = "ReplicaSetUpdated"
	reasonComplete    = "NewReplicaSetAvailable"
	reasonTimedOut    = "ProgressDeadlineExceeded"
	reasonPaused      = "DeploymentPaused"
	reasonResumed     = "DeploymentResumed"
	reasonCreateError = "ReplicaSetCreateError"
	reasonAvailable   = "MinimumReplicasAvailable"
	reasonUnavailable = "MinimumReplicasUnavailable"
)

func hasDeadline(d *appsv1.Deployment) bool {
	return d.Spec.ProgressDeadlineSeconds != nil && *d.Spec.ProgressDeadlineSeconds != math.MaxInt32
}

func progressing(status corev1.ConditionStatus, reason, message string) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: status, Reason: reason, Message: message}
}

// markPause keeps the progress deadline from running while the deployment is paused.
func (r *rollout) markPause() {
	if !hasDeadline(r.d) {
		return
	}
	c := r.progress()
	if c != nil && c.Reason == reasonTimedOut {
		return // what did not progress before the pause stays reported
	}
	paused := c != nil && c.Reason == reasonPaused
	switch {
	case r.d.Spec.Paused && !paused:
		r.setCondition(progressing(corev1.ConditionUnknown, reasonPaused, "Deployment is paused"))
	case !r.d.Spec.Paused && paused:
		r.setCondition(progressing(corev1.ConditionUnknown, reasonResumed, "Deployment is resumed"))
	}
}

// plainStatus writes counts and availability, and leaves progress alone.
func (r *rollout) plainStatus() { r.d.Status = r.count() }

func (r *rollout) count() appsv1.DeploymentStatus {
	sets := r.all()
	status := appsv1.DeploymentStatus{
		ObservedGeneration: r.d.Generation, CollisionCount: r.d.Status.CollisionCount, Conditions: slices.Clone(r.d.Status.Conditions),
		AvailableReplicas: available(sets), TerminatingReplicas: terminating(sets),
	}
	for _, s := range sets {
		status.Replicas += s.Status.Replicas
		status.ReadyReplicas += s.Status.ReadyReplicas
	}
	if r.current != nil {
		status.UpdatedReplicas = r.current.Status.Replicas
	}
	status.UnavailableReplicas = max(0, total(sets)-status.AvailableReplicas)
	setCondition(&status, r.availability(status.AvailableReplicas), r.now)
	return status
}

// terminating is unknown (nil) as soon as one set that was looked at does not say.
func terminating(sets []*set) *int32 {
	var n int32
	for _, s := range sets {
		switch {
		case s.Status.TerminatingReplicas != nil:
			n += *s.Status.TerminatingReplicas
		case s.Status.ObservedGeneration != 0:
			return nil
		}
	}
	return &n
}

func (r *rollout) availability(available int32) appsv1.DeploymentCondition {
	if available >= r.minAvailable() {
		return appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: reasonAvailable, Message: "Deployment has minimum availability."}
	}
	return appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: reasonUnavailable, Message: "Deployment does not have minimum availability."}
}

// progressStatus writes counts, availability and how the rollout gets on.
func (r *rollout) progressStatus() {
	status := r.count()
	if !hasDeadline(r.d) {
		dropCondition(&status, appsv1.DeploymentProgressing)
	}
	was := r.progress()
	settled := status.Replicas == status.UpdatedReplicas && was != nil && was.Reason == reasonComplete
	if hasDeadline(r.d) && !settled {
		r.estimate(&status, was)
	}
	r.reportFailures(&status)
	r.d.Status = status
}

func (r *rollout) estimate(status *appsv1.DeploymentStatus, was *appsv1.DeploymentCondition) {
	subject := fmt.Sprintf("Deployment %q", r.d.Name)
	if r.current != nil {
		subject = fmt.Sprintf("ReplicaSet %q", r.current.Name)
	}
	switch {
	case r.complete(status):
		setCondition(status, progressing(corev1.ConditionTrue, reasonComplete, subject+" has successfully progressed."), r.now)
	case r.progressed(status):
		r.noteProgress(status, was, subject)
	case r.refused(status):
	case r.timedOut(status):
		setCondition(status, progressing(corev1.ConditionFalse, reasonTimedOut, subject+" has timed out progressing."), r.now)
	}
}

// noteProgress renews the condition's update time, from which the deadline counts, even when nothing else changes in it.
func (r *rollout) noteProgress(status *appsv1.DeploymentStatus, was *appsv1.DeploymentCondition, subject string) {
	c := progressing(corev1.ConditionTrue, reasonUpdated, subject+" is progressing.")
	if was != nil && was.Status == corev1.ConditionTrue {
		c.LastTransitionTime = was.LastTransitionTime
	}
	dropCondition(status, appsv1.DeploymentProgressing)
	setCondition(status, c, r.now)
	r.wakeAtDeadline(r.now)
}

// complete reports whether every replica is of the current template and available, and no other is left.
func (r *rollout) complete(status *appsv1.DeploymentStatus) bool {
	want := r.replicas()
	return status.UpdatedReplicas == want && status.Replicas == want && status.AvailableReplicas == want && status.ObservedGeneration >= r.d.Generation
}

func (r *rollout) progressed(status *appsv1.DeploymentStatus) bool {
	was := r.stored.Status
	return status.UpdatedReplicas > was.UpdatedReplicas ||
		status.Replicas-status.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		status.ReadyReplicas > was.ReadyReplicas || status.AvailableReplicas > was.AvailableReplicas
}

// refused reports that the current set cannot be created, in the API server's words.
func (r *rollout) refused(status *appsv1.DeploymentStatus) bool {
	words := r.s.Refused[r.d.UID]
	if words == "" || r.created == nil {
		return false
	}
	message := fmt.Sprintf("Failed to create new replica set %q: %s", r.created.Name, words)
	if was := r.progress(); was == nil || was.Reason != reasonCreateError {
		r.events = append(r.events, r.event(corev1.EventTypeWarning, reasonCreateError, message))
	}
	setCondition(status, progressing(corev1.ConditionFalse, reasonCreateError, message), r.now)
	return true
}

func (r *rollout) timedOut(status *appsv1.DeploymentStatus) bool {
	c := findCondition(status, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonComplete {
		return false
	}
	if c.Reason == reasonTimedOut {
		return true
	}
	if r.deadline(c.LastUpdateTime.Time).Before(r.now) {
		return true
	}
	r.wakeAtDeadline(c.LastUpdateTime.Time)
	return false
}

func (r *rollout) deadline(from time.Time) time.Time {
	return from.Add(time.Duration(*r.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

// wakeAtDeadline asks to look again just after the deadline, since at the deadline itself it is not yet over.
func (r *rollout) wakeAtDeadline(from time.Time) {
	r.wake = controller.Sooner(r.wake, r.deadline(from).Add(time.Millisecond))
}

// reportFailures shows the ReplicaFailure of one set, the current one first.
func (r *rollout) reportFailures(status *appsv1.DeploymentStatus) {
	sets := slices.Clone(r.old)
	if r.current != nil {
		sets = append([]*set{r.current}, sets...)
	}
	for _, s := range sets {
		for _, c := range s.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				setCondition(status, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason, Message: c.Message,
					LastTransitionTime: c.LastTransitionTime, LastUpdateTime: c.LastTransitionTime,
				}, r.now)
				return
			}
		}
	}
	dropCondition(status, appsv1.DeploymentReplicaFailure)
}

// progress is the deployment's Progressing condition, nil when it has none.
func (r *rollout) progress() *appsv1.DeploymentCondition {
	return findCondition(&r.d.Status, appsv1.DeploymentProgressing)
}

func (r *rollout) setCondition(c appsv1.DeploymentCondition) { setCondition(&r.d.Status, c, r.now) }

// findCondition returns a copy, nil when there is none.
func findCondition(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for _, c := range status.Conditions {
		if c.Type == kind {
			return &c
		}
	}
	return nil
}

// setCondition replaces the condition unless status and reason stay. Zero times become now; the transition time stays
// while the status does.
func setCondition(status *appsv1.DeploymentStatus, c appsv1.DeploymentCondition, now time.Time) {
	was := findCondition(status, c.Type)
	if was != nil && was.Status == c.Status && was.Reason == c.Reason {
		return
	}
	if was != nil && was.Status == c.Status {
		c.LastTransitionTime = was.LastTransitionTime
	}
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	if c.LastUpdateTime.IsZero() {
		c.LastUpdateTime = metav1.NewTime(now)
	}
	dropCondition(status, c.Type)
	status.Conditions = append(status.Conditions, c)
}

func dropCondition(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) {
	status.Conditions = slices.DeleteFunc(slices.Clone(status.Conditions), func(c appsv1.DeploymentCondition) bool { return c.Type == kind })
}
