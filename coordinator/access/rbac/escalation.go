package rbac

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/auth/rbac/validation"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Admit refuses a write of a role or binding that would give what its writer has not, unless the writer may escalate roles
// or bind the role. Old is nil for a new object; other kinds are admitted. Its errors are Status errors in upstream's
// words.
func (z *Authorizer) Admit(u authn.User, obj, old runtime.Object) error {
	if u.In(authn.GroupMasters) || onlyForCollector(obj, old) {
		return nil
	}
	switch o := obj.(type) {
	case *rbacv1.Role:
		return z.admitRole(u, "roles", o.Namespace, o.Name, o.Rules, false)
	case *rbacv1.ClusterRole:
		before, _ := old.(*rbacv1.ClusterRole)
		return z.admitRole(u, "clusterroles", "", o.Name, o.Rules, gathers(o) || gathers(before))
	case *rbacv1.RoleBinding:
		return z.admitBinding(u, "rolebindings", o.Namespace, o.Name, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		return z.admitBinding(u, "clusterrolebindings", "", o.Name, o.RoleRef)
	}
	return nil
}

func gathers(r *rbacv1.ClusterRole) bool {
	return r != nil && r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

// everything is what one needs to have to let a role gather others.
var everything = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

func (z *Authorizer) admitRole(u authn.User, plural, namespace, name string, rules []rbacv1.PolicyRule, gathers bool) error {
	escalate := access.Attributes{User: u, Verb: "escalate", Group: rbacv1.GroupName, Resource: plural, Namespace: namespace, Name: name}
	if z.Authorize(escalate).Allowed {
		return nil
	}
	if err := z.covers(u, namespace, rules); err != nil {
		return apierrors.NewForbidden(resourceOf(plural), name, err)
	}
	if gathers && z.covers(u, namespace, everything) != nil {
		return apierrors.NewForbidden(resourceOf(plural), name, errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func (z *Authorizer) admitBinding(u authn.User, plural, namespace, name string, ref rbacv1.RoleRef) error {
	bind := access.Attributes{User: u, Verb: "bind", Group: ref.APIGroup, Namespace: namespace, Name: ref.Name}
	switch ref.Kind {
	case "Role":
		bind.Resource = "roles"
	case "ClusterRole":
		bind.Resource = "clusterroles"
	default:
		return nil // validation refuses it, in better words
	}
	if z.Authorize(bind).Allowed {
		return nil
	}
	rules, err := z.roleRules(ref, namespace)
	if err != nil {
		return err
	}
	if err := z.covers(u, namespace, rules); err != nil {
		return apierrors.NewForbidden(resourceOf(plural), name, err)
	}
	return nil
}

func resourceOf(plural string) schema.GroupResource {
	return schema.GroupResource{Group: rbacv1.GroupName, Resource: plural}
}

// covers is nil when the user has all that the rules give.
func (z *Authorizer) covers(u authn.User, namespace string, rules []rbacv1.PolicyRule) error {
	have, err := z.RulesFor(u, namespace)
	covered, missing := validation.Covers(have, rules)
	if covered {
		return nil
	}
	lines := map[string]bool{}
	for _, r := range compact(missing) {
		lines[describe(r)] = true
	}
	message := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		u.Name, u.Groups, strings.Join(slices.Sorted(maps.Keys(lines)), "\n"))
	if err != nil {
		message += fmt.Sprintf("; resolution errors: %v", []error{err})
	}
	return errors.New(message)
}

// target is what a rule of one resource is about.
type target struct{ group, resource, name string }

// compact joins the verbs of rules that are otherwise equal and about one resource: what Covers misses comes verb by verb.
func compact(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	at := map[target]int{}
	for _, r := range rules {
		if len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 1 || len(r.NonResourceURLs) > 0 {
			out = append(out, r)
			continue
		}
		t := target{group: r.APIGroups[0], resource: r.Resources[0]}
		if len(r.ResourceNames) == 1 {
			t.name = "/" + r.ResourceNames[0]
		}
		if n, ok := at[t]; ok {
			out[n].Verbs = append(out[n].Verbs, r.Verbs...)
			continue
		}
		at[t] = len(out)
		out = append(out, *r.DeepCopy())
	}
	return out
}

// describe is a rule on one line.
func describe(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name string
		list []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs}, {"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs}} {
		if len(p.list) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.list))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// onlyForCollector reports whether a change is only of what the garbage collector changes: owners and finalizers.
func onlyForCollector(obj, old runtime.Object) bool {
	if old == nil {
		return false
	}
	after, err := meta.Accessor(obj.DeepCopyObject())
	before, beforeErr := meta.Accessor(old)
	if err != nil || beforeErr != nil {
		return false
	}
	after.SetOwnerReferences(before.GetOwnerReferences())
	after.SetFinalizers(before.GetFinalizers())
	after.SetManagedFields(before.GetManagedFields())
	return equality.Semantic.DeepEqual(after, before)
}
