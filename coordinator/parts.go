package coordinator

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/metrics"
	"skerry.dev/skerry/coordinator/telemetry"
	"skerry.dev/skerry/coordinator/web"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/packaging/registry"
)

// parts is everything that speaks through the NATS server, built and ready to run: the core, and what serves people and
// images.
type parts struct {
	*Core
	tokens   authn.Tokens
	registry *registry.Registry
	images   *messaging.StreamListener
	pods     net.Listener // what programs on nodes ask of the API
}

func (c *Coordinator) newParts(ctx context.Context, conn *nats.Conn, js jetstream.JetStream) (*parts, error) {
	p := &parts{tokens: c.tokens}
	var err error
	p.Core, err = newCore(ctx, c.config, Link{Conn: conn, JetStream: js, Disconnect: c.server.DisconnectNode, Room: c.server.Room, Stage: c.server.Stage},
		&Core{identity: c.identity, gate: c.gate, audit: c.audit, started: c.started, log: c.log})
	if err != nil {
		return nil, err
	}
	p.registry, err = registry.New(registry.Options{Dir: filepath.Join(c.config.StateDir, "registry"), Log: c.log.With("part", "registry")})
	if err != nil {
		return nil, err
	}
	if p.images, err = messaging.Listen(conn, messaging.StreamRegistry); err != nil {
		return nil, err
	}
	asked, err := messaging.Listen(conn, messaging.StreamAPI)
	if err != nil {
		return nil, err
	}
	p.pods = newFairListener(asked, streamsPerNode)
	return p, nil
}

// run runs the core and serves, and returns when all have ended.
func (p *parts) run(ctx context.Context) error { return p.Core.run(ctx, p.serve) }

// serve starts what answers people and nodes.
func (p *parts) serve(ctx context.Context, g *errgroup.Group) error {
	server, err := p.newAPI()
	if err != nil {
		return err
	}
	tidy := &memory{view: p.view, objects: p.objects, log: p.log.With("part", "memory")}
	g.Go(func() error { return part("memory", tidy.run(ctx)) })
	g.Go(func() error { return part("registry", p.registry.Run(ctx)) })
	g.Go(func() error { return part("registry for nodes", p.serveImages(ctx)) })
	g.Go(func() error { return part("audit log", p.audit.Run(ctx)) })
	g.Go(func() error { return part("API server", server.Run(ctx)) })
	return nil
}

func (p *parts) newAPI() (*apiserver.Server, error) {
	host, _, err := splitListen(p.config.API.Listen)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := p.apiTLS(host)
	if err != nil {
		return nil, err
	}
	if err := p.announce(host); err != nil {
		return nil, err
	}
	sessions := authn.NewSessions(p.tokens, time.Now)
	page, err := web.New(web.Config{View: p.view, Liveness: p.fleet.Liveness, Log: p.log.With("part", "web")})
	if err != nil {
		return nil, err
	}
	described, err := automation.NewDocumentHandler(api.BuildVersion)
	if err != nil {
		return nil, err
	}
	figures, err := telemetry.New(telemetry.Config{
		View: p.view, Liveness: p.fleet.Liveness, Heartbeat: p.config.Nodes.Heartbeat, Conn: p.link.Conn, Version: api.BuildVersion,
	})
	if err != nil {
		return nil, err
	}
	server, err := apiserver.New(apiserver.Config{
		Address: p.config.API.Listen, TLS: tlsConfig, Listeners: []net.Listener{p.pods}, View: p.view, Objects: p.objects, Access: p.access, Accounts: p.accounts,
		Authenticator: authn.Union{authn.Certificates{}, authn.Bearer{Tokens: authn.AnyOf{p.tokens, p.accounts}}, sessions},
		Audit:         p.audit,
		Observer:      figures,
		Metrics:       &metrics.Source{Collector: p.usage, Liveness: p.fleet.Liveness, Heartbeat: p.config.Nodes.Heartbeat},
		Nodes:         &nodes{conn: p.link.Conn, signer: p.identity.signer},
		Mounts: map[string]apiserver.Mount{
			web.Prefix:                {Handler: page, Public: true, Streams: true},
			web.Prefix + "session":    {Handler: sessions, Public: true},
			"/v2/":                    {Handler: p.registry, Challenge: `Basic realm="skerry"`},
			"/asyncapi/":              {Handler: described},
			"/metrics/":               {Handler: figures.Handler()},
			"/skerry/v1/":             {Handler: &rebalancing{source: p.source, writer: p.writer, options: p.config.rebalanceOptions()}},
			api.CertificatePath + "/": {Handler: &certificates{authority: p.identity.authority, log: p.log.With("part", "certificates")}},
		},
		Home:  web.Prefix,
		Build: api.BuildVersion, Log: p.log.With("part", "api"),
	})
	if err != nil {
		return nil, err
	}
	return server, figures.ShowAPI(server)
}

// announce writes the administrator's kubeconfig.
func (p *parts) announce(host string) error {
	_, port, err := splitListen(p.config.API.Listen)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	server := "https://" + net.JoinHostPort(host, strconv.Itoa(port))
	path, err := p.identity.writeKubeconfig(p.config.StateDir, server, p.started)
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
