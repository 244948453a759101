package table

import (
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

var jobLayout = layout(jobCells,
	name,
	text("Status", "Status of the job."),
	text("Completions", batchv1.JobStatus{}.SwaggerDoc()["succeeded"]),
	text("Duration", "Time required to complete the job."),
	age, wideContainers, wideImages, wideSelector,
)

func jobCells(j *batchv1.Job, now time.Time) []any {
	names, images := containers(j.Spec.Template.Spec.Containers)
	return []any{
		j.Name, jobStatus(j), jobCompletions(j), jobDuration(j, now),
		since(j.CreationTimestamp, now), names, images, selector(j.Spec.Selector),
	}
}

func jobStatus(j *batchv1.Job) string {
	is := map[batchv1.JobConditionType]bool{}
	for _, c := range j.Status.Conditions {
		is[c.Type] = c.Status == corev1.ConditionTrue
	}
	switch {
	case is[batchv1.JobComplete]:
		return "Complete"
	case is[batchv1.JobFailed]:
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is[batchv1.JobSuspended]:
		return "Suspended"
	case is[batchv1.JobFailureTarget]:
		return "FailureTarget"
	case is[batchv1.JobSuccessCriteriaMet]:
		return "SuccessCriteriaMet"
	default:
		return "Running"
	}
}

func jobCompletions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	if j.Status.StartTime == nil {
		return ""
	}
	end := now
	if j.Status.CompletionTime != nil {
		end = j.Status.CompletionTime.Time
	}
	return duration.HumanDuration(end.Sub(j.Status.StartTime.Time))
}

var cronJobLayout = layout(cronJobCells,
	name,
	text("Schedule", batchv1.CronJobSpec{}.SwaggerDoc()["schedule"]),
	text("Timezone", batchv1.CronJobSpec{}.SwaggerDoc()["timeZone"]),
	metav1.TableColumnDefinition{Name: "Suspend", Type: "boolean", Description: batchv1.CronJobSpec{}.SwaggerDoc()["suspend"]},
	number("Active", batchv1.CronJobStatus{}.SwaggerDoc()["active"]),
	text("Last Schedule", batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"]),
	age, wideContainers, wideImages, wideSelector,
)

func cronJobCells(c *batchv1.CronJob, now time.Time) []any {
	names, images := containers(c.Spec.JobTemplate.Spec.Template.Spec.Containers)
	last, zone, suspend := none, none, unset
	if c.Status.LastScheduleTime != nil {
		last = since(*c.Status.LastScheduleTime, now)
	}
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	if c.Spec.Suspend != nil {
		suspend = map[bool]string{true: "True", false: "False"}[*c.Spec.Suspend]
	}
	return []any{
		c.Name, c.Spec.Schedule, zone, suspend, int64(len(c.Status.Active)), last,
		since(c.CreationTimestamp, now), names, images, selector(c.Spec.JobTemplate.Spec.Selector),
	}
}
