package uplink

import (
	"context"
	"sync"

	"github.com/nats-io/nats.go"
)

// link ends what waits for an answer when the connection over which it would come is lost. nats.go would wait on.
type link struct {
	mu     sync.Mutex
	broken chan struct{} // closed while there is no connection
}

func newLink() *link { return &link{broken: make(chan struct{})} }

func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.broken:
	default:
		close(l.broken)
	}
}

func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.broken:
		l.broken = make(chan struct{})
	default:
	}
}

// request is a context for one request: it ends after requestTimeout, or with the connection.
func (l *link) request(ctx context.Context) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	broken := l.broken
	l.mu.Unlock()
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	ctx, fail := context.WithCancelCause(ctx)
	go func() { // ends with the request
		select {
		case <-broken:
			fail(nats.ErrDisconnected)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { fail(context.Canceled); stop() }
}
