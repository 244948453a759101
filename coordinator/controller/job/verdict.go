package job

import (
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// decide starts the Job, finds out whether it is over, and if it is not, what it needs.
func (w *work) decide() {
	if w.status.StartTime == nil && !suspended(w.job) {
		w.status.StartTime = w.stamp()
	}
	if w.verdict != nil {
		return
	}
	verdict, reason, message := w.failure()
	if verdict == "" {
		verdict, reason, message = w.success()
	}
	if verdict != "" {
		w.setCondition(verdict, corev1.ConditionTrue, reason, message)
		return
	}
	w.scale()
	w.suspend()
}

func (w *work) failure() (verdict batchv1.JobConditionType, reason, message string) {
	reason, message = w.fault()
	if reason == "" {
		return "", "", ""
	}
	return batchv1.JobFailureTarget, reason, message
}

// fault is why the Job has failed, empty when it has not; the order is upstream's.
func (w *work) fault() (reason, message string) {
	if words := w.fatal(); words != "" {
		return batchv1.JobReasonPodFailurePolicy, words
	}
	if w.failed > *w.job.Spec.BackoffLimit || w.restartedTooOften() {
		return batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"
	}
	if w.late() {
		return batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"
	}
	if !indexed(w.job) || w.job.Spec.BackoffLimitPerIndex == nil {
		return "", ""
	}
	n := w.abandoned.total()
	if w.job.Spec.MaxFailedIndexes != nil && n > int(*w.job.Spec.MaxFailedIndexes) {
		return batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes"
	}
	if n > 0 && n+w.completed.total() >= int(*w.job.Spec.Completions) {
		return batchv1.JobReasonFailedIndexes, "Job has failed indexes"
	}
	return "", ""
}

// restartedTooOften is the backoff limit of pods that are restarted in place.
func (w *work) restartedTooOften() bool {
	if w.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var restarts int32
	for _, pod := range w.pods {
		if pod.Status.Phase != corev1.PodRunning && pod.Status.Phase != corev1.PodPending {
			continue
		}
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for i := range list {
				restarts += list[i].RestartCount
			}
		}
	}
	return restarts > 0 && restarts >= *w.job.Spec.BackoffLimit
}

// late reports that the Job's active deadline is over; until then it asks to be woken.
func (w *work) late() bool {
	if w.job.Spec.ActiveDeadlineSeconds == nil || w.status.StartTime == nil || suspended(w.job) {
		return false
	}
	due := w.status.StartTime.Add(time.Duration(*w.job.Spec.ActiveDeadlineSeconds) * time.Second)
	if !due.After(w.now) {
		return true
	}
	w.wake = controller.Sooner(w.wake, due)
	return false
}

func (w *work) success() (verdict batchv1.JobConditionType, reason, message string) {
	if i := w.successRule(); indexed(w.job) && i >= 0 {
		return batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", i)
	}
	done := w.succeeded > 0
	if w.job.Spec.Completions != nil {
		done = w.succeeded >= *w.job.Spec.Completions
	}
	if !done || len(w.active) > 0 {
		return "", "", ""
	}
	return batchv1.JobSuccessCriteriaMet, batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"
}

// suspend says in the status whether the Job is suspended. One that resumes starts its time anew.
func (w *work) suspend() {
	if suspended(w.job) {
		if w.setCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended") {
			w.status.StartTime = nil
			w.tell(corev1.EventTypeNormal, "Suspended", "Job suspended")
		}
		return
	}
	if isTrue(w.status.Conditions, batchv1.JobSuspended) {
		w.setCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed")
		w.status.StartTime = w.stamp()
		w.tell(corev1.EventTypeNormal, "Resumed", "Job resumed")
	}
}

// clear stops the pods that a Job with a verdict still has.
func (w *work) clear() { w.remove(w.active) }

// finish makes the stored verdict final when no pod is left to stop or to count.
func (w *work) finish() {
	uncounted := w.status.UncountedTerminatedPods
	if len(w.active)+len(w.terminating)+len(uncounted.Succeeded)+len(uncounted.Failed) > 0 {
		return
	}
	if slices.ContainsFunc(w.pods, tracked) {
		return
	}
	if w.verdict.Type == batchv1.JobFailureTarget {
		w.setCondition(batchv1.JobFailed, corev1.ConditionTrue, w.verdict.Reason, w.verdict.Message)
		w.tell(corev1.EventTypeWarning, w.verdict.Reason, w.verdict.Message)
		return
	}
	w.setCondition(batchv1.JobComplete, corev1.ConditionTrue, w.verdict.Reason, w.verdict.Message)
	w.status.CompletionTime = w.stamp()
	if w.job.Spec.Completions != nil && w.status.Succeeded > *w.job.Spec.Completions {
		w.tell(corev1.EventTypeWarning, "TooManySucceededPods", "Too many succeeded pods running after completion count reached")
	}
	w.tell(corev1.EventTypeNormal, "Completed", "Job completed")
}

func (w *work) tell(kind, reason, message string) {
	w.events = append(w.events, event(w.job, kind, reason, message))
}

func (w *work) stamp() *metav1.Time {
	t := metav1.NewTime(w.now)
	return &t
}

// setCondition reports whether that changed anything.
func (w *work) setCondition(kind batchv1.JobConditionType, is corev1.ConditionStatus, reason, message string) bool {
	c := batchv1.JobCondition{Type: kind, Status: is, Reason: reason, Message: message, LastProbeTime: *w.stamp(), LastTransitionTime: *w.stamp()}
	for i := range w.status.Conditions {
		have := &w.status.Conditions[i]
		if have.Type != kind {
			continue
		}
		if have.Status == is && have.Reason == reason && have.Message == message {
			return false
		}
		*have = c
		return true
	}
	w.status.Conditions = append(w.status.Conditions, c)
	return true
}

// stored is the verdict that a Job's status holds, nil while there is none.
func stored(job *batchv1.Job) *batchv1.JobCondition {
	for _, kind := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobFailureTarget} {
		for i := range job.Status.Conditions {
			if c := &job.Status.Conditions[i]; c.Type == kind && c.Status == corev1.ConditionTrue {
				return c
			}
		}
	}
	return nil
}

func isTrue(conditions []batchv1.JobCondition, kind batchv1.JobConditionType) bool {
	for i := range conditions {
		if conditions[i].Type == kind {
			return conditions[i].Status == corev1.ConditionTrue
		}
	}
	return false
}

func finished(job *batchv1.Job) bool {
	return isTrue(job.Status.Conditions, batchv1.JobComplete) || isTrue(job.Status.Conditions, batchv1.JobFailed)
}

func finishedAt(job *batchv1.Job) time.Time {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

func suspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }
