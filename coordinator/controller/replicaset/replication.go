package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// Replication returns the plan for ReplicationControllers as the shell runs it.
func Replication() controller.Controller {
	return controller.Controller{
		Name: "replication", Reads: controller.Pods | controller.Namespaces, Rest: []schema.GroupKind{controller.ReplicationControllerKind}, Plan: PlanReplication,
	}
}

// PlanReplication is Plan for ReplicationControllers, which differ from ReplicaSets in their kind and their selector's form.
func PlanReplication(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	var sets []*appsv1.ReplicaSet
	for _, c := range controller.Rest[*corev1.ReplicationController](s, controller.ReplicationControllerKind) {
		if c.Spec.Template != nil {
			sets = append(sets, asSet(c))
		}
	}
	if len(sets) == 0 {
		return nil, time.Time{}
	}
	return plan(s, now, sets, sort{"v1", "ReplicationController", false, func(rs *appsv1.ReplicaSet) controller.Object { return asController(rs) }})
}

// asSet shares the controller's parts.
func asSet(c *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: c.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: c.Spec.Replicas, MinReadySeconds: c.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: c.Spec.Selector}, Template: *c.Spec.Template,
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: c.Status.Replicas, FullyLabeledReplicas: c.Status.FullyLabeledReplicas, ReadyReplicas: c.Status.ReadyReplicas,
			AvailableReplicas: c.Status.AvailableReplicas, ObservedGeneration: c.Status.ObservedGeneration,
		},
	}
	for _, one := range c.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(one.Type), Status: one.Status, LastTransitionTime: one.LastTransitionTime, Reason: one.Reason, Message: one.Message,
		})
	}
	return rs
}

// asController undoes asSet, but for the number of terminating pods, which a ReplicationController does not say.
func asController(rs *appsv1.ReplicaSet) *corev1.ReplicationController {
	c := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds, Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas, ReadyReplicas: rs.Status.ReadyReplicas,
			AvailableReplicas: rs.Status.AvailableReplicas, ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	for _, one := range rs.Status.Conditions {
		c.Status.Conditions = append(c.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(one.Type), Status: one.Status, LastTransitionTime: one.LastTransitionTime, Reason: one.Reason, Message: one.Message,
		})
	}
	return c
}
