package clusterrole

import (
	"fmt"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

func role(name, label string, resources ...string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"to": label}}}
	for _, plural := range resources {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{plural}})
	}
	return r
}

func gathering(name, label string, from ...string) *rbacv1.ClusterRole {
	r := role(name, label)
	r.AggregationRule = &rbacv1.AggregationRule{}
	for _, value := range from {
		r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: map[string]string{"to": value}})
	}
	return r
}

// settle plans until nothing changes and returns the rules' resources by role.
func settle(t *testing.T, roles ...*rbacv1.ClusterRole) map[string]string {
	t.Helper()
	objects := make([]controller.Object, 0, len(roles))
	for _, r := range roles {
		objects = append(objects, r)
	}
	for range 10 {
		changes, _ := plan(&controller.Snapshot{Others: map[schema.GroupKind][]controller.Object{kind: objects}}, time.Time{})
		if len(changes) == 0 {
			out := map[string]string{}
			for _, o := range objects {
				r, _ := o.(*rbacv1.ClusterRole)
				for _, rule := range r.Rules {
					out[r.Name] += fmt.Sprint(rule.Resources)
				}
			}
			return out
		}
		for _, c := range changes {
			next, ok := c.Object.(*rbacv1.ClusterRole)
			if !ok || c.Verb != controller.Update {
				t.Fatalf("change %+v", c)
			}
			for n, o := range objects {
				if o.GetName() == next.Name {
					objects[n] = next
				}
			}
		}
	}
	t.Fatal("the plan does not come to rest")
	return nil
}

func TestAggregation(t *testing.T) {
	tests := []struct {
		name  string
		roles []*rbacv1.ClusterRole
		want  map[string]string
	}{
		{"by label, in order, each once", []*rbacv1.ClusterRole{
			gathering("all", "", "x"), role("b", "x", "pods", "nodes"), role("c", "x", "nodes", "secrets"), role("d", "y", "jobs"),
		}, map[string]string{"all": "[pods][nodes][secrets]", "b": "[pods][nodes]", "c": "[nodes][secrets]", "d": "[jobs]"}},
		{"selector by selector", []*rbacv1.ClusterRole{
			gathering("all", "", "y", "x"), role("b", "x", "pods"), role("c", "y", "jobs"),
		}, map[string]string{"all": "[jobs][pods]", "b": "[pods]", "c": "[jobs]"}},
		{"of gathered roles, which may match themselves", []*rbacv1.ClusterRole{
			gathering("admin", "", "admin"), gathering("edit", "admin", "edit", "admin"), role("own", "edit", "pods"),
		}, map[string]string{"admin": "[pods]", "edit": "[pods]", "own": "[pods]"}},
		{"what matches no more goes", []*rbacv1.ClusterRole{func() *rbacv1.ClusterRole {
			r := gathering("all", "", "x")
			r.Rules = role("", "", "pods").Rules
			return r
		}()}, map[string]string{}},
		{"a selector that cannot be read changes nothing", []*rbacv1.ClusterRole{func() *rbacv1.ClusterRole {
			r := gathering("all", "", "x")
			r.Rules = role("", "", "pods").Rules
			r.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "k", Operator: "Odd"}}
			return r
		}()}, map[string]string{"all": "[pods]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := settle(t, tt.roles...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
