package table

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

var (
	wideContainers = wide(text("Containers", "Names of each container in the template."))
	wideImages     = wide(text("Images", "Images referenced by each container in the template."))
	wideSelector   = wide(text("Selector", "Label selector for the pods."))
)

var deploymentLayout = layout(deploymentCells,
	name,
	text("Ready", "Number of the pod with ready state"),
	number("Up-to-date", appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"]),
	number("Available", appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"]),
	age, wideContainers, wideImages, wideSelector,
)

func deploymentCells(d *appsv1.Deployment, now time.Time) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	return []any{
		d.Name, fraction(d.Status.ReadyReplicas, d.Spec.Replicas),
		int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
		since(d.CreationTimestamp, now), names, images, selector(d.Spec.Selector),
	}
}

var replicaSetLayout = layout(replicaSetCells,
	name,
	number("Desired", appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"]),
	number("Current", appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"]),
	number("Ready", appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"]),
	age, wideContainers, wideImages, wideSelector,
)

func replicaSetCells(r *appsv1.ReplicaSet, now time.Time) []any {
	names, images := containers(r.Spec.Template.Spec.Containers)
	return []any{
		r.Name, replicas(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
		since(r.CreationTimestamp, now), names, images, selector(r.Spec.Selector),
	}
}

var statefulSetLayout = layout(statefulSetCells,
	name, text("Ready", "Number of the pod with ready state"), age, wideContainers, wideImages,
)

func statefulSetCells(s *appsv1.StatefulSet, now time.Time) []any {
	names, images := containers(s.Spec.Template.Spec.Containers)
	return []any{s.Name, fraction(s.Status.ReadyReplicas, s.Spec.Replicas), since(s.CreationTimestamp, now), names, images}
}

var daemonSetLayout = layout(daemonSetCells,
	name,
	number("Desired", appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"]),
	number("Current", appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"]),
	number("Ready", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"]),
	number("Up-to-date", appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"]),
	number("Available", appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"]),
	text("Node Selector", corev1.PodSpec{}.SwaggerDoc()["nodeSelector"]),
	age, wideContainers, wideImages, wideSelector,
)

func daemonSetCells(d *appsv1.DaemonSet, now time.Time) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	s := d.Status
	return []any{
		d.Name, int64(s.DesiredNumberScheduled), int64(s.CurrentNumberScheduled), int64(s.NumberReady),
		int64(s.UpdatedNumberScheduled), int64(s.NumberAvailable),
		selector(&metav1.LabelSelector{MatchLabels: d.Spec.Template.Spec.NodeSelector}),
		since(d.CreationTimestamp, now), names, images, selector(d.Spec.Selector),
	}
}

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
	last, zone, suspend := none, none, "<unset>"
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

// replicas is the wanted number; the API's default is one.
func replicas(n *int32) int64 {
	if n == nil {
		return 1
	}
	return int64(*n)
}

func fraction(ready int32, want *int32) string { return fmt.Sprintf("%d/%d", ready, replicas(want)) }
