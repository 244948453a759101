// Package embedded runs nats-server inside the coordinator: its listener, its accounts, who may connect and what they may
// do. It is the only importer of nats-server.
//
// It holds no registry of nodes or users: an Authenticator decides. It knows no object.
package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"skerry.dev/skerry/messaging"
)

// Options configure the server.
type Options struct {
	StoreDir string        // JetStream's files; one process at a time
	Host     string        // "" means 127.0.0.1
	Port     int           // 0 for a random one, -1 for no listener at all
	TLS      *tls.Config   // nil for none, which is only for tests
	Auth     Authenticator // nil refuses everybody but the coordinator
	Logger   *slog.Logger  // nil logs nothing
	// MaxPayloadBytes of one message. 0 means 8 MiB.
	MaxPayloadBytes int32
	// PingInterval and two unanswered pings end a silent connection. 0 means 20 s.
	PingInterval time.Duration
	// NoSync lets the disk cache acknowledged writes, which a power cut then loses. Only for tests.
	NoSync bool

	// OnConnect tells that a node has a connection, OnDisconnect that its last one has ended, within half a second. They
	// are called one at a time, in order. nil for none.
	OnConnect    func(node string)
	OnDisconnect func(node string)
}

// startTime is how long the server may take until it is ready: recovering a million objects takes some seconds.
const startTime = 2 * time.Minute

// Server is an embedded NATS server.
type Server struct {
	log     *slog.Logger
	nats    *server.Server
	gate    *gate
	fatal   chan error // one slot: the first fatal error of the start
	ready   chan struct{}
	release func() // the lock on StoreDir
	folder  string // StoreDir
	fault   *fault
	ample   ample
}

// New validates the options and takes the store folder, which it makes if need be. The server does not run yet.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StoreDir == "" {
		return nil, errors.New("embedded NATS: no store folder")
	}
	opts, err := natsOptions(o)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s := &Server{
		log: o.Logger, fatal: make(chan error, 1), ready: make(chan struct{}), gate: newGate(o),
		folder: o.StoreDir, fault: &fault{occurred: make(chan struct{})},
	}
	opts.CustomClientAuthentication = s.gate
	if s.release, err = lockFolder(o.StoreDir); err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	if s.nats, err = server.NewServer(opts); err != nil {
		s.release()
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	s.gate.server = s.nats
	s.nats.SetLoggerV2(serverLog{log: o.Logger, fatal: s.fatal, fault: s.fault}, false, false, false)
	return s, nil
}

// Run serves until ctx ends, then shuts down and waits until the store is closed. It returns nil then, and an error when
// the server cannot start, for instance because its port is taken, or must be started anew because the disk was full and is
// no longer. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	defer s.release()
	stale := stages(s.folder) // the server looks into them when it starts, and forgets them
	started := make(chan struct{})
	go func() {
		s.nats.Start()
		close(started)
	}()
	defer func() {
		<-started // a server that is shut down while it starts would go on writing
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
		unstage(stages(s.folder))
	}()
	if err := s.waitReady(ctx); err != nil {
		return err
	}
	unstage(stale)
	close(s.ready)
	return s.serve(ctx)
}

func (s *Server) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	anew := make(chan error, 1) // one word
	go func() {
		anew <- s.awaitRoom(ctx)
		cancel()
	}()
	err := s.gate.run(ctx)
	cancel()
	return errors.Join(err, <-anew)
}

func (s *Server) waitReady(ctx context.Context) error {
	ready := make(chan bool, 1) // the goroutine ends by itself, at the latest after startTime or with the server
	go func() { ready <- s.nats.ReadyForConnections(startTime) }()
	select {
	case err := <-s.fatal:
		return fmt.Errorf("start embedded NATS: %w", err)
	case <-ctx.Done():
		return nil
	case ok := <-ready:
		if !ok {
			return fmt.Errorf("start embedded NATS: not ready after %s", startTime)
		}
		return nil
	}
}

// Ready is closed once the server takes connections.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// ClientURL is where clients connect. Empty without a listener; valid after Ready.
func (s *Server) ClientURL() string {
	if s.nats.Addr() == nil {
		return ""
	}
	return "nats://" + s.nats.Addr().String()
}

// InProcessConn connects without a socket. Whoever uses it must log in as over the network.
func (s *Server) InProcessConn() (net.Conn, error) {
	conn, err := s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("connect in process: %w", err)
	}
	return conn, nil
}

// CoordinatorOptions connect the coordinator itself, with full permission, which nothing outside this process can have:
// the secret in them is made anew by each New and holds for in-process connections only.
func (s *Server) CoordinatorOptions() messaging.ConnectOptions {
	return messaging.ConnectOptions{
		InProcess: s, Token: s.gate.secret, Name: "coordinator", InboxPrefix: coordinatorInbox, Logger: s.log,
	}
}

// DisconnectNode ends all connections of a node, also those that are just logging in, and says how many there were. A
// node that is to stay away must be refused by the Authenticator first.
func (s *Server) DisconnectNode(node string) int { return s.gate.kick(node) }

// Connected says whether a node has a connection.
func (s *Server) Connected(node string) bool { return s.gate.connected(node) }

func natsOptions(o Options) (*server.Options, error) {
	opts := &server.Options{}
	if err := opts.ProcessConfigString(accounts); err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	opts.ServerName = "skerry"
	opts.NoSigs, opts.NoLog = true, false
	opts.JetStream, opts.StoreDir, opts.SyncAlways = true, o.StoreDir, !o.NoSync
	opts.JetStreamLimits.DefaultMaxConsumers = -1
	opts.AlwaysEnableNonce = true
	opts.AuthTimeout, opts.TLSTimeout = 10, 10 // seconds: enrolment writes to the store
	opts.PingInterval, opts.MaxPingsOut = o.PingInterval, 2
	if o.PingInterval == 0 {
		opts.PingInterval = 20 * time.Second
	}
	opts.MaxPayload = o.MaxPayloadBytes
	if o.MaxPayloadBytes == 0 {
		opts.MaxPayload = 8 << 20
	}
	opts.TLSConfig, opts.TLSHandshakeFirst = o.TLS, o.TLS != nil
	return opts, listen(opts, o)
}

func listen(opts *server.Options, o Options) error {
	switch {
	case o.Port < -1 || o.Port > 65535:
		return fmt.Errorf("port %d is out of range", o.Port)
	case o.Port == -1:
		opts.DontListen = true
	case o.Port == 0:
		opts.Port = server.RANDOM_PORT
	default:
		opts.Port = o.Port
	}
	opts.Host = o.Host
	if o.Host == "" {
		opts.Host = "127.0.0.1"
	}
	return nil
}
