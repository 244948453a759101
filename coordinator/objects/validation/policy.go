package validation

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyrules "k8s.io/kubernetes/pkg/apis/policy/validation"
)

func (v *Validator) addPolicy() {
	kind(v, schema.GroupKind{Group: policy.GroupName, Kind: "PodDisruptionBudget"}, func(b *policy.PodDisruptionBudget) field.ErrorList {
		return policyrules.ValidatePodDisruptionBudget(b, policyrules.PodDisruptionBudgetValidationOptions{})
	}, func(b, old *policy.PodDisruptionBudget) field.ErrorList {
		o := policyrules.PodDisruptionBudgetValidationOptions{AllowInvalidLabelValueInSelector: metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)}
		return policyrules.ValidatePodDisruptionBudget(b, o)
	}, func(b, old *policy.PodDisruptionBudget) field.ErrorList {
		return policyrules.ValidatePodDisruptionBudgetStatusUpdate(b.Status, old.Status, field.NewPath("status"), policyv1.SchemeGroupVersion)
	}, nil)
}
