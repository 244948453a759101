package validation

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kubernetes/pkg/apis/node"
	noderules "k8s.io/kubernetes/pkg/apis/node/validation"
)

func (v *Validator) addRuntimes() {
	kind(v, schema.GroupKind{Group: node.GroupName, Kind: "RuntimeClass"}, noderules.ValidateRuntimeClass, noderules.ValidateRuntimeClassUpdate, nil, nil)
}
