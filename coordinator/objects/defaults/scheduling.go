package defaults

import (
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingdefaults "k8s.io/kubernetes/pkg/apis/scheduling/v1"
)

// SystemPriorityClasses are those that every cluster has. They are the caller's own.
func SystemPriorityClasses() []*schedulingv1.PriorityClass {
	return schedulingdefaults.SystemPriorityClasses()
}
