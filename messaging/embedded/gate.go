package embedded

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// NodeLogin is what a node says of itself. That it holds PublicKey's private key has been checked.
type NodeLogin struct {
	Node      string
	PublicKey string // user nkey, "U..."
	TokenName string // of the join token; empty when the node believes that it is enrolled
	Secret    string // of the join token
}

// Authenticator decides who may connect. Its methods are called for many connections at once and should answer within
// a few seconds.
type Authenticator interface {
	// Node returns nil to accept the login as that node. An error is logged; the node learns no more than a no.
	Node(ctx context.Context, login NodeLogin) error
	// User returns what an automation user may do.
	User(ctx context.Context, login UserLogin) (UserGrant, error)
	// Holds says whether User would still answer with this grant. The connection of one that does not hold is ended; it can
	// log in again, for what it may do then.
	Holds(grant UserGrant) bool
}

// UserLogin is what an automation user shows: a certificate, a token or both.
type UserLogin struct {
	Token       string            // bearer token, given as token or password; whatever the user name
	Certificate *x509.Certificate // verified by Options.TLS; nil for none
}

const (
	// authTime bounds a decision; the server gives up on the connection a little later.
	authTime = 8 * time.Second
	// sweepInterval is how soon the end of a connection is noticed.
	sweepInterval = 500 * time.Millisecond
	// reviewInterval is how soon a user's connection ends when what was granted does not hold any more.
	reviewInterval = 2 * time.Second
)

// gate decides who comes in, and remembers which connections are whose.
type gate struct {
	auth         Authenticator
	log          *slog.Logger
	secret       string // the coordinator's
	server       *server.Server
	onConnect    func(string)
	onDisconnect func(string)
	changed      chan struct{} // one slot: a login wakes the sweep

	mu    sync.Mutex
	conns map[uint64]nodeConn
	users map[uint64]UserGrant
}

type nodeConn struct {
	node     string
	accepted bool // false while the authenticator thinks
}

func newGate(o Options) *gate {
	return &gate{
		auth: o.Auth, log: o.Logger, secret: rand.Text() + rand.Text(), onConnect: o.OnConnect, onDisconnect: o.OnDisconnect,
		changed: make(chan struct{}, 1), conns: make(map[uint64]nodeConn), users: make(map[uint64]UserGrant),
	}
}

// Check implements server.Authentication; it runs on the connection's goroutine.
func (g *gate) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	user, err := g.identify(c)
	if err != nil {
		g.log.Warn("login refused", "name", c.GetOpts().Name, "address", address(c), "err", err)
		return false
	}
	c.RegisterUser(user)
	return true
}

func address(c server.ClientAuthentication) string {
	if a := c.RemoteAddress(); a != nil {
		return a.String()
	}
	return "in process"
}

func (g *gate) identify(c server.ClientAuthentication) (*server.User, error) {
	ctx, cancel := context.WithTimeout(context.Background(), authTime) //nolint:forbidigo // the server's call carries none
	defer cancel()
	opts := c.GetOpts()
	token := opts.Token
	if token == "" {
		token = opts.Password
	}
	switch {
	case opts.Nkey != "":
		return g.node(ctx, c, opts)
	case token == "" && certificate(c) == nil:
		return nil, errors.New("neither key nor certificate nor token")
	case subtle.ConstantTimeCompare([]byte(token), []byte(g.secret)) == 1:
		return g.coordinator(c)
	default:
		return g.user(ctx, c, UserLogin{Token: token, Certificate: certificate(c)})
	}
}

// coordinator accepts the secret from this process only.
func (g *gate) coordinator(c server.ClientAuthentication) (*server.User, error) {
	if a := c.RemoteAddress(); a != nil && a.Network() != "pipe" {
		return nil, errors.New("the coordinator's secret came over the network")
	}
	return g.member("coordinator", coreAccount, nil)
}

func (g *gate) node(ctx context.Context, c server.ClientAuthentication, opts *server.ClientOpts) (*server.User, error) {
	login := NodeLogin{Node: opts.Name, PublicKey: opts.Nkey}
	login.TokenName, login.Secret, _ = strings.Cut(opts.Token, ".")
	if err := checkNonce(opts, c.GetNonce()); err != nil {
		return nil, err
	}
	if login.Node == "" || len(login.Node) > 253 {
		return nil, errors.New("a node needs a name of 1 to 253 bytes")
	}
	if g.auth == nil {
		return nil, errors.New("no authenticator")
	}
	// It is remembered before it is accepted: a node that is revoked meanwhile is kicked, whichever comes first.
	g.remember(c.GetID(), nodeConn{node: login.Node})
	if err := g.auth.Node(ctx, login); err != nil {
		g.forget(c.GetID())
		return nil, fmt.Errorf("node %s: %w", login.Node, err)
	}
	user, err := g.member(login.Node, nodesAccount, nodePermissions(login.Node))
	if err != nil {
		g.forget(c.GetID())
		return nil, err
	}
	g.remember(c.GetID(), nodeConn{node: login.Node, accepted: true})
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return user, nil
}

func (g *gate) member(name, account string, p *server.Permissions) (*server.User, error) {
	a, err := g.server.LookupAccount(account)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account, err)
	}
	return &server.User{Username: name, Account: a, Permissions: p}, nil
}

// checkNonce verifies that the client signed the server's nonce with the key it names.
func checkNonce(opts *server.ClientOpts, nonce []byte) error {
	pair, err := nkeys.FromPublicKey(opts.Nkey)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(opts.Nkey) || len(nonce) == 0 {
		return errors.New("want a user nkey and a nonce")
	}
	sig, err := base64.RawURLEncoding.DecodeString(opts.Sig)
	if err != nil {
		return fmt.Errorf("signature of the nonce: %w", err)
	}
	if err := pair.Verify(nonce, sig); err != nil {
		return fmt.Errorf("signature of the nonce: %w", err)
	}
	return nil
}

func (g *gate) remember(id uint64, c nodeConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[id] = c
}

func (g *gate) forget(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, id)
}

func (g *gate) kick(node string) int {
	kicked := 0
	for _, id := range g.ids(node) {
		if g.server.DisconnectClientByID(id) == nil {
			kicked++
		}
	}
	return kicked
}

func (g *gate) ids(node string) []uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []uint64
	for id, c := range g.conns {
		if c.node == node {
			ids = append(ids, id)
		}
	}
	return ids
}

func (g *gate) connected(node string) bool {
	for _, id := range g.ids(node) {
		if g.server.GetClient(id) != nil {
			return true
		}
	}
	return false
}

// run tells of nodes that come and go until ctx ends. Looking at each connection twice a second costs a map access each
// and, unlike the server's advisories, cannot be missed.
func (g *gate) run(ctx context.Context) error {
	tick, review := time.NewTicker(sweepInterval), time.NewTicker(reviewInterval)
	defer tick.Stop()
	defer review.Stop()
	here := make(map[string]bool)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-review.C:
			g.review()
			continue
		case <-tick.C:
		case <-g.changed:
		}
		here = g.tell(here, g.sweep())
	}
}

// sweep forgets connections that have ended and returns the nodes that have one.
func (g *gate) sweep() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	here := make(map[string]bool)
	for id, c := range g.conns {
		switch {
		case !c.accepted: // its own goroutine decides
		case g.server.GetClient(id) == nil:
			delete(g.conns, id)
		default:
			here[c.node] = true
		}
	}
	return here
}

func (g *gate) tell(before, now map[string]bool) map[string]bool {
	for node := range before {
		if !now[node] && g.onDisconnect != nil {
			g.onDisconnect(node)
		}
	}
	for node := range now {
		if !before[node] && g.onConnect != nil {
			g.onConnect(node)
		}
	}
	return now
}
