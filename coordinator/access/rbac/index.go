package rbac

import (
	"cmp"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// Objects are all roles and bindings at one moment. They are shared and never changed.
type Objects struct {
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
}

// subject is a user or a group. A ServiceAccount is the user that its tokens name.
type subject struct {
	group bool
	name  string
}

// grant is one binding for one subject.
type grant struct {
	rules []rbacv1.PolicyRule
	err   error // why the role was not found; rules is nil then
	order int   // of the binding among all of its scope

	// Where it comes from, for people.
	name, namespace string
	ref             *rbacv1.RoleRef
	subject         *rbacv1.Subject
}

// grants are those of one subject.
type grants struct {
	cluster []grant
	spaces  map[string][]grant
}

// index finds grants by subject.
type index struct {
	subjects     map[subject]*grants
	roles        map[[2]string]*rbacv1.Role
	clusterRoles map[string]*rbacv1.ClusterRole
}

func newIndex(o Objects) *index {
	x := &index{subjects: map[subject]*grants{}, roles: map[[2]string]*rbacv1.Role{}, clusterRoles: map[string]*rbacv1.ClusterRole{}}
	for _, r := range o.Roles {
		x.roles[[2]string{r.Namespace, r.Name}] = r
	}
	for _, r := range o.ClusterRoles {
		x.clusterRoles[r.Name] = r
	}
	for n, b := range o.ClusterRoleBindings {
		x.bind(b.Name, "", &b.RoleRef, b.Subjects, n)
	}
	for n, b := range o.RoleBindings {
		x.bind(b.Name, b.Namespace, &b.RoleRef, b.Subjects, n)
	}
	return x
}

// bind enters one binding; namespace is empty for a cluster's. A subject that is named twice is entered once.
func (x *index) bind(name, namespace string, ref *rbacv1.RoleRef, subjects []rbacv1.Subject, order int) {
	rules, err := x.rules(*ref, namespace)
	for i := range subjects {
		key, ok := subjectOf(&subjects[i], namespace)
		if !ok {
			continue
		}
		of := x.subjects[key]
		if of == nil {
			of = &grants{spaces: map[string][]grant{}}
			x.subjects[key] = of
		}
		g := grant{rules: rules, err: err, order: order, name: name, namespace: namespace, ref: ref, subject: &subjects[i]}
		if namespace == "" {
			of.cluster = addOnce(of.cluster, g)
		} else {
			of.spaces[namespace] = addOnce(of.spaces[namespace], g)
		}
	}
}

func addOnce(list []grant, g grant) []grant {
	if n := len(list); n > 0 && list[n-1].order == g.order {
		return list
	}
	return append(list, g)
}

func subjectOf(s *rbacv1.Subject, namespace string) (subject, bool) {
	switch s.Kind {
	case rbacv1.UserKind:
		return subject{name: s.Name}, true
	case rbacv1.GroupKind:
		return subject{group: true, name: s.Name}, true
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return subject{name: authn.ServiceAccountName(namespace, s.Name)}, namespace != ""
	}
	return subject{}, false
}

// rules finds the role that a binding in namespace refers to.
func (x *index) rules(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	switch ref.Kind {
	case "Role":
		if r := x.roles[[2]string{namespace, ref.Name}]; r != nil {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(rbacv1.Resource("role"), ref.Name)
	case "ClusterRole":
		if r := x.clusterRoles[ref.Name]; r != nil {
			return r.Rules, nil
		}
		return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), ref.Name)
	}
	return nil, fmt.Errorf("unsupported role reference kind: %q", ref.Kind)
}

// in are the subject's grants in one namespace, or in the cluster when it is empty. The receiver may be nil.
func (of *grants) in(namespace string) []grant {
	switch {
	case of == nil:
		return nil
	case namespace == "":
		return of.cluster
	}
	return of.spaces[namespace]
}

func (of *grants) pointers(namespace string) []*grant {
	list := of.in(namespace)
	out := make([]*grant, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// String implements fmt.Stringer in upstream's words.
func (g *grant) String() string {
	kind, name := "ClusterRoleBinding", g.name
	if g.namespace != "" {
		kind, name = "RoleBinding", g.name+"/"+g.namespace
	}
	to := g.subject.Name
	if g.subject.Kind == rbacv1.ServiceAccountKind {
		to += "/" + cmp.Or(g.subject.Namespace, g.namespace)
	}
	return fmt.Sprintf("RBAC: allowed by %s %q of %s %q to %s %q", kind, name, g.ref.Kind, g.ref.Name, g.subject.Kind, to)
}
