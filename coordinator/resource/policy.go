package resource

import policyv1 "k8s.io/api/policy/v1"

func policy() []*Resource {
	budget := policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget")
	return []*Resource{kind[policyv1.PodDisruptionBudget, policyv1.PodDisruptionBudgetList](budget, "poddisruptionbudgets", Resource{
		ShortNames: []string{"pdb"}, Namespaced: true, Subresources: []Subresource{status(budget)},
	})}
}
