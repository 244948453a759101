// Package bootstrap makes the roles and bindings that every cluster has, as upstream does at each start: what is missing is
// added, what people added stays, and an object whose annotation rbac.authorization.kubernetes.io/autoupdate is "false" is
// left alone. The roles are in roles.yaml.
package bootstrap

import (
	"bytes"
	"context"
	_ "embed" // roles.yaml
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/component-helpers/auth/rbac/validation"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

//go:embed roles.yaml
var manifests []byte

// Writer is the write path: an *objects.Store.
type Writer interface {
	Create(ctx context.Context, obj runtime.Object, o objects.WriteOptions) (runtime.Object, error)
	Mutate(ctx context.Context, res *resource.Resource, namespace, name string, change func(runtime.Object) bool) (runtime.Object, error)
}

// Ensure makes the system's roles and bindings, or adds what they lack. It is safe to repeat.
func Ensure(ctx context.Context, to Writer) error {
	wanted, err := Objects()
	if err != nil {
		return err
	}
	for _, want := range wanted {
		if err := ensure(ctx, to, want); err != nil {
			return fmt.Errorf("system role %T %s: %w", want, want.GetName(), err)
		}
	}
	return nil
}

// Object is a ClusterRole or ClusterRoleBinding.
type Object interface {
	metav1.Object
	runtime.Object
}

// Objects are the system's roles and bindings, the caller's own.
func Objects() ([]Object, error) {
	var out []Object
	for doc := range bytes.SplitSeq(manifests, []byte("\n---\n")) {
		var head metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return nil, fmt.Errorf("read system roles: %w", err)
		}
		var obj Object
		switch head.Kind {
		case "ClusterRole":
			obj = &rbacv1.ClusterRole{}
		case "ClusterRoleBinding":
			obj = &rbacv1.ClusterRoleBinding{}
		default:
			continue // the comment at the top
		}
		if err := yaml.UnmarshalStrict(doc, obj); err != nil {
			return nil, fmt.Errorf("read system roles: %w", err)
		}
		out = append(out, obj)
	}
	return out, nil
}

// ensure asks for what there is first: at most starts nothing is to be written.
func ensure(ctx context.Context, to Writer, want Object) error {
	_, err := to.Mutate(ctx, resource.ForObject(want), "", want.GetName(), func(have runtime.Object) bool { return complete(have, want) })
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = to.Create(ctx, want, objects.WriteOptions{})
	return err
}

// complete adds to have what it lacks of want and reports whether it did.
func complete(have runtime.Object, want Object) bool {
	m, ok := have.(Object)
	if !ok || m.GetAnnotations()[rbacv1.AutoUpdateAnnotationKey] == "false" {
		return false
	}
	switch want := want.(type) {
	case *rbacv1.ClusterRole:
		role, ok := have.(*rbacv1.ClusterRole)
		return ok && completeRole(role, want)
	case *rbacv1.ClusterRoleBinding:
		binding, ok := have.(*rbacv1.ClusterRoleBinding)
		return ok && completeBinding(binding, want)
	}
	return false
}

func completeRole(have, want *rbacv1.ClusterRole) bool {
	if want.AggregationRule == nil {
		covered, missing := validation.Covers(have.Rules, want.Rules)
		have.Rules = append(have.Rules, missing...)
		return !covered
	}
	if have.AggregationRule == nil {
		have.AggregationRule = &rbacv1.AggregationRule{}
	}
	changed := false
	for _, s := range want.AggregationRule.ClusterRoleSelectors {
		if !slices.ContainsFunc(have.AggregationRule.ClusterRoleSelectors, func(o metav1.LabelSelector) bool { return equality.Semantic.DeepEqual(o, s) }) {
			have.AggregationRule.ClusterRoleSelectors = append(have.AggregationRule.ClusterRoleSelectors, s)
			changed = true
		}
	}
	return changed
}

func completeBinding(have, want *rbacv1.ClusterRoleBinding) bool {
	changed := false
	for _, s := range want.Subjects {
		if !slices.Contains(have.Subjects, s) {
			have.Subjects = append(have.Subjects, s)
			changed = true
		}
	}
	return changed
}
