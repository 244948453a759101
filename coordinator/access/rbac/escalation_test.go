package rbac

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	upstreamrules "k8s.io/kubernetes/pkg/registry/rbac/validation"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// fixed is a source that never changes.
type fixed struct{ Objects }

func (f fixed) Changes(...*resource.Resource) uint64 { return 1 }

func (f fixed) List(res *resource.Resource, _ string) (out []*view.Item, _ uint64) {
	add := func(o runtime.Object) {
		if resource.ForObject(o) == res {
			out = append(out, &view.Item{Resource: res, Object: o})
		}
	}
	for _, o := range f.Roles {
		add(o)
	}
	for _, o := range f.RoleBindings {
		add(o)
	}
	for _, o := range f.ClusterRoles {
		add(o)
	}
	for _, o := range f.ClusterRoleBindings {
		add(o)
	}
	return out, 1
}

// Upstream's own check refuses the same roles in the same words.
func TestEscalationIsUpstreams(t *testing.T) {
	refused := 0
	for seed := range uint64(1000) {
		d := dice{rand.New(rand.NewPCG(seed, 3))}
		o := d.objects()
		a, role := d.question(), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "n1", Name: "new"}, Rules: d.rules()}
		z := New(fixed{o})
		may := a
		may.Verb, may.Group, may.Resource, may.Subresource, may.Namespace, may.Name, may.Path = "escalate", rbacv1.GroupName, "roles", "", "n1", "new", ""
		if z.Authorize(may).Allowed {
			continue
		}
		ctx := request.WithNamespace(request.WithUser(t.Context(), asUpstream(a).User), "n1")
		want := upstreamrules.ConfirmNoEscalation(ctx, upstreamrules.NewDefaultRuleResolver(lists{o}, lists{o}, lists{o}, lists{o}), role.Rules)
		got := z.Admit(a.User, role, nil)
		if (got == nil) != (want == nil) {
			t.Fatalf("seed %d: %v, upstream says %v", seed, got, want)
		}
		if want == nil {
			continue
		}
		refused++
		if words := apierrors.NewForbidden(rbacv1.Resource("roles"), "new", want).Error(); got.Error() != words {
			t.Fatalf("seed %d: %q, upstream says %q", seed, got, words)
		}
	}
	if refused < 100 {
		t.Errorf("only %d roles were refused: they hardly test anything", refused)
	}
}

func TestAdmit(t *testing.T) {
	user := authn.User{Name: "ada"}
	grant := func(rules ...rbacv1.PolicyRule) Objects {
		return Objects{
			Roles:        []*rbacv1.Role{{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "secrets"}, Rules: []rbacv1.PolicyRule{reading("secrets")}}},
			ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "hers"}, Rules: rules}},
			ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{
				ObjectMeta: metav1.ObjectMeta{Name: "hers"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "hers"},
				Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "ada"}},
			}},
		}
	}
	verb := func(verb, plural, name string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{rbacv1.GroupName}, Resources: []string{plural}, ResourceNames: []string{name}}
	}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "x"}, Rules: []rbacv1.PolicyRule{reading("pods")}}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "x"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "secrets"}}
	dangling := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "x"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "absent"}}
	gathering := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "x"}, AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}}
	owned := role.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{Name: "o"}}
	tests := []struct {
		name     string
		has      Objects
		user     authn.User
		obj, old runtime.Object
		refusal  string // empty: admitted
	}{
		{"role with what one has", grant(reading("pods")), user, role, nil, ""},
		{"role with more", grant(reading("nodes")), user, role, nil, `user "ada" (groups=[]) is attempting to grant RBAC permissions not currently held:` + "\n" + `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`},
		{"may escalate", grant(verb("escalate", "roles", "x")), user, role, nil, ""},
		{"may escalate another role", grant(verb("escalate", "roles", "y")), user, role, nil, "not currently held"},
		{"only the collector's fields", grant(), user, owned, role, ""},
		{"binding to more", grant(), user, binding, nil, "not currently held"},
		{"may bind", grant(verb("bind", "roles", "secrets")), user, binding, nil, ""},
		{"binding to nothing", grant(), user, dangling, nil, `clusterrole.rbac.authorization.k8s.io "absent" not found`},
		{"may bind to nothing", grant(verb("bind", "clusterroles", "absent")), user, dangling, nil, ""},
		{"gathering role", grant(reading("pods")), user, gathering, nil, "must have cluster-admin privileges to use the aggregationRule"},
		{"gathering role no more", grant(reading("pods")), user, &rbacv1.ClusterRole{ObjectMeta: gathering.ObjectMeta}, gathering, "must have cluster-admin"},
		{"gathering role of a cluster-admin", grant(everything...), user, gathering, nil, ""},
		{"master", grant(), authn.User{Name: "root", Groups: []string{authn.GroupMasters}}, gathering, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := New(fixed{tt.has}).Admit(tt.user, tt.obj, tt.old)
			if tt.refusal == "" && err != nil || tt.refusal != "" && (err == nil || !strings.Contains(err.Error(), tt.refusal)) {
				t.Errorf("error %v, want %q", err, tt.refusal)
			}
		})
	}
}

func reading(plural string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{plural}}
}

// A decision costs no memory and does not slow down with the bindings of others.
func BenchmarkAuthorize(b *testing.B) {
	o := Objects{ClusterRoles: []*rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: []rbacv1.PolicyRule{reading("nodes"), reading("pods")}}}}
	for n := range 2000 {
		o.RoleBindings = append(o.RoleBindings, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: fmt.Sprint("b", n)}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "r"},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: fmt.Sprint("user", n)}},
		})
	}
	z := New(fixed{o})
	a := access.Attributes{User: authn.User{Name: "user7", Groups: []string{"a", "b"}}, Verb: "list", Resource: "pods", Namespace: "n"}
	b.ReportAllocs()
	for b.Loop() {
		if !z.Authorize(a).Allowed {
			b.Fatal("not allowed")
		}
	}
}
