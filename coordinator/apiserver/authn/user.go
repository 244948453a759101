// Package authn says who a request comes from: a client certificate of the cluster's CA, a bearer token, basic auth whose
// password is a token, or the session cookie of the web page.
//
// It sits below coordinator/apiserver, which decides what a user may do. It never writes a response and never logs a
// token.
package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

// Groups that every request has besides those its credential names.
const (
	GroupAuthenticated   = "system:authenticated"
	GroupUnauthenticated = "system:unauthenticated"
	GroupMasters         = "system:masters"
	UserAnonymous        = "system:anonymous"
)

// User is who sent a request.
type User struct {
	Name   string
	UID    string // empty when the credential has none
	Groups []string
	Extra  map[string][]string
	// Cookie says that the credential was the web page's session cookie: the browser sends it by itself, so the request
	// may be somebody else's idea.
	Cookie bool
}

// In reports whether the user is in the group.
func (u User) In(group string) bool { return slices.Contains(u.Groups, group) }

// Anonymous is the user of a request without credentials.
func Anonymous() User {
	return User{Name: UserAnonymous, Groups: []string{GroupUnauthenticated}}
}

// ErrNone says that a request carries no credential of the kind that an Authenticator knows.
var ErrNone = errors.New("no credentials")

// ErrRefused says that a request carries a credential that is wrong, expired or revoked. Nobody else is asked.
var ErrRefused = errors.New("credentials refused")

// Authenticator finds the user of a request. It returns ErrNone when it found nothing to judge, and an error that is
// ErrRefused when it judged against. Implementations are safe for concurrent use.
type Authenticator interface {
	Authenticate(r *http.Request) (User, error)
}

// Union asks one after the other until one finds a credential.
type Union []Authenticator

// Authenticate returns the first answer that is not ErrNone, with the group system:authenticated added.
func (u Union) Authenticate(r *http.Request) (User, error) {
	for _, a := range u {
		user, err := a.Authenticate(r)
		if errors.Is(err, ErrNone) {
			continue
		}
		if err != nil {
			return User{}, err
		}
		if !user.In(GroupAuthenticated) {
			user.Groups = append(slices.Clone(user.Groups), GroupAuthenticated)
		}
		return user, nil
	}
	return User{}, ErrNone
}

type contextKey struct{}

// NewContext returns a context that carries the user.
func NewContext(ctx context.Context, u User) context.Context {
	return context.WithValue(ctx, contextKey{}, u)
}

// FromContext returns the user of a request's context, Anonymous when there is none.
func FromContext(ctx context.Context) User {
	if u, ok := ctx.Value(contextKey{}).(User); ok {
		return u
	}
	return Anonymous()
}
