package job

import (
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// count takes pods that have ended one step further towards the counters.
func (w *work) count() {
	held := map[types.UID]bool{}
	for _, pod := range w.pods {
		held[pod.UID] = tracked(pod)
	}
	uncounted := w.status.UncountedTerminatedPods
	w.status.Succeeded += settle(&uncounted.Succeeded, held)
	w.status.Failed += settle(&uncounted.Failed, held)
	noted := intervals(nil)
	if indexed(w.job) {
		noted = parseIntervals(w.job.Status.CompletedIndexes, int(*w.job.Spec.Completions))
	}
	completed := noted
	room := maxUncounted - len(uncounted.Succeeded) - len(uncounted.Failed)
	for _, pod := range w.pods {
		if !tracked(pod) {
			continue
		}
		switch w.end(pod) {
		case ended:
			if w.noted(pod) || !w.valid(pod) || indexed(w.job) && noted.has(indexOf(pod)) {
				w.free(pod)
			} else if room > 0 {
				room--
				completed = w.noteSucceeded(pod, completed)
			}
		case broken:
			if w.notedFailed(pod) || !w.valid(pod) || !w.counts(pod) {
				w.free(pod)
			} else if room > 0 {
				room--
				uncounted.Failed = append(uncounted.Failed, pod.UID)
			}
		case needless:
			w.free(pod)
		case open:
		}
	}
	w.writeIndexes(completed)
}

// settle counts the UIDs of pods that no longer wait for it, and takes them off the list.
func settle(uids *[]types.UID, held map[types.UID]bool) int32 {
	before := len(*uids)
	*uids = slices.DeleteFunc(*uids, func(uid types.UID) bool { return !held[uid] })
	if len(*uids) == 0 {
		*uids = nil
	}
	return int32(before - len(*uids))
}

func (w *work) noteSucceeded(pod *corev1.Pod, completed intervals) intervals {
	if indexed(w.job) {
		return completed.with(indexOf(pod))
	}
	w.status.UncountedTerminatedPods.Succeeded = append(w.status.UncountedTerminatedPods.Succeeded, pod.UID)
	return completed
}

// end is what a pod is to its Job's counters.
type end int

const (
	open     end = iota // works still, or its end is not looked at yet
	ended               // has succeeded
	broken              // has failed, or is given up together with the Job
	needless            // need not be counted: the Job has succeeded without it
)

func (w *work) end(pod *corev1.Pod) end {
	switch {
	case w.notedFailed(pod):
		return broken
	case pod.Status.Phase == corev1.PodSucceeded:
		return ended
	case w.failing():
		return broken
	case w.verdict != nil && !w.podFailed(pod):
		return needless
	case !w.podFailed(pod):
		return open
	case w.verdict == nil && w.delayed[indexOf(pod)] != nil && w.delayed[indexOf(pod)].UID == pod.UID:
		return open // its successor takes over its count of failures
	}
	return broken
}

// failing reports that the Job has failed, whether or not that is stored already: its pods that still run count as failed.
func (w *work) failing() bool {
	return isTrue(w.status.Conditions, batchv1.JobFailureTarget)
}

func (w *work) writeIndexes(completed intervals) {
	if !indexed(w.job) {
		return
	}
	w.status.CompletedIndexes = completed.String()
	w.status.Succeeded = int32(completed.total())
	if w.job.Spec.BackoffLimitPerIndex != nil {
		text := w.abandoned.String()
		w.status.FailedIndexes = &text
	}
}
