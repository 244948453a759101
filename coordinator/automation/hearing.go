package automation

import (
	"slices"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/messaging"
)

// maxHeard bounds the subjects that one user is let hear, since the server holds them for each connection.
const maxHeard = 2048

// Hearing are the subjects of changes that a user may hear: those of the kinds that it may watch, everywhere or in one of
// the namespaces. Who may hear anything also hears that changes may be missing, which tells of no object. The order is that
// of the namespaces; what goes beyond maxHeard is left out.
func Hearing(by access.Authorizer, user authn.User, namespaces func() []string) (subjects []string) {
	if watches(by, user, "*", "*", "") {
		return []string{messaging.EventAll}
	}
	var some []kind // that may not be watched everywhere
	for _, k := range kinds() {
		switch {
		case watches(by, user, k.group, k.plural, ""):
			subjects = append(subjects, messaging.EventSubjects("*", k.plural))
		case k.namespaced:
			some = append(some, k)
		}
	}
	for _, n := range namespaces() {
		subjects = append(subjects, inNamespace(by, user, n, some)...)
	}
	if len(subjects) > maxHeard {
		subjects = subjects[:maxHeard]
	}
	if len(subjects) > 0 {
		subjects = append(subjects, messaging.EventSubjects("_", resyncKind))
	}
	return subjects
}

// kind is one whose changes are told.
type kind struct {
	group, plural string
	namespaced    bool
}

// kinds are all whose changes are told, each once.
func kinds() (all []kind) {
	for _, s := range served() {
		k := kind{s.res.GVK.Group, s.res.Plural, s.res.Namespaced}
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all
}

func inNamespace(by access.Authorizer, user authn.User, namespace string, some []kind) (subjects []string) {
	if watches(by, user, "*", "*", namespace) {
		return []string{messaging.EventSubjects(messaging.Token(namespace), "*")}
	}
	for _, k := range some {
		if watches(by, user, k.group, k.plural, namespace) {
			subjects = append(subjects, messaging.EventSubjects(messaging.Token(namespace), k.plural))
		}
	}
	return subjects
}

func watches(by access.Authorizer, user authn.User, group, plural, namespace string) bool {
	return by.Authorize(access.Attributes{User: user, Verb: "watch", Group: group, Resource: plural, Namespace: namespace}).Allowed
}
