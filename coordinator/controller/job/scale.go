package job

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// How long a failure delays the next pod: twice as long each time, from first to last, as upstream.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 10 * time.Minute
)

// scale creates the pods that are missing, or lets go of those that are too much; never both at once.
func (w *work) scale() {
	w.discard()
	want := w.wanted()
	if surplus := w.surplus(len(w.active) - want); len(surplus) > 0 {
		w.free(surplus...)
		return
	}
	missing := want - len(w.active)
	if replaceFailedOnly(w.job) {
		missing -= len(w.terminating)
	}
	if missing > 0 && !suspended(w.job) && !w.closing[w.job.Namespace] {
		w.create(min(missing, burst))
	}
}

// wanted is how many pods should be at work.
func (w *work) wanted() int {
	parallelism := int(*w.job.Spec.Parallelism)
	switch {
	case suspended(w.job):
		return 0
	case w.job.Spec.Completions != nil:
		return max(0, min(parallelism, int(*w.job.Spec.Completions-w.succeeded)))
	case w.succeeded > 0:
		return len(w.active) // one has found that the work is done; the others may finish
	}
	return parallelism
}

// surplus are the pods that the Job does not want: they are let go, and then deleted, so that their end is not counted.
func (w *work) surplus(count int) []*corev1.Pod {
	held := slices.DeleteFunc(slices.Clone(w.active), func(pod *corev1.Pod) bool { return !tracked(pod) })
	if suspended(w.job) {
		return held
	}
	count -= len(w.active) - len(held)
	var surplus []*corev1.Pod
	if indexed(w.job) {
		surplus, held = w.superfluous(held)
	}
	if more := count - len(surplus); more > 0 {
		surplus = append(surplus, controller.Weakest(held)[:more]...)
	}
	return surplus[:min(len(surplus), burst)]
}

// discard deletes the pods that were let go.
func (w *work) discard() {
	w.remove(slices.DeleteFunc(slices.Clone(w.active), tracked))
}

func (w *work) remove(pods []*corev1.Pod) {
	for _, pod := range pods {
		w.changes = append(w.changes, controller.Change{
			Verb: controller.Delete, Object: pod,
			Events: []controller.Event{event(w.job, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)},
		})
	}
}

func (w *work) create(count int) {
	names := controller.NewNames(w.job, w.s.Revision, w.pods)
	if !indexed(w.job) {
		if !w.rested(w.recentFailures()) {
			return
		}
		for range count {
			w.make(w.newPod(names.Next(controller.NamePrefix(w.job.Name, "-"))))
		}
		return
	}
	perIndex := w.job.Spec.BackoffLimitPerIndex != nil
	if !perIndex && !w.rested(w.recentFailures()) {
		return
	}
	for _, i := range w.pending(count) {
		if last := w.delayed[i]; last != nil && !w.rested(failuresBefore(last)+ignoredBefore(last)+1, controller.PodEnd(last)) {
			continue
		}
		w.make(w.newIndexedPod(names, i))
	}
}

func (w *work) make(pod *corev1.Pod) {
	w.changes = append(w.changes, controller.Change{
		Verb: controller.Create, Object: pod,
		Events: []controller.Event{event(w.job, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.Name)},
	})
}

// rested reports that enough time has gone by since the last failure; until then it asks to be woken.
func (w *work) rested(failures int32, last time.Time) bool {
	if failures == 0 {
		return true
	}
	due := last.Add(min(lastBackoff, firstBackoff<<min(failures-1, 10)))
	if !due.After(w.now) {
		return true
	}
	w.wake = controller.Sooner(w.wake, due)
	return false
}

// recentFailures is how many pods have failed since the last one succeeded, and when the last of them did. Pods that
// are no longer kept are forgotten.
func (w *work) recentFailures() (failures int32, last time.Time) {
	var success time.Time
	for _, pod := range w.pods {
		if t := controller.PodEnd(pod); pod.Status.Phase == corev1.PodSucceeded && t.After(success) {
			success = t
		}
	}
	for _, pod := range w.pods {
		if t := controller.PodEnd(pod); w.podFailed(pod) && t.After(success) && !w.unwanted(pod) {
			failures++
			if t.After(last) {
				last = t
			}
		}
	}
	return failures, last
}

// unwanted reports that the pod was deleted because the Job wanted fewer: that is no failure, and not counted.
func (w *work) unwanted(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && !tracked(pod) && pod.Status.Phase != corev1.PodFailed && !w.noted(pod)
}
