package autoscaling

import (
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestVersion1ShowsCPUAndKeepsTheRest(t *testing.T) {
	percent, average := int32(60), resource.MustParse("100Mi")
	in := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 3,
			Metrics: []autoscalingv2.MetricSpec{
				{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceMemory, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &average},
				}},
				{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
				}},
			},
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &percent}},
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 2, Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{
			{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue},
		}},
	}
	before := in.DeepCopy()
	old, err := ToV1(in)
	if err != nil {
		t.Fatal(err)
	}
	v1, ok := old.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok || v1.APIVersion != "autoscaling/v1" || *v1.Spec.TargetCPUUtilizationPercentage != 60 || v1.Status.CurrentReplicas != 2 {
		t.Fatalf("got %+v", old)
	}
	back, err := ToV2(old)
	if err != nil {
		t.Fatal(err)
	}
	v2, ok := back.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok || len(v2.Spec.Metrics) != 2 || !equality.Semantic.DeepEqual(v2.Spec.Behavior, in.Spec.Behavior) || len(v2.Status.Conditions) != 1 || len(v2.Annotations) != 0 {
		t.Errorf("came back as %+v", back)
	}
	if !equality.Semantic.DeepEqual(in, before) {
		t.Error("the object was changed")
	}
}

func TestOtherObjectsAreRefused(t *testing.T) {
	if _, err := ToV1(&corev1.Pod{}); err == nil {
		t.Error("a pod became an autoscaler")
	}
	if _, err := ToV2(&autoscalingv2.HorizontalPodAutoscaler{}); err == nil {
		t.Error("version 2 was taken for version 1")
	}
}
