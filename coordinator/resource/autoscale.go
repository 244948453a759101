package resource

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"skerry.dev/skerry/coordinator/resource/autoscaling"
)

// autoscalers keeps HorizontalPodAutoscalers as version 2 and serves version 1 as another view of them.
func autoscalers() []*Resource {
	v1 := autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")
	v2 := autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler")
	return []*Resource{
		kind[autoscalingv2.HorizontalPodAutoscaler, autoscalingv2.HorizontalPodAutoscalerList](v2, "horizontalpodautoscalers", Resource{
			ShortNames: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{status(v2)},
		}),
		kind[autoscalingv1.HorizontalPodAutoscaler, autoscalingv1.HorizontalPodAutoscalerList](v1, "horizontalpodautoscalers", Resource{
			ShortNames: []string{"hpa"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{status(v1)},
			ToStored: autoscaling.ToV2, FromStored: autoscaling.ToV1, Stored: &Resource{GVK: v2},
		}),
	}
}
