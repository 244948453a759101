package rbac

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	upstreamrules "k8s.io/kubernetes/pkg/registry/rbac/validation"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// lists are the objects as upstream's evaluator asks for them.
type lists struct{ Objects }

func (l lists) GetRole(_ context.Context, namespace, name string) (*rbacv1.Role, error) {
	for _, r := range l.Roles {
		if r.Namespace == namespace && r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("role"), name)
}

func (l lists) GetClusterRole(_ context.Context, name string) (*rbacv1.ClusterRole, error) {
	for _, r := range l.ClusterRoles {
		if r.Name == name {
			return r, nil
		}
	}
	return nil, apierrors.NewNotFound(rbacv1.Resource("clusterrole"), name)
}

func (l lists) ListRoleBindings(_ context.Context, namespace string) (out []*rbacv1.RoleBinding, _ error) {
	for _, b := range l.RoleBindings {
		if b.Namespace == namespace {
			out = append(out, b)
		}
	}
	return out, nil
}

func (l lists) ListClusterRoleBindings(context.Context) ([]*rbacv1.ClusterRoleBinding, error) {
	return l.ClusterRoleBindings, nil
}

// dice makes small random words, so that rules and requests often meet.
type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

func (d dice) some(of ...string) []string {
	var out []string
	for range 1 + d.IntN(2) {
		out = append(out, d.one(of...))
	}
	return out
}

var (
	namesOf    = []string{"a", "b", "c"}
	spaces     = []string{"n1", "n2"}
	verbs      = []string{"get", "list", "create", "*", "GET"}
	groupsAPI  = []string{"", "apps", "*"}
	plurals    = []string{"pods", "pods/log", "*/log", "*", "deployments", "deployments/scale", "*/scale", "pods/", "/log", "*/"}
	paths      = []string{"/", "/api", "/api/*", "/healthz", "*", "/apis*", "/version/"}
	userNames  = []string{"ada", "bob", "system:serviceaccount:n1:a", "system:serviceaccount:n2:a", "system:serviceaccount:n1:a:b", "system:anonymous"}
	userGroups = []string{"crew", "ops", "system:authenticated", "system:serviceaccounts"}
)

func (d dice) rule() rbacv1.PolicyRule {
	if d.IntN(4) == 0 {
		return rbacv1.PolicyRule{Verbs: d.some(verbs...), NonResourceURLs: d.some(paths...)}
	}
	r := rbacv1.PolicyRule{Verbs: d.some(verbs...), APIGroups: d.some(groupsAPI...), Resources: d.some(plurals...)}
	if d.IntN(3) == 0 {
		r.ResourceNames = d.some(namesOf...)
	}
	return r
}

func (d dice) rules() (out []rbacv1.PolicyRule) {
	for range d.IntN(3) {
		out = append(out, d.rule())
	}
	return out
}

func (d dice) subject() rbacv1.Subject {
	switch d.IntN(3) {
	case 0:
		return rbacv1.Subject{Kind: rbacv1.UserKind, Name: d.one(userNames...)}
	case 1:
		return rbacv1.Subject{Kind: rbacv1.GroupKind, Name: d.one(userGroups...)}
	}
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: d.one("", "n1", "n2"), Name: d.one("a", "a:b")}
}

func (d dice) objects() Objects {
	var o Objects
	for _, name := range namesOf {
		o.ClusterRoles = append(o.ClusterRoles, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: d.rules()})
		for _, space := range spaces {
			o.Roles = append(o.Roles, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: space, Name: name}, Rules: d.rules()})
		}
	}
	for n := range 2 + d.IntN(6) {
		m := metav1.ObjectMeta{Name: fmt.Sprint("b", n)}
		ref := rbacv1.RoleRef{Kind: "ClusterRole", Name: d.one("a", "b", "absent")}
		o.ClusterRoleBindings = append(o.ClusterRoleBindings, &rbacv1.ClusterRoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: []rbacv1.Subject{d.subject(), d.subject()}})
		m.Namespace = d.one(spaces...)
		ref.Kind = d.one("Role", "ClusterRole")
		o.RoleBindings = append(o.RoleBindings, &rbacv1.RoleBinding{ObjectMeta: m, RoleRef: ref, Subjects: []rbacv1.Subject{d.subject(), d.subject()}})
	}
	return o
}

func (d dice) question() access.Attributes {
	a := access.Attributes{
		User: authn.User{Name: d.one(userNames...), Groups: d.some(userGroups...)},
		Verb: d.one("get", "list", "create", "delete"),
	}
	if d.IntN(4) == 0 {
		a.Path = d.one("/", "/api", "/api/", "/api/v1", "/apis", "/healthz", "/healthz/x", "/version", "/version/")
		return a
	}
	a.Group, a.Resource = d.one("", "apps", "batch"), d.one("pods", "deployments", "log")
	a.Subresource, a.Name, a.Namespace = d.one("", "log", "scale"), d.one("", "a", "b", "z"), d.one("", "n1", "n2")
	return a
}

func asUpstream(a access.Attributes) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: a.User.Name, Groups: a.User.Groups}, Verb: a.Verb, Namespace: a.Namespace, APIGroup: a.Group,
		Resource: a.Resource, Subresource: a.Subresource, Name: a.Name, ResourceRequest: a.Path == "", Path: a.Path,
	}
}

// Upstream's own evaluator answers every question the same.
func TestDecisionsAreUpstreams(t *testing.T) {
	allowed := 0
	for seed := range uint64(400) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		o := d.objects()
		oracle := upstream.New(lists{o}, lists{o}, lists{o}, lists{o})
		x := newIndex(o)
		for range 100 {
			a := d.question()
			want, reason, err := oracle.Authorize(t.Context(), asUpstream(a))
			if err != nil {
				t.Fatal(err)
			}
			got := x.authorize(&a)
			if got.Allowed != (want == authorizer.DecisionAllow) {
				t.Fatalf("seed %d: %+v: allowed %v (%s), upstream says %v (%s)", seed, a, got.Allowed, got.Reason(), want == authorizer.DecisionAllow, reason)
			}
			if (got.Reason() == "") != (reason == "") {
				t.Fatalf("seed %d: %+v: reason %q, upstream's is %q", seed, a, got.Reason(), reason)
			}
			if got.Allowed {
				allowed++
			}
		}
	}
	if allowed < 2000 {
		t.Errorf("only %d of 40000 questions were allowed: they hardly test anything", allowed)
	}
}

func TestRulesAreUpstreams(t *testing.T) {
	for seed := range uint64(300) {
		d := dice{rand.New(rand.NewPCG(seed, 2))}
		o := d.objects()
		resolver := upstreamrules.NewDefaultRuleResolver(lists{o}, lists{o}, lists{o}, lists{o})
		a := d.question()
		want, wantErr := resolver.RulesFor(t.Context(), asUpstream(a).User, a.Namespace)
		got, gotErr := newIndex(o).rulesFor(&a.User, a.Namespace)
		if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("seed %d: rules %v, upstream has %v", seed, got, want)
		}
		if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Errorf("seed %d: error %v, upstream has %v", seed, gotErr, wantErr)
		}
	}
}

// Reasons are upstream's to the letter when only one binding gives the right.
func TestReasons(t *testing.T) {
	rules := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}}
	for _, s := range []rbacv1.Subject{
		{Kind: rbacv1.UserKind, Name: "ada"},
		{Kind: rbacv1.GroupKind, Name: "crew"},
		{Kind: rbacv1.ServiceAccountKind, Name: "a", Namespace: "n1"},
	} {
		for _, role := range []string{"r", "absent"} {
			o := Objects{
				ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: rules}},
				RoleBindings: []*rbacv1.RoleBinding{{
					ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: "b"}, Subjects: []rbacv1.Subject{s}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role},
				}},
			}
			a := access.Attributes{User: authn.User{Name: "ada", Groups: []string{"crew"}}, Verb: "get", Resource: "pods", Namespace: "n1"}
			if s.Kind == rbacv1.ServiceAccountKind {
				a.User = authn.ServiceAccount("n1", "a", "")
			}
			_, want, err := upstream.New(lists{o}, lists{o}, lists{o}, lists{o}).Authorize(t.Context(), asUpstream(a))
			if err != nil {
				t.Fatal(err)
			}
			if got := newIndex(o).authorize(&a).Reason(); got != want {
				t.Errorf("reason %q, upstream says %q", got, want)
			}
		}
	}
}

// A user's namespaces are those whose bindings name it, by whatever kind of subject.
func TestNamespaces(t *testing.T) {
	bound := func(namespace string, s ...rbacv1.Subject) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "b"}, Subjects: s, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "absent"}}
	}
	ada, crew := rbacv1.Subject{Kind: rbacv1.UserKind, Name: "ada"}, rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "crew"}
	account := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: "a"}
	x := newIndex(Objects{
		RoleBindings: []*rbacv1.RoleBinding{
			bound("n3", ada, crew), bound("n2", crew), bound("n1", ada), bound("n0", rbacv1.Subject{Kind: rbacv1.UserKind, Name: "crew"}),
			bound("own", account), bound("other", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "own", Name: "a"}),
		},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "bob"}}}},
	})
	for _, tt := range []struct {
		user authn.User
		want []string
	}{
		{authn.User{Name: "ada"}, []string{"n1", "n3"}},
		{authn.User{Name: "ada", Groups: []string{"others", "crew"}}, []string{"n1", "n2", "n3"}},
		{authn.ServiceAccount("own", "a", ""), []string{"other", "own"}},
		{authn.User{Name: "bob"}, nil},
		{authn.User{Name: "nobody"}, nil},
	} {
		if got := x.namespaces(&tt.user); !slices.Equal(got, tt.want) {
			t.Errorf("namespaces of %+v are %v, want %v", tt.user, got, tt.want)
		}
	}
}
