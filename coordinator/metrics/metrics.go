package metrics

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// Source answers metrics.k8s.io: what pods and nodes use, as their API objects.
type Source struct {
	Collector *Collector
	// Liveness is what the heartbeats say.
	Liveness func() map[string]controller.Liveness
	// Heartbeat is the time between two of them: the window of what a node says of itself.
	Heartbeat time.Duration
}

// Pods returns the metrics of those pods that run and were measured, in the order given.
func (s *Source) Pods(ctx context.Context, pods []*corev1.Pod) []metricsv1beta1.PodMetrics {
	snapshot := controller.Snapshot{Usage: s.Collector.Usage(ctx, nodesOf(pods))}
	out := make([]metricsv1beta1.PodMetrics, 0, len(pods))
	for _, p := range pods {
		containers, at, window := snapshot.UsageOf(p)
		if p.Status.Phase != corev1.PodRunning || len(containers) == 0 {
			continue
		}
		out = append(out, podMetrics(p, containers, at, window))
	}
	return out
}

// nodesOf names the nodes where the pods run.
func nodesOf(pods []*corev1.Pod) []string {
	var names []string
	for _, p := range pods {
		if p.Spec.NodeName != "" && p.Status.Phase == corev1.PodRunning {
			names = append(names, p.Spec.NodeName)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func podMetrics(p *corev1.Pod, containers []messaging.ContainerUsage, at time.Time, window time.Duration) metricsv1beta1.PodMetrics {
	m := metricsv1beta1.PodMetrics{
		TypeMeta:   metav1.TypeMeta{Kind: "PodMetrics", APIVersion: metricsv1beta1.SchemeGroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.NewTime(at)},
		Timestamp:  metav1.NewTime(at), Window: metav1.Duration{Duration: window},
	}
	for _, c := range containers {
		m.Containers = append(m.Containers, metricsv1beta1.ContainerMetrics{Name: c.Name, Usage: usage(c.CPUNanos, c.MemoryBytes)})
	}
	return m
}

// usage writes figures in metrics-server's units: billionths of a core and KiB.
func usage(cpuNanos, memoryBytes uint64) corev1.ResourceList {
	cpu := resource.NewScaledQuantity(int64(cpuNanos), resource.Nano)     //nolint:gosec // a machine has fewer than 2^63 billionths of a core
	memory := resource.NewQuantity(int64(memoryBytes), resource.BinarySI) //nolint:gosec // likewise bytes
	return corev1.ResourceList{corev1.ResourceCPU: *cpu, corev1.ResourceMemory: *memory}
}

// Nodes returns the metrics of those nodes that were heard lately, in the order given. They are the load of the last
// heartbeat: memory is what the machine could not give out.
func (s *Source) Nodes(nodes []*corev1.Node, now time.Time) []metricsv1beta1.NodeMetrics {
	heard := s.Liveness()
	out := make([]metricsv1beta1.NodeMetrics, 0, len(nodes))
	for _, n := range nodes {
		l, ok := heard[n.Name]
		if !ok || now.Sub(l.Heard) > Stale || l.Load.MemoryTotalBytes == 0 {
			continue
		}
		m := metricsv1beta1.NodeMetrics{
			TypeMeta:   metav1.TypeMeta{Kind: "NodeMetrics", APIVersion: metricsv1beta1.SchemeGroupVersion.String()},
			ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: n.Labels, CreationTimestamp: metav1.NewTime(l.Heard)},
			Timestamp:  metav1.NewTime(l.Heard), Window: metav1.Duration{Duration: s.Heartbeat},
			Usage: usage(uint64(max(0, l.Load.CPUMillis))*1e6, uint64(max(0, l.Load.MemoryBytes))), //nolint:gosec // not negative
		}
		out = append(out, m)
	}
	return out
}
