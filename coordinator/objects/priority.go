package objects

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/objects/defaults"
	"skerry.dev/skerry/coordinator/resource"
)

var priorityClasses = resource.ForObject((*schedulingv1.PriorityClass)(nil))

// priorityClassStrategy allows one class to be the default.
func (s *Store) priorityClassStrategy() *strategy {
	return &strategy{
		create: one(func(c *schedulingv1.PriorityClass) { c.Generation = 1 }),
		refuse: func(obj runtime.Object) error {
			c, ok := obj.(*schedulingv1.PriorityClass)
			if !ok {
				return nil
			}
			if words := s.secondDefault(c); words != "" {
				return apierrors.NewForbidden(priorityClasses.GroupResource(), c.Name, fmt.Errorf("%s", words))
			}
			return nil
		},
		rules: func(obj, old runtime.Object) field.ErrorList {
			c, ok := obj.(*schedulingv1.PriorityClass)
			if !ok || old == nil {
				return nil
			}
			if words := s.secondDefault(c); words != "" {
				return field.ErrorList{field.Forbidden(field.NewPath("globalDefault"), words)}
			}
			return nil
		},
	}
}

// secondDefault says why the class may not be the default; empty when it may or does not want to.
func (s *Store) secondDefault(c *schedulingv1.PriorityClass) string {
	if have := s.defaultPriorityClass(); c.GlobalDefault && have != nil && have.Name != c.Name {
		return fmt.Sprintf("PriorityClass %v is already marked as default. Only one default can exist", have.Name)
	}
	return ""
}

// defaultPriorityClass is the class of pods that name none; nil when there is none. Of several, which two coordinators
// can make at once, the one with the lowest value counts.
func (s *Store) defaultPriorityClass() *schedulingv1.PriorityClass {
	var found *schedulingv1.PriorityClass
	items, _ := s.view.List(priorityClasses, "")
	for _, i := range items {
		if c, ok := i.Object.(*schedulingv1.PriorityClass); ok && c.GlobalDefault && (found == nil || c.Value < found.Value) {
			found = c
		}
	}
	return found
}

// priorityClass finds the class of a pod by the name it gives, or the default for none; nil when there is none such. The
// system's own classes are known though somebody deleted them.
func (s *Store) priorityClass(name string) *schedulingv1.PriorityClass {
	if name == "" {
		return s.defaultPriorityClass()
	}
	if item, ok := s.view.Get(priorityClasses, "", name); ok {
		if c, ok := item.Object.(*schedulingv1.PriorityClass); ok {
			return c
		}
	}
	for _, c := range defaults.SystemPriorityClasses() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// admitPriority gives a new pod the priority and preemption policy of its class. What contradicts the class stays for
// refusePriority to see.
func (s *Store) admitPriority(pod *corev1.Pod) {
	class := s.priorityClass(pod.Spec.PriorityClassName)
	value, policy := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		pod.Spec.PriorityClassName, value = class.Name, class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if pod.Spec.Priority == nil {
		pod.Spec.Priority = &value
	}
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = &policy
	}
}

// refusePriority is upstream's Priority admission, after admitPriority.
func (s *Store) refusePriority(pod *corev1.Pod) error {
	forbidden := func(format string, args ...any) error {
		return apierrors.NewForbidden(pods.GroupResource(), pod.Name, fmt.Errorf(format, args...))
	}
	name := pod.Spec.PriorityClassName
	class := s.priorityClass(name)
	if class == nil && name != "" {
		return forbidden("no PriorityClass with name %v was found", name)
	}
	value, policy := int32(0), corev1.PreemptLowerPriority
	if class != nil {
		value = class.Value
		if class.PreemptionPolicy != nil {
			policy = *class.PreemptionPolicy
		}
	}
	if *pod.Spec.Priority != value {
		return forbidden("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value)
	}
	if *pod.Spec.PreemptionPolicy != policy {
		return forbidden("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *pod.Spec.PreemptionPolicy, policy)
	}
	return nil
}
