package rbac

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"skerry.dev/skerry/coordinator/access"
)

// allows reports whether one rule lets a user do what a says.
func allows(rule *rbacv1.PolicyRule, a *access.Attributes) bool {
	if !contains(rule.Verbs, a.Verb) {
		return false
	}
	if a.Path != "" {
		return matchesPath(rule.NonResourceURLs, a.Path)
	}
	return contains(rule.APIGroups, a.Group) && matchesResource(rule.Resources, a.Resource, a.Subresource) &&
		(len(rule.ResourceNames) == 0 || slices.Contains(rule.ResourceNames, a.Name))
}

// contains reports whether a list of verbs or groups has one, or the star that stands for all.
func contains(list []string, one string) bool {
	for _, s := range list {
		if s == "*" || s == one {
			return true
		}
	}
	return false
}

// matchesResource knows resource, resource/subresource and */subresource.
func matchesResource(list []string, resource, subresource string) bool {
	for _, s := range list {
		if s == "*" || subresource == "" && s == resource {
			return true
		}
		if head, ok := strings.CutSuffix(s, subresource); ok && subresource != "" && (under(head, resource) || head == "*/") {
			return true
		}
	}
	return false
}

// under reports whether head is the resource and a slash.
func under(head, resource string) bool {
	return len(head) == len(resource)+1 && strings.HasPrefix(head, resource) && strings.HasSuffix(head, "/")
}

// matchesPath knows exact paths, and prefixes that end in a star.
func matchesPath(list []string, path string) bool {
	for _, s := range list {
		if s == "*" || s == path || strings.HasSuffix(s, "*") && strings.HasPrefix(path, strings.TrimRight(s, "*")) {
			return true
		}
	}
	return false
}
