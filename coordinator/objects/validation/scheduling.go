package validation

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	schedulingrules "k8s.io/kubernetes/pkg/apis/scheduling/validation"
)

func (v *Validator) addScheduling() {
	kind(v, schema.GroupKind{Group: scheduling.GroupName, Kind: "PriorityClass"}, schedulingrules.ValidatePriorityClass, schedulingrules.ValidatePriorityClassUpdate, nil, nil)
}
