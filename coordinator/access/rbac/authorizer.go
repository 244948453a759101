package rbac

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Source is where the objects come from: a view.View.
type Source interface {
	List(res *resource.Resource, namespace string) ([]*view.Item, uint64)
	// Changes counts the changes of the kinds; it differs whenever one of their objects does.
	Changes(kinds ...*resource.Resource) uint64
}

// kinds are those that are evaluated.
var kinds = []*resource.Resource{
	resource.ForObject((*rbacv1.Role)(nil)), resource.ForObject((*rbacv1.RoleBinding)(nil)),
	resource.ForObject((*rbacv1.ClusterRole)(nil)), resource.ForObject((*rbacv1.ClusterRoleBinding)(nil)),
}

// Authorizer decides by the objects of a source. All methods may be called concurrently. Use New.
type Authorizer struct {
	source Source
	mu     sync.Mutex // of those who build
	built  atomic.Pointer[built]
}

type built struct {
	changes uint64
	index   *index
}

// New makes an Authorizer that knows the objects of source as they are at each decision.
func New(source Source) *Authorizer { return &Authorizer{source: source} }

// index is the one of the present objects.
func (z *Authorizer) index() *index {
	changes := z.source.Changes(kinds...)
	if b := z.built.Load(); b != nil && b.changes == changes {
		return b.index
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	changes = z.source.Changes(kinds...) // before reading: what changes meanwhile makes the next one build again
	if b := z.built.Load(); b != nil && b.changes == changes {
		return b.index
	}
	b := &built{changes: changes, index: newIndex(z.objects())}
	z.built.Store(b)
	return b.index
}

func (z *Authorizer) objects() Objects {
	return Objects{
		Roles: list[*rbacv1.Role](z.source), RoleBindings: list[*rbacv1.RoleBinding](z.source),
		ClusterRoles: list[*rbacv1.ClusterRole](z.source), ClusterRoleBindings: list[*rbacv1.ClusterRoleBinding](z.source),
	}
}

func list[T runtime.Object](from Source) []T {
	var zero T
	items, _ := from.List(resource.ForObject(zero), "")
	out := make([]T, 0, len(items))
	for _, i := range items {
		if o, ok := i.Object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// Authorize implements access.Authorizer. Members of system:masters may do everything, whatever the objects say, so that
// no write can lock an administrator out.
func (z *Authorizer) Authorize(a access.Attributes) access.Decision {
	if a.User.In(authn.GroupMasters) {
		return access.Decision{Allowed: true}
	}
	return z.index().authorize(&a)
}

func (x *index) authorize(a *access.Attributes) access.Decision {
	var missing refusal
	by := x.search(a, "", &missing)
	if by == nil && a.Namespace != "" {
		by = x.search(a, a.Namespace, &missing)
	}
	switch {
	case by != nil:
		return access.Decision{Allowed: true, Why: by}
	case len(missing) > 0:
		return access.Decision{Why: missing}
	}
	return access.Decision{}
}

// search finds a grant of one scope that allows a; it notes what is missing on the way.
func (x *index) search(a *access.Attributes, namespace string, missing *refusal) *grant {
	if g := x.subjects[subject{name: a.User.Name}].search(a, namespace, missing); g != nil {
		return g
	}
	for _, group := range a.User.Groups {
		if g := x.subjects[subject{group: true, name: group}].search(a, namespace, missing); g != nil {
			return g
		}
	}
	return nil
}

func (of *grants) search(a *access.Attributes, namespace string, missing *refusal) *grant {
	list := of.in(namespace)
	for i := range list {
		if list[i].err != nil {
			*missing = append(*missing, list[i].err)
		}
		for n := range list[i].rules {
			if allows(&list[i].rules[n], a) {
				return &list[i]
			}
		}
	}
	return nil
}

// refusal is why roles that a user has were not found.
type refusal []error

// String implements fmt.Stringer.
func (r refusal) String() string { return fmt.Sprintf("RBAC: %v", utilerrors.NewAggregate(r)) }

// RulesFor implements access.Rules, in the order of the bindings' names.
func (z *Authorizer) RulesFor(u authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	rules, err := z.index().rulesFor(&u, namespace)
	if u.In(authn.GroupMasters) {
		rules = append([]rbacv1.PolicyRule{
			{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
		}, rules...)
	}
	return rules, err
}

// Namespaces are those with a binding for the user or one of its groups, sorted. In others only bindings of the whole
// cluster can give it a right.
func (z *Authorizer) Namespaces(u authn.User) []string { return z.index().namespaces(&u) }

func (x *index) namespaces(u *authn.User) (found []string) {
	add := func(s subject) {
		if of := x.subjects[s]; of != nil {
			found = slices.AppendSeq(found, maps.Keys(of.spaces))
		}
	}
	add(subject{name: u.Name})
	for _, group := range u.Groups {
		add(subject{group: true, name: group})
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (x *index) rulesFor(u *authn.User, namespace string) ([]rbacv1.PolicyRule, error) {
	rules, errs := x.gather(u, "")
	if namespace != "" {
		more, moreErrs := x.gather(u, namespace)
		rules, errs = append(rules, more...), append(errs, moreErrs...)
	}
	return rules, utilerrors.NewAggregate(errs)
}

// gather takes each binding of one scope once, in their order.
func (x *index) gather(u *authn.User, namespace string) (rules []rbacv1.PolicyRule, errs []error) {
	found := x.subjects[subject{name: u.Name}].pointers(namespace)
	for _, group := range u.Groups {
		found = append(found, x.subjects[subject{group: true, name: group}].pointers(namespace)...)
	}
	slices.SortStableFunc(found, func(a, b *grant) int { return cmp.Compare(a.order, b.order) })
	found = slices.CompactFunc(found, func(a, b *grant) bool { return a.order == b.order })
	for _, g := range found {
		rules = append(rules, g.rules...)
		if g.err != nil {
			errs = append(errs, g.err)
		}
	}
	return rules, errs
}

// roleRules are the rules of the role that a binding in namespace refers to.
func (z *Authorizer) roleRules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	return z.index().rules(ref, namespace)
}
