package uplink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/edgeagent/uplink/wal"
	"skerry.dev/skerry/messaging"
)

// Node is what the uplink speaks for. Its methods are called from several goroutines, Desired and Services from one.
type Node interface {
	// Desired takes over a new complete set. When it returns nil the set is checkpointed and counts as applied; after an
	// error it is offered again.
	Desired(ctx context.Context, d Desired) error
	// Current tells that the coordinator's newest set is the one that the node holds.
	Current()
	// Services takes over a new service table, as Desired does.
	Services(ctx context.Context, source messaging.Assigned, table messaging.ServiceTable) error
	// Registered tells what the coordinator answered, on each connection. An error refuses the coordinator.
	Registered(ctx context.Context, reply messaging.RegisterReply) error
	// Link tells that the link came up (registered) or went down.
	Link(up bool)
	// Serve serves a byte stream that the coordinator opened, until it ends, and closes it. Check comes first.
	Serve(ctx context.Context, req messaging.OpenRequest, conn net.Conn)
	// Check says whether a stream of that request can be served; the error's text goes to the user who asked.
	Check(ctx context.Context, req messaging.OpenRequest) error
	// Load is the node's usage now.
	Load(ctx context.Context) messaging.Load
	// Usage is what the node's containers use now.
	Usage(ctx context.Context) (messaging.UsageReport, error)
}

// Config is what an Uplink needs.
type Config struct {
	Connect messaging.ConnectOptions // Node, URLs, keys; the uplink adds its own callbacks
	Address string                   // where other nodes reach this one
	SealKey string                   // public curve key
	Version string
	Boot    string // changes when the node restarts
	// FirstSeq is above every sequence number that was used in this boot.
	FirstSeq uint64
	Node     Node
	WAL      *wal.Log
	Log      *slog.Logger
	// Held is what the checkpoint holds.
	Held     Desired
	Services messaging.Assigned
	// Trust is empty before the first registration.
	Trust Trust
	// Enrolled says that the join token was used up: it is not sent again.
	Enrolled bool
}

// Uplink is a node's connection. Reports may be given to it at any time, before Run and while the link is down.
type Uplink struct {
	cfg Config
	log *slog.Logger

	link      *link
	connected chan struct{} // capacity 1: one signal stands for any number of connects
	resync    chan struct{} // likewise
	wakeDrain chan struct{} // likewise
	beatNow   chan struct{} // likewise
	heard     chan messaging.Assigned

	mu       sync.Mutex // guards what follows
	nc       *nats.Conn
	trust    Trust
	up       bool
	beat     time.Duration
	manifest uint64 // revision applied
	services uint64 // revision applied
	seq      uint64
	ready    chan struct{} // closed when nc is set

	sessions sessions
	streams  sync.WaitGroup // goroutines that serve byte streams
}

// New validates the configuration.
func New(c Config) (*Uplink, error) {
	if c.Connect.Node == "" || c.Boot == "" || c.Node == nil || c.WAL == nil || c.Log == nil {
		return nil, errors.New("uplink: node name, boot id, node, report log and logger are needed")
	}
	c.Trust.Node = c.Connect.Node
	return &Uplink{
		cfg: c, log: c.Log, trust: c.Trust,
		link: newLink(), connected: make(chan struct{}, 1),
		resync: make(chan struct{}, 1), wakeDrain: make(chan struct{}, 1),
		beatNow: make(chan struct{}, 1),
		// A burst of republished pods before their manifest. What does not fit is read by direct get.
		heard: make(chan messaging.Assigned, 256),
		beat:  defaultBeat, seq: c.FirstSeq, ready: make(chan struct{}),
		manifest: c.Held.Manifest.Revision, services: c.Services.Revision,
	}, nil
}

// defaultBeat is used until the coordinator has named an interval.
const defaultBeat = 10 * time.Second

// Run keeps the connection until ctx ends. It returns other errors only for a configuration that can never work.
func (u *Uplink) Run(ctx context.Context) error {
	nc, err := messaging.Connect(ctx, u.connectOptions())
	if err != nil {
		return fmt.Errorf("connect to the coordinator: %w", err)
	}
	defer u.streams.Wait()
	defer nc.Close()
	u.mu.Lock()
	u.nc = nc
	u.mu.Unlock()
	close(u.ready)
	if err := u.subscribe(ctx, nc); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.follow(ctx, nc) })
	g.Go(func() error { return u.heartbeats(ctx, nc) })
	g.Go(func() error { return u.drain(ctx, nc) })
	return g.Wait()
}

func (u *Uplink) connectOptions() messaging.ConnectOptions {
	o := u.cfg.Connect
	o.OnConnect = func(*nats.Conn) { u.link.mend(); signal(u.connected) }
	o.OnDisconnect = func(*nats.Conn, error) { u.link.cut(); u.setUp(false) }
	if u.cfg.Enrolled {
		o.Join = messaging.JoinToken{}
	}
	return o
}

// signal makes a channel of capacity one ready; a signal that waits already is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (u *Uplink) subscribe(ctx context.Context, nc *nats.Conn) error {
	node := u.cfg.Connect.Node
	for subject, handler := range map[string]nats.MsgHandler{
		messaging.AssignSubjects(node):                u.hear,
		messaging.AssignSubjects(messaging.Broadcast): u.hear,
		messaging.CommandSubject(node, "resync"):      u.onResync,
		messaging.CommandSubject(node, "ping"):        u.onPing,
		messaging.CommandSubject(node, "usage"):       func(m *nats.Msg) { u.onUsage(ctx, m) },
		messaging.CommandSubject(node, "open"):        func(m *nats.Msg) { u.onOpen(ctx, nc, m) },
	} {
		if _, err := nc.Subscribe(subject, handler); err != nil {
			return fmt.Errorf("subscribe %s: %w", subject, err)
		}
	}
	return nil
}

// Conn waits for the connection object, which exists from early in Run on, connected or not.
func (u *Uplink) Conn(ctx context.Context) (*nats.Conn, error) {
	select {
	case <-u.ready:
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.nc, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Up says whether the node is connected and registered.
func (u *Uplink) Up() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.up
}

// Contact makes a round trip to the server; nil proves that there was contact while it ran.
func (u *Uplink) Contact(ctx context.Context) error {
	nc, err := u.Conn(ctx)
	if err != nil {
		return err
	}
	if !u.Up() {
		return nats.ErrDisconnected
	}
	return nc.FlushWithContext(ctx)
}

func (u *Uplink) setUp(up bool) {
	u.mu.Lock()
	changed := u.up != up
	u.up = up
	u.mu.Unlock()
	if !changed {
		return
	}
	u.log.Info("link", "up", up)
	u.cfg.Node.Link(up)
	if up {
		signal(u.wakeDrain)
		signal(u.beatNow)
	}
}

func (u *Uplink) trusted() Trust {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.trust
}
