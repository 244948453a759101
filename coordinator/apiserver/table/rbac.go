package table

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

const rbac = rbacv1.GroupName

// dated is upstream's layout of kinds that have none of their own there.
var dated = Layout{columns: []metav1.TableColumnDefinition{
	name, {Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}, cells: func(obj runtime.Object, _ time.Time) []any {
	m, err := meta.Accessor(obj)
	if err != nil {
		return []any{unknown, unknown}
	}
	return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}}

var roleBindingLayout = layout(func(b *rbacv1.RoleBinding, now time.Time) []any {
	return bindingCells(b, b.RoleRef, b.Subjects, now)
}, bindingColumns("roleBinding", rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"])...)

var clusterRoleBindingLayout = layout(func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
	return bindingCells(b, b.RoleRef, b.Subjects, now)
}, bindingColumns("clusterRoleBinding", rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"])...)

func bindingColumns(kind, role string) []metav1.TableColumnDefinition {
	return []metav1.TableColumnDefinition{
		name, text("Role", role), age,
		wide(text("Users", "Users in the "+kind)),
		wide(text("Groups", "Groups in the "+kind)),
		wide(text("ServiceAccounts", "ServiceAccounts in the "+kind)),
	}
}

func bindingCells(m metav1.Object, role rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{
		m.GetName(), role.Kind + "/" + role.Name, since(m.GetCreationTimestamp(), now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}
