package objects

import (
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func jobStrategy() *strategy {
	return &strategy{
		create: one(func(j *batchv1.Job) {
			if j.Spec.ManualSelector == nil || !*j.Spec.ManualSelector {
				selectOwnPods(j)
			}
			j.Status = batchv1.JobStatus{}
			j.Generation = 1
		}),
		update: two(func(j, old *batchv1.Job) {
			old.Status.DeepCopyInto(&j.Status)
			if !equality.Semantic.DeepEqual(j.Spec, old.Spec) {
				j.Generation = old.Generation + 1
			}
		}),
		status: two(func(j, old *batchv1.Job) { old.Spec.DeepCopyInto(&j.Spec) }),
		rules:  templateRules,
	}
}

func cronJobStrategy() *strategy {
	return &strategy{
		create: one(func(c *batchv1.CronJob) {
			c.Status = batchv1.CronJobStatus{}
			c.Generation = 1
		}),
		update: two(func(c, old *batchv1.CronJob) {
			old.Status.DeepCopyInto(&c.Status)
			if !equality.Semantic.DeepEqual(c.Spec, old.Spec) {
				c.Generation = old.Generation + 1
			}
		}),
		status: two(func(c, old *batchv1.CronJob) { old.Spec.DeepCopyInto(&c.Spec) }),
		rules:  templateRules,
	}
}

// The labels of a Job's pods from before they had a prefix; clients still select by them.
const (
	legacyJobName       = "job-name"
	legacyControllerUID = "controller-uid"
)

// selectOwnPods gives the Job's pods labels that no other pods have, and selects by them. What the client has set stays:
// validation refuses it where it is not the same.
func selectOwnPods(j *batchv1.Job) {
	template := &j.Spec.Template
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	for label, value := range map[string]string{
		legacyJobName: j.Name, batchv1.JobNameLabel: j.Name, legacyControllerUID: string(j.UID), batchv1.ControllerUidLabel: string(j.UID),
	} {
		if _, set := template.Labels[label]; !set {
			template.Labels[label] = value
		}
	}
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	if _, set := j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel]; !set {
		j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] = string(j.UID)
	}
}
