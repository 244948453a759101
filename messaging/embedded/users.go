package embedded

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/nats-io/nats-server/v2/server"
)

// certificate is the client's, if it has shown one that the listener's TLS settings verified.
func certificate(c server.ClientAuthentication) *x509.Certificate {
	state := c.GetTLSConnectionState()
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}

// NewUserID makes an ID for the grants of one login: a name, and a secret that nobody can guess.
//
// The ID is all that tells one user's requests from another's. The server does set the header that carries it, but it ends
// header lines at CRLF and the client library at LF, so that a client can end the headers, as we read them, before the
// server's own and write one in its place. What it cannot do is to write another login's ID, which only the server and the
// coordinator know.
func NewUserID(name string) string {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return name + "/" + base64.RawURLEncoding.EncodeToString(secret)
}

const secretBytes = 32

// secretPart of an ID; the server writes IDs into its log.
var secretPart = regexp.MustCompile(`/[A-Za-z0-9_-]{43}`)

func (g *gate) user(ctx context.Context, c server.ClientAuthentication, login UserLogin) (*server.User, error) {
	if g.auth == nil {
		return nil, errors.New("no authenticator")
	}
	grant, err := g.auth.User(ctx, login)
	if err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	if !secretPart.MatchString(grant.ID) { // without any, the server would tell what the client calls itself
		return nil, fmt.Errorf("user %s: the grant's ID is not of NewUserID", grant.Name)
	}
	g.mu.Lock()
	g.users[c.GetID()] = grant
	g.mu.Unlock()
	return g.member(grant.ID, usersAccount, userPermissions(grant))
}

// review ends the connections of users whose grants do not hold any more, and forgets those that have ended.
func (g *gate) review() {
	for id, grant := range g.grants() {
		switch {
		case g.server.GetClient(id) == nil:
			g.mu.Lock()
			delete(g.users, id)
			g.mu.Unlock()
		case !g.auth.Holds(grant):
			g.log.Info("login ended: what was granted does not hold any more", "user", grant.Name)
			_ = g.server.DisconnectClientByID(id) // gone by itself meanwhile, or else again at the next review
		}
	}
}

func (g *gate) grants() map[uint64]UserGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.users)
}
