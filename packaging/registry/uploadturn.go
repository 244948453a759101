package registry

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// uploadTable lets one request at a time use an upload. The newest wins: when a link breaks, the request that was
// reading from it may hang here until TCP gives up, while its client is already back and wants to go on.
type uploadTable struct {
	mu     sync.Mutex
	active map[string]*uploadTurn
}

// uploadTurn is the request that holds an upload.
type uploadTurn struct {
	rc   *http.ResponseController
	done chan struct{} // closed when the turn ends
}

// take waits for the upload's turn, cutting off the request that has it. done must be called to end the turn.
func (t *uploadTable) take(ctx context.Context, id string, rc *http.ResponseController) (done func(), err error) {
	turn := &uploadTurn{rc: rc, done: make(chan struct{})}
	for {
		t.mu.Lock()
		before := t.active[id]
		if before == nil {
			t.active[id] = turn
			t.mu.Unlock()
			return func() { t.end(id, turn) }, nil
		}
		// A server that cannot set deadlines lets the old request end by itself.
		_ = before.rc.SetReadDeadline(time.Unix(1, 0))
		t.mu.Unlock()
		select {
		case <-before.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (t *uploadTable) end(id string, turn *uploadTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, id)
	close(turn.done)
}

// busy says whether a request uses the upload now.
func (t *uploadTable) busy(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active[id] != nil
}
