package authn

import (
	"crypto/sha256"
	"net/http"
	"strings"
)

// Tokens looks a bearer token up. ok is false for a token that is unknown, expired or revoked.
type Tokens interface {
	Lookup(token string) (u User, ok bool)
}

// AnyOf knows the tokens that one of them knows.
type AnyOf []Tokens

// Lookup implements Tokens.
func (a AnyOf) Lookup(token string) (User, bool) {
	for _, t := range a {
		if u, ok := t.Lookup(token); ok {
			return u, true
		}
	}
	return User{}, false
}

// Bearer authenticates by a token in an Authorization header: Bearer, or Basic with the token as the password (the user
// name is ignored; registry clients know no other way).
type Bearer struct{ Tokens Tokens }

// Authenticate returns ErrNone without such a header and ErrRefused for a token that Tokens does not know.
func (b Bearer) Authenticate(r *http.Request) (User, error) {
	token, ok := requestToken(r)
	if !ok {
		return User{}, ErrNone
	}
	if u, ok := b.Tokens.Lookup(token); ok {
		return u, nil
	}
	return User{}, ErrRefused
}

func requestToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		_, password, ok := r.BasicAuth()
		return password, ok
	}
	token = strings.TrimSpace(token)
	return token, token != ""
}

// StaticTokens is a fixed set of tokens. Only their SHA-256 sums are held, which also makes the look-up's timing say
// nothing about a token.
type StaticTokens struct{ users map[[sha256.Size]byte]User }

// NewStaticTokens takes token -> user. An empty token is left out: it would match a request with an empty password.
func NewStaticTokens(tokens map[string]User) *StaticTokens {
	s := &StaticTokens{users: make(map[[sha256.Size]byte]User, len(tokens))}
	for t, u := range tokens {
		if t != "" {
			s.users[sha256.Sum256([]byte(t))] = u
		}
	}
	return s
}

// Lookup implements Tokens.
func (s *StaticTokens) Lookup(token string) (User, bool) {
	u, ok := s.users[sha256.Sum256([]byte(token))]
	return u, ok
}
