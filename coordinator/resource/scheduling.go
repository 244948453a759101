package resource

import schedulingv1 "k8s.io/api/scheduling/v1"

func scheduling() []*Resource {
	return []*Resource{kind[schedulingv1.PriorityClass, schedulingv1.PriorityClassList](
		schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"), "priorityclasses", Resource{ShortNames: []string{"pc"}})}
}
