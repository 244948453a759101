package messaging

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// acceptQueue is how many streams may wait for Accept; more are refused, and their nodes try again.
const acceptQueue = 64

// StreamListener hands the streams of one kind that nodes open to an http.Serve.
type StreamListener struct {
	nc    *nats.Conn
	kind  string
	sub   *nats.Subscription
	queue chan net.Conn

	mu     sync.Mutex
	closed chan struct{}
}

// Listen accepts streams of a kind that nodes open with DialContext, until the listener is closed.
func Listen(nc *nats.Conn, kind string) (*StreamListener, error) {
	l := &StreamListener{nc: nc, kind: kind, queue: make(chan net.Conn, acceptQueue), closed: make(chan struct{})}
	var err error
	if l.sub, err = nc.Subscribe(NodeAPIAll(dialVerb(kind)), l.open); err != nil {
		return nil, fmt.Errorf("listen for %s streams: %w", kind, err)
	}
	return l, nil
}

// dialVerb has the kind in the subject, so that a kind that nobody serves is refused at once.
func dialVerb(kind string) string { return "dial." + Token(kind) }

// open runs on the subscription's goroutine.
func (l *StreamListener) open(msg *nats.Msg) {
	node, err := nodeOf(msg.Subject)
	if err == nil {
		err = l.accept(msg, node)
	}
	if err != nil {
		// The node learns it, or its request times out: nobody here could do more.
		_ = RefuseStream(msg, err.Error())
	}
}

func (l *StreamListener) accept(msg *nats.Msg, node string) error {
	req, err := ParseOpenRequest(msg, "")
	if err != nil {
		return err
	}
	if len(l.queue) == cap(l.queue) { // nobody else fills it
		return fmt.Errorf("too many %s streams wait to be served", l.kind)
	}
	conn, err := AcceptStream(l.nc, msg, req, node, CoordinatorSide)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.closed) {
		return conn.Close()
	}
	l.queue <- conn
	return nil
}

// Accept returns the next stream. Its RemoteAddr().String() is the node's name, which permissions prove.
func (l *StreamListener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case conn := <-l.queue:
		return conn, nil
	}
}

// Close stops accepting; streams that were accepted stay open.
func (l *StreamListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if isClosed(l.closed) {
		return nil
	}
	close(l.closed)
	err := l.sub.Unsubscribe()
	for len(l.queue) > 0 {
		_ = (<-l.queue).Close() // nobody will serve them
	}
	if err != nil {
		return fmt.Errorf("stop listening for %s streams: %w", l.kind, err)
	}
	return nil
}

// Addr names the kind.
func (l *StreamListener) Addr() net.Addr { return streamAddr(l.kind) }

// DialContext returns a function for http.Transport that opens a stream of a kind to the coordinator; the address it is
// called with goes along as Params["address"].
func DialContext(nc *nats.Conn, node, kind string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return OpenStream(ctx, nc, OpenParams{
			RequestSubject: NodeAPISubject(node, dialVerb(kind)), Node: node, Kind: kind,
			Params: map[string]string{"address": address},
		})
	}
}

// nodeOf is the node that made a request on NodeAPISubject.
func nodeOf(subject string) (string, error) {
	rest, ok := strings.CutPrefix(subject, root+"api.node.")
	token, _, more := strings.Cut(rest, ".")
	if !ok || !more {
		return "", fmt.Errorf("subject %q is not a node's request", subject)
	}
	return ParseToken(token)
}
