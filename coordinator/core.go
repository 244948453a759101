package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/access/bootstrap"
	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/access/token"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	assignments "skerry.dev/skerry/coordinator/assign"
	"skerry.dev/skerry/coordinator/audit"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/autoscaler"
	"skerry.dev/skerry/coordinator/controller/clusterrole"
	"skerry.dev/skerry/coordinator/controller/cronjob"
	"skerry.dev/skerry/coordinator/controller/daemonset"
	"skerry.dev/skerry/coordinator/controller/deployment"
	"skerry.dev/skerry/coordinator/controller/disruption"
	"skerry.dev/skerry/coordinator/controller/endpoints"
	"skerry.dev/skerry/coordinator/controller/garbage"
	"skerry.dev/skerry/coordinator/controller/job"
	"skerry.dev/skerry/coordinator/controller/nodelifecycle"
	"skerry.dev/skerry/coordinator/controller/performer"
	"skerry.dev/skerry/coordinator/controller/rebalance"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/controller/resourcequota"
	"skerry.dev/skerry/coordinator/controller/serviceaccount"
	"skerry.dev/skerry/coordinator/controller/statefulset"
	"skerry.dev/skerry/coordinator/controller/volumebinding"
	"skerry.dev/skerry/coordinator/fleet"
	"skerry.dev/skerry/coordinator/metrics"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/scheduler"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/store"
)

// Core is the part of a coordinator that decides: the objects and the controllers, the fleet, and what nodes are told. It
// speaks through the NATS connection it is given and listens to nothing else, so that a simulation can run it in virtual
// time. A Coordinator is a Core with its own NATS server, the HTTP listener and what is served there. Use OpenCore.
type Core struct {
	config   Config
	log      *slog.Logger
	link     Link
	identity *identity
	gate     *gatekeeper
	audit    *audit.Log // nil keeps nothing
	started  time.Time
	view     *view.View
	access   *rbac.Authorizer
	accounts *token.Issuer
	objects  *objects.Store
	writer   controller.Writer
	source   *source
	events   *controller.Events
	fleet    *fleet.Fleet
	usage    *metrics.Collector
	state    *store.Store
	assigned *assign.Store
	epoch    uint64
}

// Link is how a Core reaches NATS.
type Link struct {
	Conn      *nats.Conn
	JetStream jetstream.JetStream
	// Storage is what streams are kept in: files (the zero value) but in virtual time.
	Storage jetstream.StorageType
	// Disconnect ends a node's connections and returns how many there were.
	Disconnect func(node string) int
	// Room says whether so many bytes are free for streams. nil when nobody knows.
	Room func(bytes uint64) error
	// Stage has the server keep a stream's batches in memory while they are on their way. nil when it cannot.
	Stage func(stream string) error
}

// OpenCore takes over the cluster whose identity lies in the state folder of config, making one if there is none: it opens
// the stores and declares itself their writer. Another Core on the same stores can write no more from then on. It uses of
// config what is not about listeners.
func OpenCore(ctx context.Context, config Config, link Link, log *slog.Logger) (*Core, error) {
	now := time.Now()
	id, err := openIdentity(config.StateDir, now)
	if err != nil {
		return nil, err
	}
	gate := &gatekeeper{tokens: authn.NewStaticTokens(nil)}
	return newCore(ctx, config, link, &Core{identity: id, gate: gate, started: now, log: log})
}

// newCore completes c, which knows who it is and when it started.
func newCore(ctx context.Context, config Config, link Link, c *Core) (*Core, error) {
	c.config, c.link = config, link
	if err := c.openStreams(ctx); err != nil {
		return nil, err
	}
	c.view = view.New(c.state, c.log.With("part", "view"))
	c.access = rbac.New(c.view)
	c.accounts = token.New(c.identity.accounts, c.view, time.Now)
	options := objects.Options{Logger: c.log.With("part", "objects"), RootCA: c.identity.authority.PEM()}
	var err error
	if options.PodCIDR, err = netip.ParsePrefix(config.Network.PodCIDR); err != nil {
		return nil, err
	}
	if options.ServiceCIDR, err = netip.ParsePrefix(config.Network.ServiceCIDR); err != nil {
		return nil, err
	}
	if c.objects, err = objects.New(c.view, c.state, options); err != nil {
		return nil, err
	}
	table := fleet.NewTable(c.log)
	usage := metrics.NewTable()
	c.source = &source{view: c.view, table: table, usage: usage, started: c.started, returned: make(chan struct{}, 1)} // one token says all
	c.writer = performer.New(c.objects, api.ComponentController)
	c.events = controller.NewEvents(c.writer, c.log.With("part", "events"))
	if c.fleet, err = c.newFleet(table); err != nil {
		return nil, err
	}
	c.usage = metrics.New(metrics.Config{
		Conn: link.Conn, Signer: c.identity.signer, Table: usage, Log: c.log.With("part", "metrics"),
		Heard:  func(node string) bool { _, _, heard := c.fleet.Applied(node); return heard },
		Wanted: c.source.measured,
	})
	return c, nil
}

// openStreams opens the stores and declares this process their writer.
func (c *Core) openStreams(ctx context.Context) (err error) {
	js, storage := c.link.JetStream, c.link.Storage
	if c.state, err = store.Open(ctx, js, store.Options{Storage: storage, Room: c.link.Room, Stage: c.link.Stage, Logger: c.log.With("part", "store")}); err != nil {
		return err
	}
	if c.assigned, err = assign.Open(ctx, js, assign.Options{Storage: storage, Stage: c.link.Stage, Logger: c.log.With("part", "assign")}); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this coordinator: %w", err)
	}
	c.epoch, err = c.state.OpenEpoch(ctx, host+"/"+strconv.Itoa(os.Getpid()))
	return err
}

func (c *Core) newFleet(table *fleet.Table) (*fleet.Fleet, error) {
	signing, err := c.identity.signer.PublicKey()
	if err != nil {
		return nil, err
	}
	registrar := &fleet.Registrar{
		View: c.view, Objects: c.objects, Log: c.log,
		Reply: messaging.RegisterReply{Cluster: c.Cluster(), Epoch: c.epoch, SigningKey: signing, Heartbeat: c.config.Nodes.Heartbeat},
	}
	return fleet.New(fleet.Config{
		View: c.view, Conn: c.link.Conn, JetStream: c.link.JetStream, Storage: c.link.Storage, Table: table, Registrar: registrar,
		Reports: fleet.NewReports(c.view, c.objects, nodeEvents{c.events}, c.log),
		Signer:  c.identity.signer, Heartbeat: c.config.Nodes.Heartbeat,
		Returned: c.source.wake, Revoke: c.link.Disconnect, Log: c.log,
	}), nil
}

// nodeEvents records what nodes report beside what controllers do.
type nodeEvents struct{ events *controller.Events }

// Record is fleet.Recorder's.
func (n nodeEvents) Record(_ context.Context, e messaging.EventReport, node string) error {
	regarding := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: e.Namespace, Name: e.Pod, UID: types.UID(e.UID)}
	if e.Container != "" {
		regarding.FieldPath = "spec.containers{" + e.Container + "}"
	}
	n.events.Record(controller.Event{
		Regarding: regarding, Type: e.Type, Reason: e.Reason, Message: e.Message, Component: api.ComponentAgent, Host: node,
	})
	return nil
}

// Cluster is the hash of the cluster's CA certificate, which names the cluster and is part of each join token.
func (c *Core) Cluster() string { return c.identity.authority.Hash() }

// View is the objects as they are known here.
func (c *Core) View() *view.View { return c.view }

// Objects is where objects are written.
func (c *Core) Objects() *objects.Store { return c.objects }

// Authenticator decides who may connect to the NATS server. Nodes are let in once Run has read the objects.
func (c *Core) Authenticator() embedded.Authenticator { return c.gate }

// Run decides until ctx ends or a part fails.
func (c *Core) Run(ctx context.Context) error {
	return c.run(ctx, func(context.Context, *errgroup.Group) error { return nil })
}

// run starts the parts in the order in which they need each other, then what serve adds to them, and returns when all have
// ended.
func (c *Core) run(ctx context.Context, serve func(ctx context.Context, g *errgroup.Group) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return part("view", c.view.Run(ctx)) })
	select {
	case <-c.view.Synced():
	case <-ctx.Done():
		return g.Wait()
	}
	g.Go(func() error {
		if err := c.decide(ctx, g); err != nil {
			return err
		}
		return serve(ctx, g)
	})
	return g.Wait()
}

// decide starts what needs the view to be complete: before that nothing may be decided or answered.
func (c *Core) decide(ctx context.Context, g *errgroup.Group) error {
	if err := c.objects.Bootstrap(ctx); err != nil {
		return fmt.Errorf("make system objects: %w", err)
	}
	if err := bootstrap.Ensure(ctx, c.objects); err != nil {
		return err
	}
	shell, err := c.newShell()
	if err != nil {
		return err
	}
	endpoint, feed, err := c.newAutomation()
	if err != nil {
		return err
	}
	c.gate.open(fleet.NewEnrolment(c.view, c.objects, c.log), c.access, c.accounts)
	changes, stop := c.view.Changed()
	publisher := c.newPublisher(changes)
	g.Go(func() error { return c.awaitDeposition(ctx) })
	g.Go(func() error { return part("events", c.events.Run(ctx)) })
	g.Go(func() error { return part("fleet", c.fleet.Run(ctx)) })
	g.Go(func() error { return part("metrics", c.usage.Run(ctx)) })
	g.Go(func() error { return part("controllers", shell.Run(ctx)) })
	g.Go(func() error { defer stop(); return part("assignments", publisher.Run(ctx)) })
	g.Go(func() error { return part("automation", endpoint.Run(ctx)) })
	g.Go(func() error { return part("automation events", feed.Run(ctx)) })
	return nil
}

// awaitDeposition ends everything when another coordinator has taken over: what is published to nodes is not fenced.
func (c *Core) awaitDeposition(ctx context.Context) error {
	select {
	case <-c.state.Deposed():
		return store.ErrDeposed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part names what failed. A part that ends because it was told to is no failure of its own.
func part(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (c *Core) newShell() (*controller.Shell, error) {
	heartbeat := c.config.Nodes.Heartbeat
	return controller.New(controller.Config{
		Source: c.source, Writer: c.writer, Recorder: c.events, Finish: scheduler.Finish, Logger: c.log.With("part", "controllers"),
		Controllers: append([]controller.Controller{
			nodelifecycle.Controller(nodelifecycle.Options{Heartbeat: heartbeat}),
			autoscaler.Controller(), // before those whose objects it changes: the first of two changes wins
			deployment.Controller(),
			rebalance.Controller(c.config.rebalanceOptions()),
			replicaset.Controller(),
			replicaset.Replication(),
			daemonset.Controller(),
			statefulset.Controller(),
			volumebinding.Controller(),
			job.Controller(),
			cronjob.Controller(),
			endpoints.Controller(),
			disruption.Controller(),
			resourcequota.Controller(),
			clusterrole.Controller(),
			serviceaccount.Controller(c.identity.authority.PEM(), c.accounts),
			garbage.Events(0),
		}, garbage.Controller(garbage.Options{})...),
	})
}

func (c *Core) newAutomation() (*automation.Endpoints, *automation.Events, error) {
	log := c.log.With("part", "automation")
	endpoint, err := automation.NewEndpoints(automation.EndpointsConfig{
		Conn: c.link.Conn, View: c.view, Objects: c.objects, Callers: c.gate, Access: c.access, Audit: c.audit, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	feed, err := automation.NewEvents(automation.EventsConfig{JS: c.link.JetStream, Source: c.state, View: c.view, Storage: c.link.Storage, Log: log})
	return endpoint, feed, err
}

func (c *Core) newPublisher(changes <-chan struct{}) *assignments.Publisher {
	return assignments.New(assignments.Config{
		State: &assignable{view: c.view, changes: changes, network: c.config.Network},
		Keys:  c.assigned, Signer: c.identity.signer, Sealer: c.identity.seal,
		Cluster: c.Cluster(), Epoch: c.epoch, DigestKey: c.identity.digestKey,
		Applied: c.fleet.Applied, Resync: c.fleet.Resync, Tokens: c.accounts, Log: c.log.With("part", "assign"),
	})
}
