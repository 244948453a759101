package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// PriorityClassKind is the kind of priority classes in a snapshot's Others.
var PriorityClassKind = schema.GroupKind{Group: schedulingv1.GroupName, Kind: "PriorityClass"}

// withPriority is a pod that is about to be created with the priority and the preemption policy that admission will
// give it: a copy, or the pod itself when it has both or its class is not known.
func withPriority(s *controller.Snapshot, pod *corev1.Pod) *corev1.Pod {
	if pod.Spec.Priority != nil && pod.Spec.PreemptionPolicy != nil {
		return pod
	}
	class := classOf(s, pod.Spec.PriorityClassName)
	if class == nil {
		return pod
	}
	admitted := *pod
	admitted.Spec.PriorityClassName = class.Name
	if pod.Spec.Priority == nil {
		admitted.Spec.Priority = &class.Value
	}
	if pod.Spec.PreemptionPolicy == nil {
		admitted.Spec.PreemptionPolicy = class.PreemptionPolicy
	}
	return &admitted
}

// classOf finds a priority class by name, or the default one; nil when there is none.
func classOf(s *controller.Snapshot, name string) *schedulingv1.PriorityClass {
	var found *schedulingv1.PriorityClass
	for _, o := range s.Others[PriorityClassKind] {
		class, ok := o.(*schedulingv1.PriorityClass)
		switch {
		case !ok:
		case name != "" && class.Name == name:
			return class
		case name == "" && class.GlobalDefault && (found == nil || class.Value < found.Value):
			found = class
		}
	}
	return found
}
