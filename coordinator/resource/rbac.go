package resource

import rbacv1 "k8s.io/api/rbac/v1"

func rbac() []*Resource {
	v1 := rbacv1.SchemeGroupVersion
	return []*Resource{
		kind[rbacv1.Role, rbacv1.RoleList](v1.WithKind("Role"), "roles", Resource{Namespaced: true}),
		kind[rbacv1.RoleBinding, rbacv1.RoleBindingList](v1.WithKind("RoleBinding"), "rolebindings", Resource{Namespaced: true}),
		kind[rbacv1.ClusterRole, rbacv1.ClusterRoleList](v1.WithKind("ClusterRole"), "clusterroles", Resource{}),
		kind[rbacv1.ClusterRoleBinding, rbacv1.ClusterRoleBindingList](v1.WithKind("ClusterRoleBinding"), "clusterrolebindings", Resource{}),
	}
}
