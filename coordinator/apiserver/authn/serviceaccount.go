package authn

import "strings"

// The names of ServiceAccounts as users.
const (
	serviceAccountPrefix       = "system:serviceaccount:"
	GroupServiceAccounts       = "system:serviceaccounts"
	serviceAccountsGroupPrefix = GroupServiceAccounts + ":"
)

// ServiceAccountName is the user that a ServiceAccount's tokens name.
func ServiceAccountName(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// SplitServiceAccountName is the reverse; ok is false for a user that is no ServiceAccount.
func SplitServiceAccountName(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// ServiceAccount is the user of a ServiceAccount, with its groups.
func ServiceAccount(namespace, name, uid string) User {
	return User{
		Name: ServiceAccountName(namespace, name), UID: uid,
		Groups: []string{GroupServiceAccounts, serviceAccountsGroupPrefix + namespace},
	}
}
