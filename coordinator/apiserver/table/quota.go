package table

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var resourceQuotaLayout = layout(resourceQuotaCells,
	name,
	text("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
	text("Limit", "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
	age,
)

func resourceQuotaCells(q *corev1.ResourceQuota, now time.Time) []any {
	var requests, limits []string
	for _, resource := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		used, hard := q.Status.Used[resource], q.Status.Hard[resource]
		cell := fmt.Sprintf("%s: %s/%s", resource, used.String(), hard.String())
		if strings.HasPrefix(string(resource), "limits.") {
			limits = append(limits, cell)
		} else {
			requests = append(requests, cell)
		}
	}
	return []any{q.Name, strings.Join(requests, ", "), strings.Join(limits, ", "), since(q.CreationTimestamp, now)}
}
