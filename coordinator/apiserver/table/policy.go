package table

import (
	"fmt"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var disruptionBudgetLayout = layout(func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
	return []any{
		b.Name, limit(b.Spec.MinAvailable), limit(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed),
		since(b.CreationTimestamp, now),
	}
},
	name,
	text("Min Available", "The minimum number of pods that must be available."),
	text("Max Unavailable", "The maximum number of pods that may be unavailable."),
	number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
	age,
)

func limit(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

var priorityClassLayout = layout(func(p *schedulingv1.PriorityClass, now time.Time) []any {
	policy := ""
	if p.PreemptionPolicy != nil {
		policy = string(*p.PreemptionPolicy)
	}
	return []any{p.Name, int64(p.Value), p.GlobalDefault, since(p.CreationTimestamp, now), policy}
},
	name,
	number("Value", schedulingv1.PriorityClass{}.SwaggerDoc()["value"]),
	metav1.TableColumnDefinition{Name: "Global-Default", Type: "boolean", Description: schedulingv1.PriorityClass{}.SwaggerDoc()["globalDefault"]},
	age,
	wide(text("PreemptionPolicy", schedulingv1.PriorityClass{}.SwaggerDoc()["preemptionPolicy"])),
)

var autoscalerLayout = layout(func(h *autoscalingv1.HorizontalPodAutoscaler, now time.Time) []any {
	lowest, target := unset, unknown
	if h.Spec.MinReplicas != nil {
		lowest = fmt.Sprint(*h.Spec.MinReplicas)
	}
	if h.Status.CurrentCPUUtilizationPercentage != nil {
		target = fmt.Sprintf("%d%%", *h.Status.CurrentCPUUtilizationPercentage)
	}
	if h.Spec.TargetCPUUtilizationPercentage != nil {
		target = fmt.Sprintf("cpu: %s/%d%%", target, *h.Spec.TargetCPUUtilizationPercentage)
	}
	return []any{
		h.Name, h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name, target, lowest,
		int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), since(h.CreationTimestamp, now),
	}
},
	name,
	text("Reference", autoscalingv1.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
	text("Targets", "Current and wanted use."),
	text("MinPods", autoscalingv1.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
	number("MaxPods", autoscalingv1.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
	number("Replicas", autoscalingv1.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
	age,
)

// until is how far away t is; zero means never, the past reads as such.
func until(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "never"
	case t.Before(now):
		return duration.HumanDuration(now.Sub(t)) + " ago"
	default:
		return "in " + duration.HumanDuration(t.Sub(now))
	}
}
