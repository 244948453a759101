package coordinator

import (
	"context"
	"errors"
	"sync/atomic"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/fleet"
	"skerry.dev/skerry/messaging/embedded"
)

// gatekeeper decides who may connect to NATS. The server starts before the store that says who is enrolled, so until open
// is called nobody but the coordinator itself gets in; clients try again.
type gatekeeper struct {
	enrolment atomic.Pointer[fleet.Enrolment]
	tokens    authn.Tokens
}

var errStarting = errors.New("the coordinator is starting")

func (g *gatekeeper) open(e *fleet.Enrolment) { g.enrolment.Store(e) }

// Node is embedded.Authenticator's.
func (g *gatekeeper) Node(ctx context.Context, login embedded.NodeLogin) error {
	e := g.enrolment.Load()
	if e == nil {
		return errStarting
	}
	return e.Node(ctx, login)
}

// User is embedded.Authenticator's. Automation shows the same bearer token as to the HTTP API.
func (g *gatekeeper) User(_ context.Context, token string) (embedded.UserGrant, error) {
	user, ok := g.tokens.Lookup(token)
	if !ok {
		return embedded.UserGrant{}, errors.New("token is unknown")
	}
	master := user.In(authn.GroupMasters)
	return embedded.UserGrant{Name: user.Name, API: master, Events: master, State: master}, nil
}
