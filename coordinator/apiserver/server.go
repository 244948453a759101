package apiserver

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/apiserver/openapi"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/shares"
	"skerry.dev/skerry/coordinator/view"
)

const (
	readHeaderLimit = 10 * time.Second
	idleLimit       = 3 * time.Minute
	maxHeaderBytes  = 64 << 10
	answerLimit     = time.Minute
	bodyLimit       = 30 * time.Second
	// stopLimit is how long a stopping server waits for requests that are under way.
	stopLimit = 5 * time.Second
	// syncLimit is how long a request waits for a server that has just started.
	syncLimit = 2 * time.Second
	// maxInFlight bounds the requests that are worked on at once; watches and logs are not counted. Upstream's default.
	maxInFlight = 400
	// maxWatches bounds the open watches: each holds at most one batch of events while its client reads it.
	maxWatches = 10000
	// maxLogs bounds the logs that are read at once: each may hold a window of a megabyte of its stream from the node.
	maxLogs = 500
	// maxStreams bounds the requests of one connection that are under way at once, as Go's default.
	maxStreams = 250
)

// Config is what a Server needs. View, Objects and Authenticator must be set.
type Config struct {
	Address string // host:port of the listener; used by Listen and Run
	// TLS has the server's certificate, and as ClientCAs the CA whose client certificates are believed. Nil serves
	// plain HTTP, which tests do.
	TLS *tls.Config
	// Listeners are served besides Address, in the same way; Run closes them.
	Listeners []net.Listener

	View          *view.View
	Objects       Objects
	Authenticator authn.Authenticator
	Nodes         Nodes    // nil: logs are not to be had
	Metrics       Metrics  // nil: nothing is measured
	Access        Access   // nil: by the roles and bindings in View
	Accounts      Accounts // nil: no tokens are made
	Audit         Auditor  // nil: no record is kept
	Observer      Observer // nil: nothing is counted

	// Mounts are handlers under path prefixes that end in a slash, such as /ui/. The longest prefix wins.
	Mounts map[string]Mount
	// Home is where a browser that asks for / is sent; empty sends it nowhere.
	Home string

	// Ready says why the coordinator is not ready; nil means always. /readyz asks it when the view is complete.
	Ready func() error
	// StreamLimit is how long the client of a watch or a log may take to accept what is sent before it is dropped; zero
	// means 30 s.
	StreamLimit time.Duration
	// BodyLimit is how long a client may take to send a body, and AnswerLimit to accept an answer that is no stream; zero
	// means 30 s and a minute.
	BodyLimit, AnswerLimit time.Duration
	// Connections bounds the open connections, of which one peer may have half; zero means 4096. Few file descriptors
	// lower it.
	Connections int
	Build       string           // version of the program, for people; may be empty
	Now         func() time.Time // nil means time.Now
	Log         *slog.Logger     // nil logs nothing
}

// Mount is a handler of another package on the server's address.
type Mount struct {
	Handler http.Handler // finds the user by authn.FromContext
	// Public lets everybody through, without credentials as authn.Anonymous. Wrong credentials are refused all the same.
	// To others a request is allowed as one of its method for its path.
	Public bool
	// Challenge is the WWW-Authenticate header of the 401 that others get, for instance `Basic realm="skerry"`.
	Challenge string
	// Streams ends the handler's requests when the server stops; otherwise they are waited for.
	Streams bool
}

// Server answers the Kubernetes API. It is an http.Handler; Run also listens.
type Server struct {
	Config
	view    *view.View
	objects Objects
	nodes   Nodes
	access  Access
	log     *slog.Logger
	now     func() time.Time

	discovery   *discovery
	openapi     *openapi.Documents
	pages       *pages
	connections *connections
	inFlight    *shares.Shares
	watches     *shares.Shares
	logs        *shares.Shares
	sessions    *shares.Shares
	bodies      budget
}

// New makes a server that is ready to handle requests.
func New(c Config) (*Server, error) {
	if c.View == nil || c.Objects == nil || c.Authenticator == nil {
		return nil, errors.New("apiserver: View, Objects and Authenticator must be set")
	}
	s := &Server{
		Config: c, view: c.View, objects: c.Objects, nodes: c.Nodes, access: c.Access, log: c.Log, now: c.Now,
		inFlight: shares.New("requests", maxInFlight), watches: shares.New("watches", maxWatches),
		logs: shares.New("logs", maxLogs), sessions: shares.New("sessions", maxSessions),
		bodies: budget{limit: maxBodies},
	}
	s.fillDefaults()
	var err error
	if s.discovery, err = newDiscovery(resource.All()); err != nil {
		return nil, err
	}
	if s.openapi, err = openapi.New(); err != nil {
		return nil, err
	}
	s.pages = newPages(s.now)
	return s, nil
}

func (s *Server) fillDefaults() {
	if s.access == nil {
		s.access = rbac.New(s.view)
	}
	if s.Observer == nil {
		s.Observer = noObserver{}
	}
	if s.Audit == nil {
		s.Audit = noAudit{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.nodes == nil {
		s.nodes = noNodes{}
	}
	if s.StreamLimit == 0 {
		s.StreamLimit = 30 * time.Second
	}
	s.BodyLimit, s.AnswerLimit = cmp.Or(s.BodyLimit, bodyLimit), cmp.Or(s.AnswerLimit, answerLimit)
	if s.Connections == 0 {
		s.Connections = maxConnections
	}
	s.connections = newConnections(affordable(s.Connections, s.log))
}

// Listen opens the listener at the configured address, so that a port that is taken is known before anything else runs.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("API address %s is taken by another process: stop it or choose another address: %w", s.Address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on API address %s: %w", s.Address, err)
	}
	return ln, nil
}

// Run listens and serves until ctx ends; then streams end, requests under way get a few seconds, and it returns nil.
func (s *Server) Run(ctx context.Context) error {
	ln, err := s.Listen(ctx)
	if err != nil {
		return err
	}
	return s.Serve(ctx, append([]net.Listener{ln}, s.Listeners...)...)
}

// Serve is Run on listeners, which it closes. It returns when one fails.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := s.httpServer(ctx)
	failed := make(chan error, len(listeners)) // one result of each goroutine
	for _, ln := range listeners {
		go func() { failed <- s.serveOn(server, countedListener{ln, s.connections}) }()
	}
	select {
	case err := <-failed:
		_ = server.Close() // the error counts
		for range len(listeners) - 1 {
			<-failed //nolint:errcheck // they were closed
		}
		return fmt.Errorf("serve API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		s.log.Warn("api requests cut off", "err", err)
		_ = server.Close() // the listener and what is left; there is nothing to save
	}
	s.sessions.Drain(grace) // http.Server does not know their connections any more
	var problems error
	for range listeners {
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			problems = errors.Join(problems, fmt.Errorf("stop API: %w", err))
		}
	}
	return problems
}

func (s *Server) serveOn(server *http.Server, ln net.Listener) error {
	serve := server.Serve
	if s.TLS != nil {
		serve = func(ln net.Listener) error { return server.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("on %s: %w", ln.Addr(), err)
	}
	return http.ErrServerClosed
}

// streamsKey finds, in a request's context, the context that ends the server's streams.
type streamsKey struct{}

// endWithServer calls cancel when the server stops, unless stop is called first.
func endWithServer(ctx context.Context, cancel context.CancelFunc) (stop func() bool) {
	streams, ok := ctx.Value(streamsKey{}).(context.Context)
	if !ok { // served by somebody else's http.Server, which ends its requests itself
		return func() bool { return true }
	}
	return context.AfterFunc(streams, cancel) //nolint:contextcheck // it ends with the server, not with the request
}

func (s *Server) httpServer(ctx context.Context) *http.Server {
	server := &http.Server{
		Handler: s,
		// When ctx ends, streams end with it; other requests may finish.
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), streamsKey{}, ctx)
		},
		ConnContext:       withConnection,
		ConnState:         s.connections.follow,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readHeaderLimit,
		IdleTimeout:       idleLimit,
		WriteTimeout:      s.AnswerLimit, // until a handler sets its own limit
		MaxHeaderBytes:    maxHeaderBytes,
		// Handshakes that fail are noise from the network, not events of the cluster.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.TLS != nil {
		server.TLSConfig = s.TLS.Clone()
		server.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
		server.TLSConfig.MinVersion = max(server.TLSConfig.MinVersion, tls.VersionTLS12)
		if server.TLSConfig.ClientCAs != nil {
			server.TLSConfig.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	return server
}
