package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Check is why the object may not come (old is nil) or become what it is, with what the namespace's other objects use;
// nil when it may. Its words are upstream's.
func Check(q *corev1.ResourceQuota, obj, old runtime.Object, others corev1.ResourceList, now time.Time) error {
	names := limited(q, obj)
	if pod, ok := obj.(*corev1.Pod); ok && old == nil {
		if missing := unspecified(pod, names); missing != "" {
			return fmt.Errorf("failed quota: %s: must specify %s", q.Name, missing)
		}
	}
	before := corev1.ResourceList{}
	if old != nil && Covers(q, old) {
		before = Mask(Used(old, now), names)
	}
	asked, have, hard := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for name, quantity := range Mask(Used(obj, now), names) {
		request := quantity.DeepCopy()
		request.Sub(before[name])
		if request.Sign() <= 0 {
			continue
		}
		sum, used := request.DeepCopy(), others[name]
		used.Add(before[name])
		sum.Add(used)
		if limit := q.Spec.Hard[name]; sum.Cmp(limit) > 0 {
			asked[name], have[name], hard[name] = request, used, limit
		}
	}
	if len(asked) == 0 {
		return nil
	}
	return fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", q.Name, Words(asked), Words(have), Words(hard))
}

// Words are the resources as upstream prints them: cpu=1,memory=1Gi.
func Words(list corev1.ResourceList) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		quantity := list[name]
		parts = append(parts, string(name)+"="+quantity.String())
	}
	return strings.Join(parts, ",")
}

// demanded are the limits that make every container say what it needs.
var demanded = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
}

// unspecified names the containers that do not say what the quota asks of them; empty when all do.
func unspecified(pod *corev1.Pod, names []corev1.ResourceName) string {
	if r := pod.Spec.Resources; r != nil && len(r.Requests)+len(r.Limits) > 0 {
		return ""
	}
	var parts []string
	for _, name := range names {
		if !slices.Contains(demanded, name) {
			continue
		}
		var silent []string
		for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
			if _, says := compute(c.Resources.Requests, c.Resources.Limits)[name]; !says {
				silent = append(silent, c.Name)
			}
		}
		if len(silent) > 0 {
			slices.Sort(silent)
			parts = append(parts, fmt.Sprintf("%s for: %s", name, strings.Join(silent, ",")))
		}
	}
	return strings.Join(parts, "; ")
}
