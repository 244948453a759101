package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	assignments "skerry.dev/skerry/coordinator/assign"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/deployment"
	"skerry.dev/skerry/coordinator/controller/endpoints"
	"skerry.dev/skerry/coordinator/controller/garbage"
	"skerry.dev/skerry/coordinator/controller/nodelifecycle"
	"skerry.dev/skerry/coordinator/controller/performer"
	"skerry.dev/skerry/coordinator/controller/rebalance"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/fleet"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/scheduler"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/coordinator/web"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/store"
	"skerry.dev/skerry/packaging/registry"
)

// parts is everything that speaks through the NATS server, built and ready to run.
type parts struct {
	c        *Coordinator
	conn     *nats.Conn
	js       jetstream.JetStream
	view     *view.View
	objects  *objects.Store
	writer   controller.Writer
	source   *source
	events   *controller.Events
	fleet    *fleet.Fleet
	registry *registry.Registry
	images   *messaging.StreamListener
	state    *store.Store
	assigned *assign.Store
	epoch    uint64
	log      *slog.Logger
}

func (c *Coordinator) newParts(ctx context.Context, conn *nats.Conn, js jetstream.JetStream) (*parts, error) {
	state, assigned, epoch, err := c.openStreams(ctx, js)
	if err != nil {
		return nil, err
	}
	p := &parts{c: c, conn: conn, js: js, state: state, assigned: assigned, epoch: epoch, log: c.log}
	p.view = view.New(state, c.log.With("part", "view"))
	options := objects.Options{Logger: c.log.With("part", "objects")}
	if options.PodCIDR, err = netip.ParsePrefix(c.config.Network.PodCIDR); err != nil {
		return nil, err
	}
	if options.ServiceCIDR, err = netip.ParsePrefix(c.config.Network.ServiceCIDR); err != nil {
		return nil, err
	}
	if p.objects, err = objects.New(p.view, state, options); err != nil {
		return nil, err
	}
	table := fleet.NewTable(c.log)
	p.source = &source{view: p.view, table: table, started: c.started, returned: make(chan struct{}, 1)} // one token says all
	p.writer = performer.New(p.objects, api.ComponentController)
	p.events = controller.NewEvents(p.writer, c.log.With("part", "events"))
	if p.fleet, err = p.newFleet(table); err != nil {
		return nil, err
	}
	p.registry, err = registry.New(registry.Options{Dir: filepath.Join(c.config.StateDir, "registry"), Log: c.log.With("part", "registry")})
	if err != nil {
		return nil, err
	}
	p.images, err = messaging.Listen(conn, "registry")
	return p, err
}

func (p *parts) newFleet(table *fleet.Table) (*fleet.Fleet, error) {
	signing, err := p.c.identity.signer.PublicKey()
	if err != nil {
		return nil, err
	}
	registrar := &fleet.Registrar{
		View: p.view, Objects: p.objects, Log: p.log,
		Reply: messaging.RegisterReply{
			Cluster: p.c.identity.authority.Hash(), Epoch: p.epoch, SigningKey: signing, Heartbeat: p.c.config.Nodes.Heartbeat,
		},
	}
	return fleet.New(fleet.Config{
		View: p.view, Conn: p.conn, JetStream: p.js, Table: table, Registrar: registrar,
		Reports: fleet.NewReports(p.view, p.objects, nodeEvents{p.events}, p.log),
		Signer:  p.c.identity.signer, Heartbeat: p.c.config.Nodes.Heartbeat,
		Returned: p.source.wake, Revoke: p.c.server.DisconnectNode, Log: p.log,
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

// run starts the parts in the order in which they need each other, and returns when all have ended.
func (p *parts) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return part("view", p.view.Run(ctx)) })
	select {
	case <-p.view.Synced():
	case <-ctx.Done():
		return g.Wait()
	}
	g.Go(func() error { return p.serve(ctx, g) })
	return g.Wait()
}

// serve runs once the view is complete: before that nothing may be decided or answered.
func (p *parts) serve(ctx context.Context, g *errgroup.Group) error {
	if err := p.objects.Bootstrap(ctx); err != nil {
		return fmt.Errorf("make system objects: %w", err)
	}
	shell, err := p.newShell()
	if err != nil {
		return err
	}
	server, err := p.newAPI()
	if err != nil {
		return err
	}
	endpoint, err := automation.NewEndpoints(automation.EndpointsConfig{Conn: p.conn, View: p.view, Objects: p.objects, Log: p.log.With("part", "automation")})
	if err != nil {
		return err
	}
	feed, err := automation.NewEvents(automation.EventsConfig{JS: p.js, Source: p.state, Log: p.log.With("part", "automation")})
	if err != nil {
		return err
	}
	p.c.gate.open(fleet.NewEnrolment(p.view, p.objects, p.log))
	changes, stop := p.view.Changed()
	publisher := p.newPublisher(changes)
	g.Go(func() error { return part("events", p.events.Run(ctx)) })
	g.Go(func() error { return part("fleet", p.fleet.Run(ctx)) })
	g.Go(func() error { return part("controllers", shell.Run(ctx)) })
	g.Go(func() error { defer stop(); return part("assignments", publisher.Run(ctx)) })
	g.Go(func() error { return part("automation", endpoint.Run(ctx)) })
	g.Go(func() error { return part("automation events", feed.Run(ctx)) })
	g.Go(func() error { return part("registry", p.registry.Run(ctx)) })
	g.Go(func() error { return part("registry for nodes", p.serveImages(ctx)) })
	g.Go(func() error { return part("API server", server.Run(ctx)) })
	return nil
}

// part names what failed. A part that ends because it was told to is no failure of its own.
func part(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (p *parts) newShell() (*controller.Shell, error) {
	heartbeat := p.c.config.Nodes.Heartbeat
	return controller.New(controller.Config{
		Source: p.source, Writer: p.writer, Recorder: p.events, Finish: scheduler.Finish, Logger: p.log.With("part", "controllers"),
		Controllers: append([]controller.Controller{
			nodelifecycle.Controller(nodelifecycle.Options{Heartbeat: heartbeat}),
			deployment.Controller(),
			rebalance.Controller(p.c.config.rebalanceOptions()),
			replicaset.Controller(),
			endpoints.Controller(),
			garbage.Events(0),
		}, garbage.Controller(garbage.Options{})...),
	})
}

func (p *parts) newPublisher(changes <-chan struct{}) *assignments.Publisher {
	return assignments.New(assignments.Config{
		State: &assignable{view: p.view, changes: changes, network: p.c.config.Network},
		Keys:  p.assigned, Signer: p.c.identity.signer, Sealer: p.c.identity.seal,
		Cluster: p.c.identity.authority.Hash(), Epoch: p.epoch, DigestKey: p.c.identity.digestKey,
		Applied: p.fleet.Table.Applied, Resync: p.fleet.Resync, Log: p.log.With("part", "assign"),
	})
}

func (p *parts) newAPI() (*apiserver.Server, error) {
	host, _, err := splitListen(p.c.config.API.Listen)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := p.c.apiTLS(host)
	if err != nil {
		return nil, err
	}
	if err := p.announce(host); err != nil {
		return nil, err
	}
	sessions := authn.NewSessions(p.c.tokens, time.Now)
	page, err := web.New(web.Config{View: p.view, Liveness: p.fleet.Liveness, Log: p.log.With("part", "web")})
	if err != nil {
		return nil, err
	}
	return apiserver.New(apiserver.Config{
		Address: p.c.config.API.Listen, TLS: tlsConfig, View: p.view, Objects: p.objects,
		Authenticator: authn.Union{authn.Certificates{}, authn.Bearer{Tokens: p.c.tokens}, sessions},
		Nodes:         &nodes{conn: p.conn, signer: p.c.identity.signer},
		Mounts: map[string]apiserver.Mount{
			web.Prefix:             {Handler: page, Public: true, Streams: true},
			web.Prefix + "session": {Handler: sessions, Public: true},
			"/v2/":                 {Handler: p.registry, Challenge: `Basic realm="skerry"`},
			"/skerry/v1/":          {Handler: &rebalancing{source: p.source, writer: p.writer, options: p.c.config.rebalanceOptions()}},
		},
		Build: api.BuildVersion, Log: p.log.With("part", "api"),
	})
}

// announce writes the administrator's kubeconfig.
func (p *parts) announce(host string) error {
	_, port, err := splitListen(p.c.config.API.Listen)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	server := "https://" + net.JoinHostPort(host, strconv.Itoa(port))
	path, err := p.c.identity.writeKubeconfig(p.c.config.StateDir, server, p.c.started)
	if err != nil {
		return err
	}
	p.log.Info("API is at", "server", server, "kubeconfig", path)
	return nil
}

// serveImages serves the registry to nodes over their NATS connections. They may pull; pushing is for people.
func (p *parts) serveImages(ctx context.Context) error {
	server := &http.Server{Handler: pullOnly(p.registry), ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(p.images); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return ctx.Err()
}

func pullOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "nodes may only pull", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
