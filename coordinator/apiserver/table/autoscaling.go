package table

import (
	"fmt"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

var autoscalerLayout = layout(autoscalerCells,
	name,
	text("Reference", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["scaleTargetRef"]),
	text("Targets", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["metrics"]),
	text("MinPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["minReplicas"]),
	text("MaxPods", autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc()["maxReplicas"]),
	text("Replicas", autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()["currentReplicas"]),
	age,
)

func autoscalerCells(h *autoscalingv2.HorizontalPodAutoscaler, now time.Time) []any {
	least := "<unset>"
	if h.Spec.MinReplicas != nil {
		least = fmt.Sprint(*h.Spec.MinReplicas)
	}
	target := h.Spec.ScaleTargetRef
	return []any{
		h.Name, target.Kind + "/" + target.Name, metricTargets(h), least,
		int64(h.Spec.MaxReplicas), int64(h.Status.CurrentReplicas), since(h.CreationTimestamp, now),
	}
}

// shownMetrics is how many targets fit into the column.
const shownMetrics = 2

// metricTargets shows how each metric stands to its target.
func metricTargets(h *autoscalingv2.HorizontalPodAutoscaler) string {
	if len(h.Spec.Metrics) == 0 {
		return "<none>"
	}
	var shown []string
	for i, m := range h.Spec.Metrics {
		var status autoscalingv2.MetricStatus
		if i < len(h.Status.CurrentMetrics) {
			status = h.Status.CurrentMetrics[i]
		}
		shown = append(shown, metricTarget(m, status))
	}
	if n := len(shown); n > shownMetrics {
		return fmt.Sprintf("%s + %d more...", strings.Join(shown[:shownMetrics], ", "), n-shownMetrics)
	}
	return strings.Join(shown, ", ")
}

func metricTarget(m autoscalingv2.MetricSpec, s autoscalingv2.MetricStatus) string {
	switch {
	case m.Resource != nil:
		var current *autoscalingv2.MetricValueStatus
		if s.Resource != nil {
			current = &s.Resource.Current
		}
		return m.Resource.Name.String() + ": " + standing(m.Resource.Target, current)
	case m.ContainerResource != nil:
		var current *autoscalingv2.MetricValueStatus
		if s.ContainerResource != nil {
			current = &s.ContainerResource.Current
		}
		return m.ContainerResource.Name.String() + ": " + standing(m.ContainerResource.Target, current)
	case m.Pods != nil:
		return standing(m.Pods.Target, nil) // nobody measures it, nor the two below
	case m.Object != nil:
		return standing(m.Object.Target, nil)
	case m.External != nil:
		return standing(m.External.Target, nil)
	}
	return "<unknown type>"
}

func standing(target autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
	have := "<unknown>"
	switch {
	case target.AverageValue != nil:
		if current != nil {
			have = current.AverageValue.String()
		}
		return have + "/" + target.AverageValue.String()
	case target.Value != nil:
		return have + "/" + target.Value.String()
	case target.AverageUtilization == nil:
		return have + "/<auto>"
	}
	if current != nil && current.AverageUtilization != nil {
		have = fmt.Sprintf("%d%%", *current.AverageUtilization)
	}
	return fmt.Sprintf("%s/%d%%", have, *target.AverageUtilization)
}
