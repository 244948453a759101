// Package autoscaling turns HorizontalPodAutoscalers of version 1 into those of version 2, which are kept, and back, by
// upstream's own conversions. What version 1 has no field for is in annotations there.
//
// It is one of the few places that import k8s.io/kubernetes. It changes no object and decides nothing.
package autoscaling

import (
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime"
	internal "k8s.io/kubernetes/pkg/apis/autoscaling"
	v1 "k8s.io/kubernetes/pkg/apis/autoscaling/v1"
	v2 "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
)

// ToV2 converts an autoscaling/v1 object to a new autoscaling/v2 one.
func ToV2(obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("convert %T: not an autoscaling/v1 HorizontalPodAutoscaler", obj)
	}
	var middle internal.HorizontalPodAutoscaler
	out := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := v1.Convert_v1_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler(in.DeepCopy(), &middle, nil); err != nil {
		return nil, fmt.Errorf("convert from autoscaling/v1: %w", err)
	}
	if err := v2.Convert_autoscaling_HorizontalPodAutoscaler_To_v2_HorizontalPodAutoscaler(&middle, out, nil); err != nil {
		return nil, fmt.Errorf("convert to autoscaling/v2: %w", err)
	}
	out.SetGroupVersionKind(autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	return out, nil
}

// ToV1 undoes ToV2.
func ToV1(obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("convert %T: not an autoscaling/v2 HorizontalPodAutoscaler", obj)
	}
	var middle internal.HorizontalPodAutoscaler
	out := &autoscalingv1.HorizontalPodAutoscaler{}
	if err := v2.Convert_v2_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler(in.DeepCopy(), &middle, nil); err != nil {
		return nil, fmt.Errorf("convert from autoscaling/v2: %w", err)
	}
	if err := v1.Convert_autoscaling_HorizontalPodAutoscaler_To_v1_HorizontalPodAutoscaler(&middle, out, nil); err != nil {
		return nil, fmt.Errorf("convert to autoscaling/v1: %w", err)
	}
	out.SetGroupVersionKind(autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"))
	return out, nil
}
