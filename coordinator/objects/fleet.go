package objects

import (
	"github.com/nats-io/nkeys"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/api"
)

// tokenStrategy: a token cannot be changed into another one; whether it was used is status.
func tokenStrategy() *strategy {
	return &strategy{
		create: one(func(t *api.EnrolmentToken) { t.Status = api.EnrolmentTokenStatus{} }),
		update: two(func(t, old *api.EnrolmentToken) { old.Status.DeepCopyInto(&t.Status) }),
		status: two(func(t, old *api.EnrolmentToken) { old.Spec.DeepCopyInto(&t.Spec) }),
		rules:  tokenRules,
	}
}

// secretHashLength is that of a SHA-256 in hex.
const secretHashLength = 64

func tokenRules(obj, old runtime.Object) field.ErrorList {
	t, ok := obj.(*api.EnrolmentToken)
	if !ok {
		return nil
	}
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if len(t.Spec.SecretHash) != secretHashLength {
		errs = append(errs, field.Invalid(spec.Child("secretHash"), len(t.Spec.SecretHash), "must be the 64 hex digits of the secret's SHA-256; make tokens with skerry token create"))
	}
	if t.Spec.Expires.IsZero() {
		errs = append(errs, field.Required(spec.Child("expires"), "a token must end"))
	}
	if before, ok := old.(*api.EnrolmentToken); ok && !equality.Semantic.DeepEqual(t.Spec, before.Spec) {
		errs = append(errs, field.Forbidden(spec, "a token cannot be changed: delete it and make another"))
	}
	return errs
}

func credentialStrategy() *strategy {
	return &strategy{rules: func(obj, _ runtime.Object) field.ErrorList {
		c, ok := obj.(*api.NodeCredential)
		if !ok || nkeys.IsValidPublicUserKey(c.PublicKey) {
			return nil
		}
		return field.ErrorList{field.Invalid(field.NewPath("publicKey"), c.PublicKey, `must be an nkeys user key ("U...")`)}
	}}
}

func moveStrategy() *strategy {
	return &strategy{
		create: one(func(m *api.MovePlan) { m.Status = api.MovePlanStatus{} }),
		update: two(func(m, old *api.MovePlan) { old.Status.DeepCopyInto(&m.Status) }),
		status: two(func(m, old *api.MovePlan) { old.Spec.DeepCopyInto(&m.Spec) }),
		rules:  moveRules,
	}
}

func moveRules(obj, _ runtime.Object) field.ErrorList {
	m, ok := obj.(*api.MovePlan)
	if !ok {
		return nil
	}
	var errs field.ErrorList
	spec := field.NewPath("spec")
	for at, value := range map[string]string{"from": m.Spec.From, "to": m.Spec.To, "pod.name": m.Spec.Pod.Name} {
		if value == "" {
			errs = append(errs, field.Required(spec.Child(at), ""))
		}
	}
	return errs
}
