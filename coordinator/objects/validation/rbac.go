package validation

import (
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacrules "k8s.io/kubernetes/pkg/apis/rbac/validation"
)

func (v *Validator) addRBAC() {
	of := func(name string) schema.GroupKind { return schema.GroupKind{Group: rbac.GroupName, Kind: name} }
	kind(v, of("Role"), rbacrules.ValidateRole, rbacrules.ValidateRoleUpdate, nil, nil)
	kind(v, of("RoleBinding"), rbacrules.ValidateRoleBinding, rbacrules.ValidateRoleBindingUpdate, nil, nil)
	kind(v, of("ClusterRoleBinding"), rbacrules.ValidateClusterRoleBinding, rbacrules.ValidateClusterRoleBindingUpdate, nil, nil)
	kind(v, of("ClusterRole"), func(role *rbac.ClusterRole) field.ErrorList {
		return rbacrules.ValidateClusterRole(role, rbacrules.ClusterRoleValidationOptions{})
	}, func(role, old *rbac.ClusterRole) field.ErrorList {
		return rbacrules.ValidateClusterRoleUpdate(role, old, rbacrules.ClusterRoleValidationOptions{AllowInvalidLabelValueInSelector: gathersInvalidLabels(old)})
	}, nil, nil)
}

// gathersInvalidLabels: what was once let in may stay, as upstream.
func gathersInvalidLabels(role *rbac.ClusterRole) bool {
	if role.AggregationRule == nil {
		return false
	}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		if len(metav1validation.ValidateLabelSelector(&role.AggregationRule.ClusterRoleSelectors[i], metav1validation.LabelSelectorValidationOptions{}, nil)) > 0 {
			return true
		}
	}
	return false
}
