package validation

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	jobapi "k8s.io/kubernetes/pkg/api/job"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchrules "k8s.io/kubernetes/pkg/apis/batch/validation"
	corerules "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/utils/ptr"
)

func (v *Validator) addBatch() {
	kind(v, schema.GroupKind{Group: batch.GroupName, Kind: "Job"}, func(j *batch.Job) field.ErrorList {
		return batchrules.ValidateJobCreate(j, jobOptions(j, nil))
	}, func(j, old *batch.Job) field.ErrorList {
		return batchrules.ValidateJobUpdate(j, old, jobOptions(j, old))
	}, func(j, old *batch.Job) field.ErrorList {
		return batchrules.ValidateJobUpdateStatus(j, old, jobStatusOptions(j, old))
	}, warnJob)
	kind(v, schema.GroupKind{Group: batch.GroupName, Kind: "CronJob"}, func(c *batch.CronJob) field.ErrorList {
		return batchrules.ValidateCronJobCreate(c, podapi.GetValidationOptionsFromPodTemplate(&c.Spec.JobTemplate.Spec.Template, nil))
	}, validateCronJobUpdate, func(c, old *batch.CronJob) field.ErrorList {
		return corerules.ValidateObjectMetaUpdate(&c.ObjectMeta, &old.ObjectMeta, field.NewPath("metadata"))
	}, warnCronJob)
}

func validateCronJobUpdate(c, old *batch.CronJob) field.ErrorList {
	return batchrules.ValidateCronJobUpdate(c, old, podapi.GetValidationOptionsFromPodTemplate(&c.Spec.JobTemplate.Spec.Template, &old.Spec.JobTemplate.Spec.Template))
}

func warnCronJob(ctx context.Context, c, old *batch.CronJob) []string {
	path := field.NewPath("spec", "jobTemplate", "spec")
	switch {
	case old == nil:
		return append(warnName(c.Name, "Pod names and hostnames"), jobapi.WarningsForJobSpec(ctx, path, &c.Spec.JobTemplate.Spec, nil)...)
	case c.Generation != old.Generation:
		return jobapi.WarningsForJobSpec(ctx, path, &c.Spec.JobTemplate.Spec, &old.Spec.JobTemplate.Spec)
	}
	return nil
}

func warnJob(ctx context.Context, j, old *batch.Job) []string {
	path := field.NewPath("spec")
	switch {
	case old == nil:
		return append(warnName(j.Name, "Pod names and hostnames"), jobapi.WarningsForJobSpec(ctx, path, &j.Spec, nil)...)
	case j.Generation != old.Generation:
		return jobapi.WarningsForJobSpec(ctx, path, &j.Spec, &old.Spec)
	}
	return nil
}

// jobOptions are upstream's strategy's: a suspended Job that runs nothing may be given other nodes and resources.
func jobOptions(j, old *batch.Job) batchrules.JobValidationOptions {
	if old == nil {
		return batchrules.JobValidationOptions{
			PodValidationOptions: podapi.GetValidationOptionsFromPodTemplate(&j.Spec.Template, nil), RequirePrefixedLabels: true,
		}
	}
	o := batchrules.JobValidationOptions{PodValidationOptions: podapi.GetValidationOptionsFromPodTemplate(&j.Spec.Template, &old.Spec.Template)}
	o.AllowInvalidLabelValueInSelector = o.AllowInvalidLabelValueInSelector || metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
	idle := ptr.Deref(old.Spec.Suspend, false) && old.Status.Active == 0 &&
		(old.Status.StartTime == nil || batchrules.IsConditionTrue(old.Status.Conditions, batch.JobSuspended))
	o.AllowMutablePodResources, o.AllowMutableSchedulingDirectives = idle, idle
	_, named := old.Spec.Template.Labels[batch.JobNameLabel]
	_, owned := old.Spec.Template.Labels[batch.ControllerUidLabel]
	o.RequirePrefixedLabels = named && owned
	return o
}

// jobStatusOptions are upstream's: a rule counts only where the write changes what it is about.
func jobStatusOptions(j, old *batch.Job) batchrules.JobStatusValidationOptions {
	is := func(j *batch.Job, c batch.JobConditionType) bool {
		return batchrules.IsConditionTrue(j.Status.Conditions, c)
	}
	turned := func(c batch.JobConditionType) bool { return is(j, c) != is(old, c) }
	indexed := ptr.Deref(j.Spec.CompletionMode, batch.NonIndexedCompletion) == batch.IndexedCompletion
	finished := batchrules.IsJobFinished(old) != batchrules.IsJobFinished(j)
	completed := old.Status.CompletedIndexes != j.Status.CompletedIndexes
	failed := !ptr.Equal(old.Status.FailedIndexes, j.Status.FailedIndexes)
	active := old.Status.Active != j.Status.Active
	started := !ptr.Equal(old.Status.StartTime, j.Status.StartTime)
	ended := !ptr.Equal(old.Status.CompletionTime, j.Status.CompletionTime)
	nothing := ptr.Deref(j.Spec.Suspend, false) && ptr.Equal(j.Spec.Completions, new(int32))
	resumed := is(old, batch.JobSuspended) && batchrules.IsConditionFalse(j.Status.Conditions, batch.JobSuspended)
	return batchrules.JobStatusValidationOptions{
		RejectDecreasingSucceededCounter:             !indexed || !ptr.Equal(j.Spec.Completions, j.Spec.Parallelism),
		RejectDecreasingFailedCounter:                true,
		RejectDisablingTerminalCondition:             true,
		RejectInvalidCompletedIndexes:                completed,
		RejectInvalidFailedIndexes:                   failed,
		RejectCompletedIndexesForNonIndexedJob:       completed,
		RejectFailedIndexesForNoBackoffLimitPerIndex: failed,
		RejectFailedIndexesOverlappingCompleted:      failed || completed,
		RejectFailedJobWithoutFailureTarget:          turned(batch.JobFailed) || failed,
		RejectCompleteJobWithoutSuccessCriteriaMet:   turned(batch.JobComplete) || turned(batch.JobSuccessCriteriaMet),
		RejectFinishedJobWithActivePods:              finished || active,
		RejectFinishedJobWithoutStartTime:            (finished || started) && !nothing,
		RejectFinishedJobWithUncountedTerminatedPods: finished || !equality.Semantic.DeepEqual(old.Status.UncountedTerminatedPods, j.Status.UncountedTerminatedPods),
		RejectStartTimeUpdateForUnsuspendedJob:       started && !resumed,
		RejectCompletionTimeBeforeStartTime:          started || ended,
		RejectMutatingCompletionTime:                 true,
		RejectNotCompleteJobWithCompletionTime:       turned(batch.JobComplete) || ended,
		RejectCompleteJobWithoutCompletionTime:       turned(batch.JobComplete) || ended,
		RejectCompleteJobWithFailedCondition:         turned(batch.JobComplete) || turned(batch.JobFailed),
		RejectCompleteJobWithFailureTargetCondition:  turned(batch.JobComplete) || turned(batch.JobFailureTarget),
		RejectMoreReadyThanActivePods:                !ptr.Equal(old.Status.Ready, j.Status.Ready) || active,
		RejectFinishedJobWithTerminatingPods:         finished || !ptr.Equal(old.Status.Terminating, j.Status.Terminating),
	}
}
