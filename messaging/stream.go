package messaging

import (
	"context"
	"errors"
	"net"

	"github.com/nats-io/nats.go"
)

// ErrStreamReset means that a byte stream broke: a frame was lost, the peer vanished, or it broke the protocol.
var ErrStreamReset = errors.New("stream reset")

// RefusedError is why the other side did not open a stream.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "stream refused: " + e.Reason }

// OpenParams says which stream to open, and with whom.
type OpenParams struct {
	// RequestSubject is CommandSubject(node, "open"), or NodeAPISubject(node, "dial") from the node.
	RequestSubject string
	Node           string // whose stream subjects to use
	Kind           string // OpenRequest.Kind
	Params         map[string]string
	// Sign signs the request; nil from a node, which its permissions identify.
	Sign *Signer
}

// Side says which end of a stream we are.
type Side int

// The two ends: the node writes "out" and reads "in", the coordinator the other way round.
const (
	NodeSide Side = iota + 1
	CoordinatorSide
)

// OpenStream opens a byte stream. The connection has a CloseWrite method. A refusal is a *RefusedError.
func OpenStream(ctx context.Context, nc *nats.Conn, p OpenParams) (net.Conn, error) {
	return nil, ErrStreamReset
}

// AcceptStream answers msg, an OpenRequest, with yes and returns our end of the stream. It has a CloseWrite method.
func AcceptStream(nc *nats.Conn, msg *nats.Msg, req OpenRequest, node string, side Side) (net.Conn, error) {
	return nil, ErrStreamReset
}

// RefuseStream answers msg, an OpenRequest, with a reason that the other side's user will read.
func RefuseStream(msg *nats.Msg, reason string) error { return ErrStreamReset }

// ParseOpenRequest reads an OpenRequest from msg. With a publicKey it must be signed by it and not be expired.
func ParseOpenRequest(msg *nats.Msg, publicKey string) (OpenRequest, error) {
	return OpenRequest{}, ErrSignature
}

// StreamListener hands the streams of one kind that nodes open to an http.Serve.
type StreamListener struct{}

// Listen accepts streams of a kind that nodes dial (NodeAPISubject(node, "dial")) until the listener is closed.
func Listen(nc *nats.Conn, kind string) (*StreamListener, error) { return nil, ErrStreamReset }

// Accept returns the next stream. Its RemoteAddr().String() is the node's name, proven by permissions.
func (l *StreamListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }

// Close stops accepting; streams that are open stay open.
func (l *StreamListener) Close() error { return nil }

// Addr is the subject listened to.
func (l *StreamListener) Addr() net.Addr { return nil }

// DialContext returns a function for http.Transport that opens a stream of a kind to the coordinator; the address it is
// called with goes along as Params["address"].
func DialContext(nc *nats.Conn, node, kind string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return nil
}
