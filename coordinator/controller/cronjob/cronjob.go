// Package cronjob makes Jobs at the times that CronJobs name, in their time zones, and removes old ones. A run's Job has a
// name that follows from its time, so that no run is started twice, however often the coordinator dies. It knows nothing
// of pods; the plan of package job runs what it makes.
package cronjob

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{Name: "cronjob", Reads: controller.CronJobs | controller.Jobs | controller.Namespaces, Plan: Plan}
}

// Plan decides for every CronJob. Of the runs that were missed, only the last is made up for.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	if len(s.CronJobs) == 0 {
		return nil, time.Time{}
	}
	p := &planner{now: now, closing: controller.Closing(s.Namespaces), owned: map[types.UID][]*batchv1.Job{}, named: map[types.NamespacedName]bool{}}
	for _, job := range s.Jobs {
		p.named[types.NamespacedName{Namespace: job.Namespace, Name: job.Name}] = true
		if ref := metav1.GetControllerOfNoCopy(job); ref != nil {
			p.owned[ref.UID] = append(p.owned[ref.UID], job)
		}
	}
	for _, c := range s.CronJobs {
		p.plan(c)
	}
	return p.changes, p.wake
}

type planner struct {
	now     time.Time
	closing map[string]bool // namespaces that are being deleted
	owned   map[types.UID][]*batchv1.Job
	named   map[types.NamespacedName]bool // all Jobs
	changes []controller.Change
	wake    time.Time
}

func (p *planner) plan(c *batchv1.CronJob) {
	jobs := p.owned[c.UID]
	status, events := observe(c, jobs)
	if !equality.Semantic.DeepEqual(c.Status, status) {
		updated := c.DeepCopy()
		updated.Status = status
		p.changes = append(p.changes, controller.Change{Verb: controller.Status, Object: updated, Events: events})
	}
	if c.DeletionTimestamp != nil {
		return
	}
	p.forget(c, jobs)
	if !p.closing[c.Namespace] && (c.Spec.Suspend == nil || !*c.Spec.Suspend) {
		p.run(c, &status, jobs)
	}
}

// observe is the status that the Jobs show. It takes a run whose Job was made and not noted yet into account.
func observe(c *batchv1.CronJob, jobs []*batchv1.Job) (batchv1.CronJobStatus, []controller.Event) {
	var status batchv1.CronJobStatus
	var events []controller.Event
	c.Status.DeepCopyInto(&status)
	status.Active = nil
	exists := map[types.UID]bool{}
	for _, job := range jobs {
		exists[job.UID] = true
		scheduled := scheduledTime(job)
		if scheduled != nil && (status.LastScheduleTime == nil || scheduled.After(status.LastScheduleTime.Time)) {
			status.LastScheduleTime = scheduled
		}
		outcome := outcome(job)
		switch {
		case outcome == "" && (scheduled != nil || active(c.Status, job.UID)):
			status.Active = append(status.Active, reference(job))
		case outcome != "" && active(c.Status, job.UID):
			events = append(events, event(c, corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: "+job.Name+", condition: "+string(outcome)))
		}
		if at := job.Status.CompletionTime; at != nil && (status.LastSuccessfulTime == nil || at.After(status.LastSuccessfulTime.Time)) {
			status.LastSuccessfulTime = at.DeepCopy()
		}
	}
	for _, ref := range c.Status.Active {
		if !exists[ref.UID] {
			events = append(events, event(c, corev1.EventTypeNormal, "MissingJob", "Active job went missing: "+ref.Name))
		}
	}
	return status, events
}

func active(s batchv1.CronJobStatus, uid types.UID) bool {
	return slices.ContainsFunc(s.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
}

// scheduledTime is when the run was due, nil for a Job that a person has made from the CronJob.
func scheduledTime(job *batchv1.Job) *metav1.Time {
	t, err := time.Parse(time.RFC3339, job.Annotations[batchv1.CronJobScheduledTimestampAnnotation])
	if err != nil {
		return nil
	}
	at := metav1.NewTime(t)
	return &at
}

// outcome is Complete or Failed, empty for a Job that is not over.
func outcome(job *batchv1.Job) batchv1.JobConditionType {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// forget removes the oldest Jobs beyond the history limits.
func (p *planner) forget(c *batchv1.CronJob, jobs []*batchv1.Job) {
	p.trim(c, jobs, batchv1.JobComplete, c.Spec.SuccessfulJobsHistoryLimit)
	p.trim(c, jobs, batchv1.JobFailed, c.Spec.FailedJobsHistoryLimit)
}

func (p *planner) trim(c *batchv1.CronJob, jobs []*batchv1.Job, kind batchv1.JobConditionType, limit *int32) {
	if limit == nil {
		return
	}
	over := slices.DeleteFunc(slices.Clone(jobs), func(job *batchv1.Job) bool { return outcome(job) != kind })
	slices.SortFunc(over, func(a, b *batchv1.Job) int {
		return cmp.Or(started(a).Compare(started(b)), cmp.Compare(a.Name, b.Name))
	})
	for _, job := range over[:max(0, len(over)-int(*limit))] {
		p.remove(c, job)
	}
}

func started(job *batchv1.Job) time.Time {
	if job.Status.StartTime == nil {
		return job.CreationTimestamp.Time
	}
	return job.Status.StartTime.Time
}

func (p *planner) remove(c *batchv1.CronJob, job *batchv1.Job) {
	if job.DeletionTimestamp != nil {
		return
	}
	p.changes = append(p.changes, controller.Change{
		Verb: controller.Delete, Object: job, Propagation: metav1.DeletePropagationBackground,
		Events: []controller.Event{event(c, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted job "+job.Name)},
	})
}

// run makes the Job that is due, and asks to be woken for the next one.
func (p *planner) run(c *batchv1.CronJob, status *batchv1.CronJobStatus, jobs []*batchv1.Job) {
	schedule, err := parse(c)
	if err != nil {
		return // validation lets no such schedule through
	}
	last := c.CreationTimestamp.Time
	if status.LastScheduleTime != nil {
		last = status.LastScheduleTime.Time
	}
	due, many := missed(schedule, last, p.now)
	if next := schedule.Next(p.now); !next.IsZero() {
		p.wake = controller.Sooner(p.wake, next)
	}
	if due.IsZero() {
		return
	}
	name := c.Name + "-" + strconv.FormatInt(due.Unix()/60, 10)
	if p.named[types.NamespacedName{Namespace: c.Namespace, Name: name}] {
		return
	}
	if why := p.hindrance(c, status, due); why != nil {
		p.skip(c, due, *why)
		return
	}
	if c.Spec.ConcurrencyPolicy == batchv1.ReplaceConcurrent {
		for _, job := range jobs {
			if active(*status, job.UID) {
				p.remove(c, job)
			}
		}
	}
	p.create(c, name, due, many)
}

// hindrance is why the run that is due may not start, nil when it may.
func (p *planner) hindrance(c *batchv1.CronJob, status *batchv1.CronJobStatus, due time.Time) *controller.Event {
	if s := c.Spec.StartingDeadlineSeconds; s != nil && due.Add(time.Duration(*s)*time.Second).Before(p.now) {
		e := event(c, corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: "+due.UTC().Format(time.RFC1123Z))
		return &e
	}
	if c.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent && len(status.Active) > 0 {
		e := event(c, corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
		return &e
	}
	return nil
}

// skip tells once that a run did not start at its time. It may start later still, so this is not the last schedule time.
func (p *planner) skip(c *batchv1.CronJob, due time.Time, why controller.Event) {
	mark := why.Reason + " " + due.UTC().Format(time.RFC3339)
	if c.Annotations[api.AnnotationSkippedRun] == mark {
		return
	}
	updated := c.DeepCopy()
	if updated.Annotations == nil {
		updated.Annotations = map[string]string{}
	}
	updated.Annotations[api.AnnotationSkippedRun] = mark
	p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: updated, Events: []controller.Event{why}})
}

func (p *planner) create(c *batchv1.CronJob, name string, due time.Time, many bool) {
	template := c.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.Namespace, Name: name, Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{controller.Reference(c, "batch/v1", "CronJob")},
		},
		Spec: template.Spec,
	}
	if job.Annotations == nil {
		job.Annotations = map[string]string{}
	}
	job.Annotations[batchv1.CronJobScheduledTimestampAnnotation] = due.Format(time.RFC3339)
	change := controller.Change{Verb: controller.Create, Object: job, Events: []controller.Event{event(c, corev1.EventTypeNormal, "SuccessfulCreate", "Created job "+name)}}
	if many {
		change.Events = append(change.Events, event(c, corev1.EventTypeWarning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"))
	}
	p.changes = append(p.changes, change)
}

func reference(job *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: job.Namespace, Name: job.Name, UID: job.UID}
}

func event(c *batchv1.CronJob, kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "batch/v1", Kind: "CronJob", Namespace: c.Namespace, Name: c.Name, UID: c.UID, ResourceVersion: c.ResourceVersion},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
