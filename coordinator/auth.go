package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/fleet"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/embedded"
)

// gatekeeper decides who may connect to NATS. The server starts before the store that says who is enrolled and who may do
// what, so until open is called nobody but the coordinator itself gets in; clients try again.
type gatekeeper struct {
	tokens authn.Tokens // those that need no store
	opened atomic.Pointer[opened]
}

// opened is a gatekeeper's knowledge of the store.
type opened struct {
	enrolment *fleet.Enrolment
	view      *view.View
	access    access.Authorizer
	logins    *logins
}

var errStarting = errors.New("the coordinator is starting")

// open lets nodes and users in from now on. accounts knows the tokens of ServiceAccounts.
func (g *gatekeeper) open(e *fleet.Enrolment, v *view.View, by access.Authorizer, accounts authn.Tokens) {
	g.opened.Store(&opened{enrolment: e, view: v, access: by, logins: newLogins(authn.AnyOf{g.tokens, accounts})})
}

// Node is embedded.Authenticator's.
func (g *gatekeeper) Node(ctx context.Context, login embedded.NodeLogin) error {
	o := g.opened.Load()
	if o == nil {
		return errStarting
	}
	return o.enrolment.Node(ctx, login)
}

// User is embedded.Authenticator's. Automation shows the same certificates and bearer tokens as to the HTTP API.
func (g *gatekeeper) User(_ context.Context, login embedded.UserLogin) (embedded.UserGrant, error) {
	o := g.opened.Load()
	if o == nil {
		return embedded.UserGrant{}, errStarting
	}
	id, user, err := o.logins.add(login)
	if err != nil {
		return embedded.UserGrant{}, err
	}
	return o.grant(id, user), nil
}

// Holds is embedded.Authenticator's.
func (g *gatekeeper) Holds(grant embedded.UserGrant) bool {
	user, ok := g.Caller(grant.ID)
	if !ok {
		return false
	}
	now := g.opened.Load().grant(grant.ID, user)
	return now.State == grant.State && slices.Equal(now.Events, grant.Events)
}

// Caller is automation.Callers'.
func (g *gatekeeper) Caller(id string) (authn.User, bool) {
	o := g.opened.Load()
	if o == nil {
		return authn.User{}, false
	}
	return o.logins.user(id)
}

// grant is what a user may do: ask for anything, since each answer asks in turn whether the user may; hear changes of what it
// may watch; and read the streams themselves if it may do everything, since they cannot be read in part.
func (o *opened) grant(id string, user authn.User) embedded.UserGrant {
	events := automation.Hearing(o.access, user, func() []string { return o.boundIn(user) })
	return embedded.UserGrant{Name: user.Name, ID: id, API: true, Events: events, State: user.In(authn.GroupMasters)}
}

// boundIn are the namespaces with a role binding that names the user or one of its groups, sorted.
func (o *opened) boundIn(user authn.User) (namespaces []string) {
	items, _ := o.view.List(resource.ForObject((*rbacv1.RoleBinding)(nil)), "")
	for _, item := range items {
		b, ok := item.Object.(*rbacv1.RoleBinding)
		if ok && slices.ContainsFunc(b.Subjects, func(s rbacv1.Subject) bool { return names(s, b.Namespace, user) }) {
			namespaces = append(namespaces, b.Namespace)
		}
	}
	slices.Sort(namespaces)
	namespaces = slices.Compact(namespaces)
	return slices.DeleteFunc(namespaces, func(n string) bool {
		_, there := o.view.Get(resource.ForObject((*corev1.Namespace)(nil)), "", n)
		return !there
	})
}

// names says whether the subject of a binding is the user or one of its groups.
func names(s rbacv1.Subject, namespace string, user authn.User) bool {
	switch s.Kind {
	case rbacv1.UserKind:
		return s.Name == user.Name
	case rbacv1.GroupKind:
		return user.In(s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		return user.Name == authn.ServiceAccountName(namespace, s.Name)
	}
	return false
}
