// Package natstest offers tests a real NATS server, in virtual time or in real time, and links to it that can be cut and
// healed. For tests only.
package natstest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// CoordinatorLink is the name of the coordinator's link, for Cut and Heal.
const CoordinatorLink = "coordinator"

// Net is a server and the links to it. Its methods may be called concurrently.
type Net struct {
	// Server is the server itself.
	Server *embedded.Server
	// Storage is what streams must use: memory in a bubble, where file storage would age messages by the real clock.
	Storage jetstream.StorageType

	t  testing.TB
	mu sync.Mutex
	// auth decides about logins; nil accepts every node and grants every user everything.
	auth  embedded.Authenticator
	cut   map[string]bool
	links map[*link]struct{}
}

// Bubble runs f in a testing/synctest bubble with a server: time.Sleep takes no time, an hour passes in about a second.
// Assert invariants, never the order of events: the order of goroutines is not fixed. It must not be called from a
// parallel test.
//
// It hides the traps of such a bubble: the server's clock would be made inside and stop time; timers that nats.go pools
// would reach from one bubble to the next; file storage would age by the real clock; sockets would never be idle.
func Bubble(t *testing.T, f func(t *testing.T, n *Net)) {
	t.Helper()
	release := embedded.HoldClock()
	defer release()
	emptyPools()
	defer emptyPools()
	folder := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n := start(t, embedded.Options{StoreDir: folder, Port: -1})
		n.Storage = jetstream.MemoryStorage
		f(t, n)
	})
}

// emptyPools collects garbage twice, which empties each sync.Pool: nats.go keeps timers in one, and a timer may be used
// on one side of a bubble only.
func emptyPools() {
	runtime.GC()
	runtime.GC()
}

// Server runs a server in real time with a listener on loopback and files in t.TempDir, until the test ends. It does not
// sync each write, which only a power cut could tell.
func Server(t testing.TB) *Net {
	t.Helper()
	return start(t, embedded.Options{StoreDir: t.TempDir(), NoSync: true})
}

// Durable is Server with each write synced to disk, as in production. For benchmarks.
func Durable(t testing.TB) *Net {
	t.Helper()
	return start(t, embedded.Options{StoreDir: t.TempDir()})
}

func start(t testing.TB, o embedded.Options) *Net {
	t.Helper()
	n := &Net{t: t, cut: make(map[string]bool), links: make(map[*link]struct{})}
	o.Auth, o.Logger = n, slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	server, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Server = server
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // t.Context ends before clean-ups that still use the server
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
		n.reset()
	})
	select {
	case <-server.Ready():
	case err := <-ended:
		ended <- err
		t.Fatalf("server: %v", err)
	}
	return n
}

// SetAuth makes a decide about logins instead of accepting every node.
func (n *Net) SetAuth(a embedded.Authenticator) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.auth = a
}

// Node implements embedded.Authenticator.
func (n *Net) Node(ctx context.Context, login embedded.NodeLogin) error {
	if a := n.decider(); a != nil {
		return a.Node(ctx, login)
	}
	return nil
}

// User implements embedded.Authenticator.
func (n *Net) User(ctx context.Context, login embedded.UserLogin) (embedded.UserGrant, error) {
	if a := n.decider(); a != nil {
		return a.User(ctx, login)
	}
	return embedded.UserGrant{Name: "tester", ID: UserID(login.Token), API: true, Events: []string{messaging.EventAll}, State: true}, nil
}

// Holds implements embedded.Authenticator.
func (n *Net) Holds(grant embedded.UserGrant) bool {
	a := n.decider()
	return a == nil || a.Holds(grant)
}

// UserID is the caller's ID of who logs in with a token, unless SetAuth says otherwise. It is as long as real ones, and no
// secret.
func UserID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return token + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// UserConn is a new connection of an automation user who shows the token, closed when the test ends. Unless SetAuth says
// otherwise it may do everything, and what it asks carries the UserID of the token.
func (n *Net) UserConn(token string) *nats.Conn {
	n.t.Helper()
	return n.Connect(messaging.ConnectOptions{InProcess: n.Link("user"), Token: token, Name: "tester", FailFast: true})
}

func (n *Net) decider() embedded.Authenticator {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.auth
}

// CoordinatorOptions connect the coordinator over its link.
func (n *Net) CoordinatorOptions() messaging.ConnectOptions {
	o := n.Server.CoordinatorOptions()
	o.InProcess = n.Link(CoordinatorLink)
	return o
}

// Coordinator is a new connection with full permission, closed when the test ends.
func (n *Net) Coordinator() *nats.Conn {
	n.t.Helper()
	o := n.CoordinatorOptions()
	o.FailFast = true
	return n.Connect(o)
}

// JetStream is JetStream over a new Coordinator connection.
func (n *Net) JetStream() jetstream.JetStream {
	n.t.Helper()
	js, err := jetstream.New(n.Coordinator())
	if err != nil {
		n.t.Fatal(err)
	}
	return js
}

// NodeOptions connect a node, with a new key, over the link called by its name.
func (n *Net) NodeOptions(name string) messaging.ConnectOptions {
	n.t.Helper()
	seed, err := messaging.NewSeed()
	if err != nil {
		n.t.Fatal(err)
	}
	return messaging.ConnectOptions{InProcess: n.Link(name), Node: name, KeySeed: seed, FailFast: true}
}

// NodeConn is a new connection of a node, with its permissions only, closed when the test ends.
func (n *Net) NodeConn(name string) *nats.Conn {
	n.t.Helper()
	return n.Connect(n.NodeOptions(name))
}

// Connect connects, or fails the test. The connection is closed when the test ends.
func (n *Net) Connect(o messaging.ConnectOptions) *nats.Conn {
	n.t.Helper()
	nc, err := messaging.Connect(n.t.Context(), o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(nc.Close)
	return nc
}

// Link is a way to the server that can be cut by its name.
func (n *Net) Link(name string) nats.InProcessConnProvider { return provider{net: n, name: name} }

type provider struct {
	net  *Net
	name string
}

// InProcessConn implements nats.InProcessConnProvider.
func (p provider) InProcessConn() (net.Conn, error) { return p.net.dial(p.name) }

// logWriter shows the server's lines with the test's.
type logWriter struct{ t testing.TB }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Log(string(b))
	return len(b), nil
}
