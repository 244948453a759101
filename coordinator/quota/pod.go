package quota

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
)

// podNames are a quota's limits that pods use, by what of a pod they are.
var podNames = map[corev1.ResourceName]struct{ requests, limits []corev1.ResourceName }{
	corev1.ResourceCPU: {
		[]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceRequestsCPU}, []corev1.ResourceName{corev1.ResourceLimitsCPU},
	},
	corev1.ResourceMemory: {
		[]corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceRequestsMemory}, []corev1.ResourceName{corev1.ResourceLimitsMemory},
	},
	corev1.ResourceEphemeralStorage: {
		[]corev1.ResourceName{corev1.ResourceEphemeralStorage, corev1.ResourceRequestsEphemeralStorage}, []corev1.ResourceName{corev1.ResourceLimitsEphemeralStorage},
	},
}

// podUse adds what a pod uses. One that has ended, or should have by now, uses nothing but its place.
func podUse(pod *corev1.Pod, now time.Time, used corev1.ResourceList) {
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded || overdue(pod, now) {
		return
	}
	used[corev1.ResourcePods] = one()
	Add(used, compute(podresource.PodRequests(pod, podresource.PodResourcesOptions{}), podresource.PodLimits(pod, podresource.PodResourcesOptions{})))
}

func overdue(pod *corev1.Pod, now time.Time) bool {
	if pod.DeletionTimestamp == nil || pod.DeletionGracePeriodSeconds == nil {
		return false
	}
	return now.After(pod.DeletionTimestamp.Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second))
}

// compute names requests and limits as quotas do.
func compute(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, quantity := range requests {
		switch names, known := podNames[name]; {
		case known:
			for _, n := range names.requests {
				out[n] = quantity
			}
		case strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix):
			out[name] = quantity
			out[corev1.DefaultResourceRequestsPrefix+name] = quantity
		case extended(name):
			out[corev1.DefaultResourceRequestsPrefix+name] = quantity
		}
	}
	for name, quantity := range limits {
		for _, n := range podNames[name].limits {
			out[n] = quantity
		}
	}
	return out
}

// extended reports whether the name is of a resource that Kubernetes does not know itself.
func extended(name corev1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
}

// podResource reports whether pods use what a quota limits under that name.
func podResource(name corev1.ResourceName) bool {
	if name == corev1.ResourcePods || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) || strings.HasPrefix(string(name), corev1.ResourceRequestsHugePagesPrefix) {
		return true
	}
	for _, names := range podNames {
		if slices.Contains(names.requests, name) || slices.Contains(names.limits, name) {
			return true
		}
	}
	rest, requests := strings.CutPrefix(string(name), corev1.DefaultResourceRequestsPrefix)
	return requests && extended(corev1.ResourceName(rest))
}
