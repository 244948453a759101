// Package job runs pods to completion: it creates as many as each Job still needs, counts those that have ended so that
// none is lost or counted twice, decides when the Job has succeeded or failed, and removes it when it has outlived its
// time. It knows nothing of nodes, nor of schedules; the plan of package cronjob makes Jobs.
package job

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Bounds, all upstream's.
const (
	burst        = 500 // pods that one plan creates or deletes for one Job
	maxUncounted = 500 // pods whose end is on its way into the counters at once: their UIDs are in the status
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{Name: "job", Reads: controller.Pods | controller.Jobs | controller.Namespaces, Plan: Plan}
}

// Plan decides for every Job.
//
// A pod that has ended is counted in three steps, each on the result of the one before, so that a coordinator that dies
// between any two of them neither loses nor repeats it: its UID (or completion index) is written to the Job's status; its
// finalizer is removed, which alone lets the pod go; its UID becomes one more in the counter. In the same way the verdict
// on the Job is written before anything is done about it, and what has a verdict becomes Complete or Failed when its last
// pod has stopped and is counted.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{s: s, now: now}
	if len(s.Jobs) > 0 {
		p.herd, p.closing = controller.NewHerd(s.Pods), controller.Closing(s.Namespaces)
	}
	for _, job := range s.Jobs {
		p.plan(job)
	}
	p.orphans()
	return p.changes, p.wake
}

type planner struct {
	s       *controller.Snapshot
	now     time.Time
	herd    *controller.Herd
	closing map[string]bool // namespaces that are being deleted
	changes []controller.Change
	wake    time.Time
}

// work is one Job under consideration.
type work struct {
	*planner
	job    *batchv1.Job
	status batchv1.JobStatus // as it will be written
	events []controller.Event
	pods   []*corev1.Pod
	active []*corev1.Pod
	// terminating are being deleted and have not stopped yet.
	terminating []*corev1.Pod

	succeeded, failed    int32     // all that are known, counted or not
	completed, abandoned intervals // indexes that have succeeded, and failed for good; of an Indexed Job
	delayed              map[int]*corev1.Pod
	verdict              *batchv1.JobCondition // that is stored: FailureTarget or SuccessCriteriaMet
}

func (p *planner) plan(job *batchv1.Job) {
	if by := job.Spec.ManagedBy; by != nil && *by != batchv1.JobControllerName {
		return
	}
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	if err != nil || selector.Empty() {
		return // validation lets neither through; whoever stored it gets no pods rather than all
	}
	pods, changes := p.herd.Claim(controller.Claim{
		Owner: job, Reference: reference(job), Selector: selector, Finalizer: batchv1.JobTrackingFinalizer,
	})
	p.changes = append(p.changes, changes...)
	switch {
	case job.DeletionTimestamp != nil:
		p.free(pods...)
	case finished(job):
		p.free(pods...)
		p.expire(job)
	default:
		w := &work{planner: p, job: job, pods: pods}
		w.plan()
	}
}

func (w *work) plan() {
	w.look()
	w.decide()
	w.count()
	if w.verdict != nil {
		w.clear()
		w.finish()
	}
	if equality.Semantic.DeepEqual(w.job.Status, w.status) {
		return
	}
	updated := w.job.DeepCopy()
	updated.Status = w.status
	w.changes = append(w.changes, controller.Change{Verb: controller.Status, Object: updated, Events: w.events})
}

// look takes in what the snapshot shows.
func (w *work) look() {
	w.job.Status.DeepCopyInto(&w.status)
	if w.status.UncountedTerminatedPods == nil {
		w.status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	var ready int32
	for _, pod := range w.pods {
		switch {
		case controller.PodActive(pod):
			w.active = append(w.active, pod)
			if controller.PodReady(pod) {
				ready++
			}
		case !controller.PodFinished(pod) && !stopped(pod):
			w.terminating = append(w.terminating, pod)
		}
	}
	terminating := int32(len(w.terminating))
	w.status.Active, w.status.Ready, w.status.Terminating = int32(len(w.active)), &ready, &terminating
	w.verdict = stored(w.job)
	w.tally()
}

// tally adds up what has ended.
func (w *work) tally() {
	w.succeeded, w.failed = w.job.Status.Succeeded, w.job.Status.Failed
	uncounted := w.job.Status.UncountedTerminatedPods
	if uncounted != nil {
		w.succeeded += int32(len(uncounted.Succeeded))
		w.failed += int32(len(uncounted.Failed))
	}
	for _, pod := range w.pods {
		switch {
		case !tracked(pod) || w.noted(pod) || !w.valid(pod):
		case pod.Status.Phase == corev1.PodSucceeded:
			w.succeeded++
		case w.podFailed(pod) && w.counts(pod):
			w.failed++
		}
	}
	if indexed(w.job) {
		w.tallyIndexes()
	}
}

// noted reports that the pod's UID is in the stored status.
func (w *work) noted(pod *corev1.Pod) bool {
	u := w.job.Status.UncountedTerminatedPods
	return u != nil && (slices.Contains(u.Succeeded, pod.UID) || slices.Contains(u.Failed, pod.UID))
}

func (w *work) notedFailed(pod *corev1.Pod) bool {
	u := w.job.Status.UncountedTerminatedPods
	return u != nil && slices.Contains(u.Failed, pod.UID)
}

// valid reports that the pod may count: one of an Indexed Job has an index that the Job has.
func (w *work) valid(pod *corev1.Pod) bool {
	if !indexed(w.job) {
		return true
	}
	i := indexOf(pod)
	return i >= 0 && i < int(*w.job.Spec.Completions)
}

// podFailed reports that the pod will not succeed any more. One that is being deleted counts as failed at once unless the
// Job wants to know how it ends.
func (w *work) podFailed(pod *corev1.Pod) bool {
	switch {
	case pod.Status.Phase == corev1.PodFailed:
		return true
	case pod.Status.Phase == corev1.PodSucceeded || pod.DeletionTimestamp == nil:
		return false
	}
	return !replaceFailedOnly(w.job) || stopped(pod)
}

// stopped reports that nothing of a pod that is being deleted runs any more, though nobody said how it ended: its grace
// was used up or it never had a node, and only its finalizers keep it.
func stopped(pod *corev1.Pod) bool {
	grace := pod.DeletionGracePeriodSeconds
	return pod.DeletionTimestamp != nil && grace != nil && *grace == 0
}

func replaceFailedOnly(job *batchv1.Job) bool {
	policy := job.Spec.PodReplacementPolicy
	return policy != nil && *policy == batchv1.Failed || job.Spec.PodFailurePolicy != nil
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// free lets pods go that are counted, or need not be.
func (p *planner) free(pods ...*corev1.Pod) {
	for _, pod := range pods {
		if !tracked(pod) {
			continue
		}
		updated := pod.DeepCopy()
		updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool { return f == batchv1.JobTrackingFinalizer })
		p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: updated})
	}
}

// orphans lets the pods of Jobs that are gone go.
func (p *planner) orphans() {
	jobs := make(map[types.UID]bool, len(p.s.Jobs))
	for _, job := range p.s.Jobs {
		jobs[job.UID] = true
	}
	for _, pod := range p.s.Pods {
		if !tracked(pod) {
			continue
		}
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil || ref.Kind == "Job" && !jobs[ref.UID] {
			p.free(pod)
		}
	}
}

// expire removes a Job whose time after its end is over.
func (p *planner) expire(job *batchv1.Job) {
	if job.Spec.TTLSecondsAfterFinished == nil {
		return
	}
	due := finishedAt(job).Add(time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second)
	if due.After(p.now) {
		p.wake = controller.Sooner(p.wake, due)
		return
	}
	p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: job, Propagation: metav1.DeletePropagationForeground, Exact: true})
}

func reference(job *batchv1.Job) metav1.OwnerReference {
	return controller.Reference(job, "batch/v1", "Job")
}

func event(job *batchv1.Job, kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
