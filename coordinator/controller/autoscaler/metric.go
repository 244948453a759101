package autoscaler

import (
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// proposal is what one metric asks for.
type proposal struct {
	replicas int32
	name     string
	status   autoscalingv2.MetricStatus
}

// failure is why a metric asks for nothing: for the condition, and as the error of the whole.
type failure struct{ reason, message, wrapped string }

// metric reads one metric.
func (w *work) metric(spec *autoscalingv2.MetricSpec, t *target, pods []*corev1.Pod) (proposal, *failure) {
	switch {
	case spec.Type == autoscalingv2.ResourceMetricSourceType && spec.Resource != nil:
		r := spec.Resource
		value, out, err := w.usage(gauge{resource: r.Name}, r.Target, t, pods)
		if err != nil {
			return out, &failure{"FailedGetResourceMetric", err.Error(), fmt.Sprintf("failed to get %s resource metric value: %v", r.Name, err)}
		}
		out.status = autoscalingv2.MetricStatus{Type: spec.Type, Resource: &autoscalingv2.ResourceMetricStatus{Name: r.Name, Current: value}}
		return out, nil
	case spec.Type == autoscalingv2.ContainerResourceMetricSourceType && spec.ContainerResource != nil:
		r := spec.ContainerResource
		value, out, err := w.usage(gauge{resource: r.Name, container: r.Container}, r.Target, t, pods)
		if err != nil {
			return out, &failure{"FailedGetContainerResourceMetric", err.Error(), fmt.Sprintf("failed to get %s container metric value: %v", r.Container, err)}
		}
		out.status = autoscalingv2.MetricStatus{Type: spec.Type, ContainerResource: &autoscalingv2.ContainerResourceMetricStatus{
			Name: r.Name, Container: r.Container, Current: value,
		}}
		return out, nil
	}
	message := fmt.Sprintf("metrics of type %s have no source here; Resource and ContainerResource have", spec.Type)
	return proposal{}, &failure{fmt.Sprintf("FailedGet%sMetric", spec.Type), message, message}
}

// usage reads CPU or memory.
func (w *work) usage(g gauge, target autoscalingv2.MetricTarget, t *target, pods []*corev1.Pod) (autoscalingv2.MetricValueStatus, proposal, error) {
	what := "utilization"
	switch {
	case target.AverageValue != nil:
		g.average, what = target.AverageValue.MilliValue(), "usage"
	case target.AverageUtilization != nil:
		g.utilization = *target.AverageUtilization
	default:
		return autoscalingv2.MetricValueStatus{}, proposal{}, fmt.Errorf("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set")
	}
	if g.resource != corev1.ResourceCPU && g.resource != corev1.ResourceMemory {
		return autoscalingv2.MetricValueStatus{}, proposal{}, fmt.Errorf("failed to get %s %s: unable to get metrics for resource %s: only cpu and memory are measured", g.resource, what, g.resource)
	}
	r, err := g.measure(w.look.snapshot, t.replicas, pods, w.tolerances(), w.now)
	if err != nil {
		return autoscalingv2.MetricValueStatus{}, proposal{}, fmt.Errorf("failed to get %s %s: %w", g.resource, what, err)
	}
	format := resource.DecimalSI
	if g.resource == corev1.ResourceMemory {
		format = resource.BinarySI
	}
	value := autoscalingv2.MetricValueStatus{AverageValue: resource.NewMilliQuantity(r.average, format)}
	if g.utilization != 0 {
		value.AverageUtilization = &r.utilization
	}
	return value, proposal{replicas: r.replicas, name: g.name()}, nil
}

// name is how messages call the metric.
func (g gauge) name() string {
	switch {
	case g.utilization == 0:
		return fmt.Sprintf("%s resource", g.resource)
	case g.container != "":
		return fmt.Sprintf("%s container resource utilization (percentage of request)", g.resource)
	}
	return fmt.Sprintf("%s resource utilization (percentage of request)", g.resource)
}

func (w *work) tolerances() tolerances {
	t := tolerances{tolerance, tolerance}
	if b := w.was.Spec.Behavior; b != nil {
		if b.ScaleDown != nil && b.ScaleDown.Tolerance != nil {
			t.down = b.ScaleDown.Tolerance.AsApproximateFloat64()
		}
		if b.ScaleUp != nil && b.ScaleUp.Tolerance != nil {
			t.up = b.ScaleUp.Tolerance.AsApproximateFloat64()
		}
	}
	return t
}
