package store

import (
	"context"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging/batch"
)

// rounds lets writes that meet share one sync of the disk. A batch is atomic, which it need not be: one that is refused,
// because of one of its writes, is sent as a message each.
type (
	rounds = batch.Rounds[*write, result]
	ticket = batch.Ticket[*write, result]
)

// result is what became of one publication.
type result struct {
	revision uint64
	outcome  outcome
	err      error
}

// publishGrouped is publish by way of a round.
func (s *Store) publishGrouped(ctx context.Context, w *write) (uint64, outcome, error) {
	r, ok := s.rounds.Do(ctx, w, w.subject, len(w.value))
	if !ok {
		return 0, lost, context.Cause(ctx)
	}
	return r.revision, r.outcome, r.err
}

// publishSingle is publishOne for a write that waits in a round.
func (s *Store) publishSingle(ctx context.Context, w *write) result {
	revision, out, err := s.publishOne(ctx, w)
	return result{revision, out, err}
}

// publishBatch publishes a round as one batch and settles its tickets. It returns false when nothing was stored and the
// writes are to be tried one by one.
func (s *Store) publishBatch(ctx context.Context, round []*ticket) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	s.fence.gate.Lock() // nothing else may be on its way: the batch must know the stream's last sequence
	defer s.fence.gate.Unlock()
	expected, known := s.fence.known()
	if !known {
		return false // each write learns it for itself
	}
	defer s.horizon.raise(expected)()
	last, err := s.sendBatch(ctx, round, expected)
	if err == nil {
		s.fence.advance(last)
		s.batched(round, last)
		return true
	}
	out := classify(err)
	s.loseTrack(out)
	if out == lost || out == open {
		for _, t := range round {
			t.Settle(result{0, out, err})
		}
		return true
	}
	return false
}

// batched settles a round that was stored up to a revision.
func (s *Store) batched(round []*ticket, last uint64) {
	entries := make([]Entry, len(round))
	for i, t := range round {
		entries[i] = t.Message.entry(last - uint64(len(round)-1-i)) //nolint:gosec // i is less than the length
	}
	s.tail.add(entries...)
	for i, t := range round {
		t.Settle(result{entries[i].Revision, done, nil})
	}
}

// sendBatch sends a batch and returns the sequence of its last message.
func (s *Store) sendBatch(ctx context.Context, round []*ticket, expected uint64) (uint64, error) {
	messages := make([]*nats.Msg, len(round))
	for i, t := range round {
		messages[i] = t.Message.message()
	}
	if s.fence.active() {
		messages[0].Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(expected, 10))
	}
	return batch.Publish(ctx, s.nc, messages)
}

// horizon holds back what watches have heard of but is perhaps not on disk yet. A message by itself is synced before it is
// delivered, a batch a moment after.
type horizon struct {
	mu    sync.Mutex
	above uint64        // what is newer is not certain
	clear chan struct{} // closed when it is; nil when all is
}

// raise makes all above a revision uncertain until settled is called.
func (h *horizon) raise(above uint64) (settled func()) {
	clear := make(chan struct{})
	h.mu.Lock()
	h.above, h.clear = above, clear
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		h.clear = nil
		h.mu.Unlock()
		close(clear)
	}
}

// wait returns when a revision that was delivered is on disk, or when ctx ends.
func (h *horizon) wait(ctx context.Context, revision uint64) error {
	h.mu.Lock()
	above, clear := h.above, h.clear
	h.mu.Unlock()
	if clear == nil || revision <= above {
		return nil
	}
	select {
	case <-clear:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
