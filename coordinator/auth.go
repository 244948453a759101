package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/fleet"
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
	access    *rbac.Authorizer
	logins    *logins
}

var errStarting = errors.New("the coordinator is starting")

// open lets nodes and users in from now on. accounts knows the tokens of ServiceAccounts.
func (g *gatekeeper) open(e *fleet.Enrolment, by *rbac.Authorizer, accounts authn.Tokens) {
	g.opened.Store(&opened{enrolment: e, access: by, logins: newLogins(authn.AnyOf{g.tokens, accounts})})
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
	events := automation.Hearing(o.access, user, func() []string { return o.access.Namespaces(user) })
	return embedded.UserGrant{Name: user.Name, ID: id, API: true, Events: events, State: user.In(authn.GroupMasters)}
}
