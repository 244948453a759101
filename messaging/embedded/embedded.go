// Package embedded runs nats-server inside the coordinator: its listener, its accounts, who may connect and what they may
// do. It is the only importer of nats-server.
//
// It holds no registry of nodes or users: an Authenticator decides. It knows no object.
package embedded

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// NodeLogin is what a node says of itself. Its signature of the server's nonce by PublicKey has been checked.
type NodeLogin struct {
	Node      string
	PublicKey string // user nkey, "U..."
	TokenName string // join token; empty when the node thinks that it is enrolled
	Secret    string
}

// UserGrant is what an automation user may do. Zero means nothing.
type UserGrant struct {
	Name   string // for logs
	API    bool   // call skerry.v1.api.<kind>.<verb>; the endpoint itself asks what the user may do there
	Events bool   // hear skerry.v1.evt.> and read stream EVENTS
	State  bool   // read bucket "state"
}

// Authenticator decides who may connect. Its methods are called for many connections at once and must answer within
// about two seconds.
type Authenticator interface {
	// Node returns nil to accept the login as that node; the error is logged and the client told no more than no.
	Node(ctx context.Context, login NodeLogin) error
	// User returns what the holder of a bearer token may do.
	User(ctx context.Context, token string) (UserGrant, error)
}

// Options configure the server.
type Options struct {
	StoreDir string        // JetStream's files. Empty for memory only, which is for tests
	Host     string        // "" means 127.0.0.1
	Port     int           // -1 for a random one; 0 for no listener at all
	TLS      *tls.Config   // nil for none, which is only for tests
	Auth     Authenticator // nil refuses everybody
	Logger   *slog.Logger
	// MaxPayloadBytes of one message. 0 means 8 MiB.
	MaxPayloadBytes int32
	// PingInterval and two unanswered pings end a silent connection. 0 means 20 s.
	PingInterval time.Duration

	OnConnect    func(node string)         // a node has a connection. nil for none
	OnDisconnect func(node, reason string) // a node's last connection has ended. nil for none
}

// Server is an embedded NATS server.
type Server struct{}

// New validates the options.
func New(o Options) (*Server, error) { return &Server{}, nil }

// Run serves until ctx ends, then shuts down and waits for the store to be closed.
func (s *Server) Run(ctx context.Context) error { return nil }

// Ready is closed once the server takes connections.
func (s *Server) Ready() <-chan struct{} { return nil }

// ClientURL is where clients connect. Empty before Ready and without a listener.
func (s *Server) ClientURL() string { return "" }

// InProcessConn connects the coordinator itself, with full permission; it is a nats.InProcessConnProvider, to be given to
// messaging.ConnectOptions.InProcess. There is no other way to full permission.
func (s *Server) InProcessConn() (net.Conn, error) { return nil, nil }

// NodeInProcess connects a node without a socket: it must log in as over the network. For tests and single-process runs.
func (s *Server) NodeInProcess() interface{ InProcessConn() (net.Conn, error) } { return nil }

// DisconnectNode ends all connections of a node and says how many there were.
func (s *Server) DisconnectNode(node string) int { return 0 }

// Connected says whether a node has a connection.
func (s *Server) Connected(node string) bool { return false }
