package coordinator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/audit"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// Coordinator is one coordinator process. Use New.
type Coordinator struct {
	config   Config
	log      *slog.Logger
	identity *identity
	tokens   authn.Tokens
	gate     *gatekeeper
	audit    *audit.Log
	server   *embedded.Server
	started  time.Time
}

// New checks the settings, takes the state folder, and makes the cluster's identity if there is none. Nothing listens yet.
func New(config Config, log *slog.Logger) (*Coordinator, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(config.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	now := time.Now()
	id, err := openIdentity(config.StateDir, now)
	if err != nil {
		return nil, err
	}
	tokens := authn.NewStaticTokens(map[string]authn.User{id.token: {Name: adminUser, Groups: []string{adminGroup}}})
	c := &Coordinator{config: config, log: log, identity: id, tokens: tokens, gate: &gatekeeper{tokens: tokens}, started: now}
	if c.audit, err = config.Audit.open(config.StateDir, log.With("part", "audit")); err != nil {
		return nil, err
	}
	if c.server, err = c.newServer(now); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Coordinator) newServer(now time.Time) (*embedded.Server, error) {
	host, port, err := splitListen(c.config.NATS.Listen)
	if err != nil {
		return nil, err
	}
	cert, err := c.identity.authority.Server("nats", certificateNames(host, c.config.NATS.Names), now)
	if err != nil {
		return nil, err
	}
	authorities, err := c.identity.authorities()
	if err != nil {
		return nil, err
	}
	return embedded.New(embedded.Options{
		StoreDir: filepath.Join(c.config.StateDir, "nats"), Host: host, Port: port, Auth: c.gate,
		TLS: &tls.Config{ // nodes show a key instead of a certificate
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, ClientCAs: authorities, ClientAuth: tls.VerifyClientCertIfGiven,
		},
		Logger: c.log.With("part", "nats"),
	})
}

// certificateNames are the names a listener's certificate is for: where it listens, what it is called there, and loopback.
func certificateNames(host string, more []string) []string {
	names := append([]string{"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}, more...)
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		if addresses, err := net.InterfaceAddrs(); err == nil {
			for _, a := range addresses {
				if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
					names = append(names, p.Addr().String())
				}
			}
		}
		return names
	}
	return append(names, host)
}

// apiNames are the names of the API's certificate: also those by which pods ask, under the kubernetes Service's address.
func apiNames(host string, c Config) ([]string, error) {
	services, err := netip.ParsePrefix(c.Network.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("service network: %w", err)
	}
	inside := []string{
		services.Masked().Addr().Next().String(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + api.ClusterDomain,
	}
	return append(certificateNames(host, c.API.Names), inside...), nil
}

// Run serves until ctx ends or a part fails. The NATS server stops last: everything else speaks through it.
func (c *Coordinator) Run(ctx context.Context) error {
	serving, stopServer := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServer()
	server := make(chan error, 1) // the server's last word
	go func() { server <- c.server.Run(serving) }()
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make(chan error, 1) // the parts' last word
	go func() { parts <- c.runParts(inner) }()
	select {
	case err := <-server:
		cancel(err)
		return errors.Join(serverError(err, c.config.NATS.Listen), unlessCanceled(<-parts))
	case err := <-parts:
		stopServer()
		err = errors.Join(err, <-server)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
}

// unlessCanceled drops the error of a part that ended because it was told to.
func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func serverError(err error, listen string) error {
	if err == nil {
		return fmt.Errorf("NATS server on %s stopped by itself", listen)
	}
	return fmt.Errorf("NATS server on %s: %w", listen, err)
}

// runParts connects to the server and runs everything that speaks through it.
func (c *Coordinator) runParts(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.server.Ready():
	}
	conn, err := messaging.Connect(ctx, c.server.CoordinatorOptions())
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	p, err := c.newParts(ctx, conn, js)
	if err != nil {
		return err
	}
	return p.run(ctx)
}

// apiTLS is the API's certificate, and the CA whose client certificates it believes.
func (p *parts) apiTLS(host string) (*tls.Config, error) {
	names, err := apiNames(host, p.config)
	if err != nil {
		return nil, err
	}
	cert, err := p.identity.authority.Server("api", names, p.started)
	if err != nil {
		return nil, err
	}
	pool, err := p.identity.authorities()
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
