package objects

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"
)

func autoscalerStrategy() *strategy {
	return &strategy{
		create: one(func(h *autoscalingv2.HorizontalPodAutoscaler) {
			h.Status = autoscalingv2.HorizontalPodAutoscalerStatus{}
			h.Generation = 1
		}),
		update: two(func(h, old *autoscalingv2.HorizontalPodAutoscaler) {
			old.Status.DeepCopyInto(&h.Status)
			if !equality.Semantic.DeepEqual(h.Spec, old.Spec) {
				h.Generation = old.Generation + 1
			}
		}),
		status: two(func(h, old *autoscalingv2.HorizontalPodAutoscaler) { old.Spec.DeepCopyInto(&h.Spec) }),
	}
}
