package containerspec

import (
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
)

// Figures of the kubelet: pkg/kubelet/cm/helpers_linux.go and pkg/kubelet/qos/policy.go.
const (
	minShares       = 2
	maxShares       = 262144
	sharesPerCPU    = 1024
	quotaPeriod     = 100_000 // microseconds
	minQuota        = 1_000
	guaranteedScore = -997
	bestEffortScore = 1000
)

// Resources turns requests and limits into cgroup limits.
func Resources(c *corev1.Container, pids int64) keeper.Resources {
	r := keeper.Resources{PidsLimit: pids}
	request, requested := c.Resources.Requests[corev1.ResourceCPU]
	limit, limited := c.Resources.Limits[corev1.ResourceCPU]
	if !requested && limited {
		request = limit
	}
	r.CPUShares = shares(request.MilliValue())
	if limited && !limit.IsZero() {
		r.CPUPeriodMicros = quotaPeriod
		r.CPUQuotaMicros = max(limit.MilliValue()*quotaPeriod/1000, minQuota)
	}
	if m, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
		r.MemoryBytes = m.Value()
	}
	return r
}

// shares is MilliCPUToShares.
func shares(milli int64) uint64 {
	return uint64(min(max(milli*sharesPerCPU/1000, minShares), maxShares)) //nolint:gosec // between the bounds
}

// OOMScoreAdj is GetContainerOOMScoreAdjust: the more memory a burstable container asked for, the later it dies.
func OOMScoreAdj(p *corev1.Pod, c *corev1.Container, nodeMemoryBytes int64) int {
	if critical(p) {
		return guaranteedScore
	}
	switch pod.QOS(p) {
	case corev1.PodQOSGuaranteed:
		return guaranteedScore
	case corev1.PodQOSBestEffort:
		return bestEffortScore
	case corev1.PodQOSBurstable:
	}
	request := c.Resources.Requests.Memory().Value()
	score := int64(bestEffortScore)
	if nodeMemoryBytes > 0 {
		score = 1000 - 1000*request/nodeMemoryBytes
	}
	if score < 1000+guaranteedScore {
		return 1000 + guaranteedScore
	}
	if score == bestEffortScore {
		return bestEffortScore - 1
	}
	return int(score)
}

// critical is IsNodeCriticalPod.
func critical(p *corev1.Pod) bool {
	return p.Spec.PriorityClassName == "system-node-critical"
}
