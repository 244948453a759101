package controller

import (
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// BudgetKind is where a snapshot's Others have the disruption budgets.
var BudgetKind = schema.GroupKind{Group: policyv1.GroupName, Kind: "PodDisruptionBudget"}

// Budgets finds the disruption budgets of pods.
type Budgets struct{ byNamespace map[string][]selecting }

type selecting struct {
	budget *policyv1.PodDisruptionBudget
	pods   labels.Selector
}

// NewBudgets indexes budgets. One whose selector does not parse selects nothing.
func NewBudgets(all []*policyv1.PodDisruptionBudget) *Budgets {
	b := &Budgets{byNamespace: map[string][]selecting{}}
	for _, budget := range all {
		if pods, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector); err == nil {
			b.byNamespace[budget.Namespace] = append(b.byNamespace[budget.Namespace], selecting{budget, pods})
		}
	}
	return b
}

// Of are the budgets that select the pod, in the order in which they were given; nil when there is none.
func (b *Budgets) Of(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	var found []*policyv1.PodDisruptionBudget
	for _, s := range b.byNamespace[pod.Namespace] {
		if s.pods.Matches(labels.Set(pod.Labels)) {
			found = append(found, s.budget)
		}
	}
	return found
}

// Any reports whether there are budgets at all.
func (b *Budgets) Any() bool { return len(b.byNamespace) > 0 }
