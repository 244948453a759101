package bootstrap

import (
	"context"
	"reflect"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

func TestRolesAreUpstreams(t *testing.T) {
	want := map[string]Object{}
	for _, r := range bootstrappolicy.ClusterRoles() {
		want["role "+r.Name] = &r
	}
	for _, b := range bootstrappolicy.ClusterRoleBindings() {
		want["binding "+b.Name] = &b
	}
	ours, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range ours {
		key := "role " + o.GetName()
		if _, ok := o.(*rbacv1.ClusterRoleBinding); ok {
			key = "binding " + o.GetName()
		}
		o.GetObjectKind().SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(""))
		upstream := want[key]
		if upstream == nil {
			t.Errorf("upstream has no %s", key)
			continue
		}
		upstream.GetObjectKind().SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(""))
		if !reflect.DeepEqual(o, upstream) {
			t.Errorf("%s is %+v, upstream's is %+v", key, o, upstream)
		}
	}
	if len(ours) < 20 {
		t.Errorf("only %d objects", len(ours))
	}
}

// memory stands for the object store.
type memory struct {
	objects map[string]runtime.Object
	writes  int
}

func (m *memory) Create(_ context.Context, obj runtime.Object, _ objects.WriteOptions) (runtime.Object, error) {
	m.objects[keyOf(obj)] = obj
	m.writes++
	return obj, nil
}

func (m *memory) Mutate(_ context.Context, res *resource.Resource, _, name string, change func(runtime.Object) bool) (runtime.Object, error) {
	obj, ok := m.objects[res.Plural+"/"+name]
	if !ok {
		return nil, apierrors.NewNotFound(res.GroupResource(), name)
	}
	next := obj.DeepCopyObject()
	if change(next) {
		m.objects[keyOf(obj)] = next
		m.writes++
	}
	return next, nil
}

func keyOf(obj runtime.Object) string {
	return resource.ForObject(obj).Plural + "/" + obj.(Object).GetName()
}

func TestEnsureAddsWhatIsMissingAndNothingElse(t *testing.T) {
	m := &memory{objects: map[string]runtime.Object{}}
	ensureTwice := func(first int) {
		t.Helper()
		for _, want := range []int{first, 0} {
			m.writes = 0
			if err := Ensure(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if m.writes != want {
				t.Errorf("%d writes, want %d", m.writes, want)
			}
		}
	}
	all, err := Objects()
	if err != nil {
		t.Fatal(err)
	}
	ensureTwice(len(all))

	role := m.objects["clusterroles/system:basic-user"].(*rbacv1.ClusterRole)
	own := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"pods"}}
	role.Rules = []rbacv1.PolicyRule{own}
	binding := m.objects["clusterrolebindings/system:discovery"].(*rbacv1.ClusterRoleBinding)
	binding.Subjects = []rbacv1.Subject{{Kind: "User", Name: "extra"}}
	m.objects["clusterroles/view"].(*rbacv1.ClusterRole).AggregationRule = nil
	left := m.objects["clusterroles/system:discovery"].(*rbacv1.ClusterRole)
	left.Rules, left.Annotations = nil, map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	ensureTwice(3)
	if rules := m.objects["clusterroles/system:basic-user"].(*rbacv1.ClusterRole).Rules; len(rules) < 2 || !reflect.DeepEqual(rules[0], own) {
		t.Errorf("rules %v", rules)
	}
	if s := m.objects["clusterrolebindings/system:discovery"].(*rbacv1.ClusterRoleBinding).Subjects; len(s) != 2 {
		t.Errorf("subjects %v", s)
	}
	if r := m.objects["clusterroles/view"].(*rbacv1.ClusterRole); r.AggregationRule == nil || len(r.AggregationRule.ClusterRoleSelectors) != 1 {
		t.Errorf("aggregation %v", r.AggregationRule)
	}
	if left := m.objects["clusterroles/system:discovery"].(*rbacv1.ClusterRole); left.Rules != nil {
		t.Errorf("an object that opted out was changed: %v", left.Rules)
	}
}
