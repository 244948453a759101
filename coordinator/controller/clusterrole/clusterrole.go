// Package clusterrole fills in the rules of aggregated ClusterRoles: those of every ClusterRole that their selectors match,
// so that a new kind's rights reach admin, edit and view by a label. access/rbac evaluates what is written here.
package clusterrole

import (
	"slices"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

var kind = schema.GroupKind{Group: rbacv1.GroupName, Kind: "ClusterRole"}

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{Name: "clusterrole-aggregation", Rest: []schema.GroupKind{kind}, Plan: plan}
}

func plan(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
	var changes []controller.Change
	for _, obj := range s.Others[kind] {
		role, ok := obj.(*rbacv1.ClusterRole)
		if !ok || role.AggregationRule == nil {
			continue
		}
		rules, ok := gather(role, s.Others[kind])
		if !ok || equality.Semantic.DeepEqual(rules, role.Rules) {
			continue
		}
		next := role.DeepCopy()
		next.Rules = rules
		changes = append(changes, controller.Change{Verb: controller.Update, Object: next})
	}
	return changes, time.Time{}
}

// gather joins the rules of the roles that the selectors match, selector by selector, each rule once. A selector that
// cannot be read leaves the role as it is: ok is false.
func gather(into *rbacv1.ClusterRole, roles []controller.Object) (rules []rbacv1.PolicyRule, ok bool) {
	for i := range into.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&into.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, false
		}
		for _, obj := range roles { // sorted by name
			role, isRole := obj.(*rbacv1.ClusterRole)
			if isRole && role.Name != into.Name && selector.Matches(labels.Set(role.Labels)) {
				rules = addMissing(rules, role.Rules)
			}
		}
	}
	return rules, true
}

func addMissing(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for i := range more {
		if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, more[i]) }) {
			rules = append(rules, more[i])
		}
	}
	return rules
}
