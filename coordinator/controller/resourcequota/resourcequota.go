// Package resourcequota writes into each ResourceQuota what its namespace uses. Nothing depends on it but people and
// clients that look: what is let in is decided by package objects from the objects themselves.
package resourcequota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/quota"
)

var kind = schema.GroupKind{Kind: "ResourceQuota"}

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{Name: "resourcequota", Reads: controller.Everything, Plan: Plan, Pace: time.Second / 10}
}

// Plan writes the status of every quota that is not up to date.
func Plan(s *controller.Snapshot, now time.Time) (changes []controller.Change, wake time.Time) {
	quotas := controller.Rest[*corev1.ResourceQuota](s, kind)
	if len(quotas) == 0 {
		return nil, time.Time{}
	}
	objects := guarded(s, quotas)
	for _, q := range quotas {
		status := corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: quota.Sum(q, each(objects[q.Namespace]), now)}
		if equality.Semantic.DeepEqual(q.Status, status) {
			continue
		}
		updated := q.DeepCopy()
		updated.Status = *status.DeepCopy()
		changes = append(changes, controller.Change{Verb: controller.Status, Object: updated})
	}
	return changes, nextOverdue(objects, now)
}

// guarded are the objects of the namespaces that have quotas.
func guarded(s *controller.Snapshot, quotas []*corev1.ResourceQuota) map[string][]controller.Object {
	out := map[string][]controller.Object{}
	for _, q := range quotas {
		out[q.Namespace] = nil
	}
	for _, o := range s.All() {
		if have, limited := out[o.GetNamespace()]; limited {
			out[o.GetNamespace()] = append(have, o)
		}
	}
	return out
}

func each(objects []controller.Object) func(yield func(runtime.Object) bool) {
	return func(yield func(runtime.Object) bool) {
		for _, o := range objects {
			if !yield(o) {
				return
			}
		}
	}
}

// nextOverdue is when the first pod that is being deleted stops counting though its node has not said that it is gone.
func nextOverdue(objects map[string][]controller.Object, now time.Time) (wake time.Time) {
	for _, list := range objects {
		for _, o := range list {
			pod, ok := o.(*corev1.Pod)
			if !ok || pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil || controller.PodFinished(pod) {
				continue
			}
			due := pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds)*time.Second + time.Millisecond)
			if due.After(now) {
				wake = controller.Sooner(wake, due)
			}
		}
	}
	return wake
}
