package objects

import (
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

func budgetStrategy() *strategy {
	return &strategy{
		needVersion: true,
		create: one(func(b *policyv1.PodDisruptionBudget) {
			b.Status = policyv1.PodDisruptionBudgetStatus{}
			b.Generation = 1
		}),
		update: two(func(b, old *policyv1.PodDisruptionBudget) {
			old.Status.DeepCopyInto(&b.Status)
			if !equality.Semantic.DeepEqual(b.Spec, old.Spec) {
				b.Generation = old.Generation + 1
			}
		}),
		status: two(func(b, old *policyv1.PodDisruptionBudget) {
			old.Spec.DeepCopyInto(&b.Spec)
		}),
	}
}
