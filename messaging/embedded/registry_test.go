package embedded_test

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// registry is the least that an Authenticator does: join tokens that are used once, one key per node.
type registry struct {
	mu     sync.Mutex
	tokens map[string]string // name to secret
	keys   map[string]string // node to public key
	users  map[string]embedded.UserGrant
	ids    map[string]string // of users, once they have logged in
	open   bool              // accept every node
}

func newRegistry() *registry {
	return &registry{
		tokens: map[string]string{}, keys: map[string]string{}, users: map[string]embedded.UserGrant{}, ids: map[string]string{}, open: true,
	}
}

func (r *registry) Node(_ context.Context, l embedded.NodeLogin) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch key, known := r.keys[l.Node]; {
	case r.open, known && key == l.PublicKey:
		return nil
	case known:
		return errors.New("another key")
	case l.Secret == "" || r.tokens[l.TokenName] != l.Secret:
		return errors.New("no such token")
	}
	delete(r.tokens, l.TokenName)
	r.keys[l.Node] = l.PublicKey
	return nil
}

func (r *registry) User(_ context.Context, login embedded.UserLogin) (embedded.UserGrant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	who := login.Token
	if login.Certificate != nil {
		who = login.Certificate.Subject.CommonName
	}
	g, ok := r.users[who]
	if !ok {
		return g, errors.New("no such user")
	}
	if r.ids[g.Name] == "" {
		r.ids[g.Name] = embedded.NewUserID(g.Name)
	}
	g.ID = r.ids[g.Name]
	return g, nil
}

func (r *registry) Holds(grant embedded.UserGrant) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.users {
		if g.Name == grant.Name && slices.Equal(g.Events, grant.Events) {
			return true
		}
	}
	return false
}

func (r *registry) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// node are options to connect a node with a new key over TCP.
func node(t *testing.T, name string, s *embedded.Server) messaging.ConnectOptions {
	t.Helper()
	seed, err := messaging.NewSeed()
	if err != nil {
		t.Fatal(err)
	}
	return messaging.ConnectOptions{URLs: []string{s.ClientURL()}, Node: name, KeySeed: seed}
}

func serverTLS(a *messaging.Authority, now time.Time) (*tls.Config, error) {
	cert, err := a.Server("nats", []string{"127.0.0.1"}, now)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, err
}

// heard collects what OnConnect and OnDisconnect tell.
type heard chan string

func (h heard) options(o embedded.Options) embedded.Options {
	o.OnConnect = func(node string) { h <- "+" + node }
	o.OnDisconnect = func(node string) { h <- "-" + node }
	return o
}

func (h heard) want(t *testing.T, what string) {
	t.Helper()
	select {
	case got := <-h:
		if got != what {
			t.Fatalf("heard %s, want %s", got, what)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("not heard: %s", what)
	}
}

func TestJoin(t *testing.T) {
	r := newRegistry()
	r.open = false
	token, err := messaging.NewJoinToken(hash(t), "site-a")
	if err != nil {
		t.Fatal(err)
	}
	r.tokens[token.Name] = token.Secret
	s := start(t, embedded.Options{Auth: r})

	n1 := node(t, "n1", s)
	refused(t, "no token", n1)
	n1.Join = token
	n1.Join.Secret = messaging.HashSecret("another")
	refused(t, "wrong secret", n1)
	n1.Join = token
	connect(t, n1)
	n1.Join = messaging.JoinToken{}
	connect(t, n1) // by key alone

	n2 := node(t, "n2", s)
	n2.Join = token
	refused(t, "used token", n2)
	thief := node(t, "n1", s)
	refused(t, "another key for an enrolled name", thief)
	r.change(func() { r.tokens["more"] = token.Secret })
	thief.Join = token
	thief.Join.Name = "more"
	refused(t, "fresh token for an enrolled name", thief)
}

func hash(t *testing.T) string {
	t.Helper()
	a, err := messaging.OpenAuthority(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a.Hash()
}

func refused(t *testing.T, what string, o messaging.ConnectOptions) {
	t.Helper()
	if _, err := try(t, o); err == nil {
		t.Errorf("%s: accepted", what)
	}
}

func TestKeyRotation(t *testing.T) {
	r := newRegistry()
	s := start(t, embedded.Options{Auth: r})
	old, fresh := node(t, "n1", s), node(t, "n1", s)
	r.change(func() { r.open, r.keys["n1"] = false, public(t, old.KeySeed) })
	connect(t, old)
	refused(t, "key to come", fresh)
	r.change(func() { r.keys["n1"] = public(t, fresh.KeySeed) })
	connect(t, fresh)
	refused(t, "old key", old)
}

func public(t *testing.T, seed []byte) string {
	t.Helper()
	signer, err := messaging.NewSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	key, err := signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A revoked node is thrown out and stays out.
func TestRevoke(t *testing.T) {
	r, h := newRegistry(), make(heard, 10)
	s := start(t, h.options(embedded.Options{Auth: r}))
	o := node(t, "n1", s)
	nc := connect(t, o)
	h.want(t, "+n1")
	connect(t, node(t, "n2", s))
	h.want(t, "+n2")
	closed := make(chan struct{})
	nc.SetDisconnectErrHandler(func(*nats.Conn, error) { close(closed) })
	r.change(func() { r.open = false })
	if n := s.DisconnectNode("n1"); n != 1 {
		t.Fatalf("%d connections ended, want 1", n)
	}
	<-closed
	h.want(t, "-n1")
	if s.Connected("n1") || !s.Connected("n2") {
		t.Fatal("n1 should be gone and n2 be there")
	}
	refused(t, "revoked node", o)
	if n := s.DisconnectNode("n1"); n != 0 {
		t.Fatalf("%d connections ended, want none", n)
	}
}

func TestConnectionsAreCountedPerNode(t *testing.T) {
	h := make(heard, 10)
	s := start(t, h.options(embedded.Options{Auth: newRegistry()}))
	first := connect(t, node(t, "n1", s))
	h.want(t, "+n1")
	second := connect(t, node(t, "n1", s))
	first.Close()
	third := connect(t, node(t, "n2", s))
	h.want(t, "+n2") // nothing was said of n1 meanwhile
	second.Close()
	h.want(t, "-n1")
	third.Close()
	h.want(t, "-n2")
}
