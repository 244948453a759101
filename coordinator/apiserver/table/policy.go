package table

import (
	"time"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var budgetLayout = layout(func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
	return []any{
		b.Name, amount(b.Spec.MinAvailable), amount(b.Spec.MaxUnavailable),
		int64(b.Status.DisruptionsAllowed), since(b.CreationTimestamp, now),
	}
},
	name,
	text("Min Available", "The minimum number of pods that must be available."),
	text("Max Unavailable", "The maximum number of pods that may be unavailable."),
	number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
	age,
)

func amount(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}
