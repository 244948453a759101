package store

import (
	"context"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging/batch"
)

// group lets writes that meet share one sync of the disk. They go in rounds: what comes while a round is on its way is the
// next one. A round of few writes is a message each; one of many is an atomic batch, of which the server syncs the last
// message only. Atomic it need not be: a batch that is refused, because of one of its writes, is sent as a message each.
type group struct {
	least int // writes that make a batch

	mu      sync.Mutex
	waiting []*ticket
	busy    bool // a round is on its way
}

// ticket is one publication that waits for its round.
type ticket struct {
	ctx      context.Context //nolint:containedctx // of its writer, who may give up before the round does
	write    *write
	done     chan struct{} // closed once the rest is there
	revision uint64
	outcome  outcome
	err      error
}

func (t *ticket) settle(revision uint64, out outcome, err error) {
	t.revision, t.outcome, t.err = revision, out, err
	close(t.done)
}

// publishGrouped is publish by way of a round.
func (s *Store) publishGrouped(ctx context.Context, w *write) (uint64, outcome, error) {
	t := &ticket{ctx: ctx, write: w, done: make(chan struct{})}
	if s.group.join(t) {
		go s.rounds(context.WithoutCancel(ctx)) // ends when nobody waits any more
	}
	select {
	case <-t.done:
		return t.revision, t.outcome, t.err
	case <-ctx.Done():
		return 0, lost, context.Cause(ctx)
	}
}

// join queues a ticket. It reports whether the caller must see to it that rounds are made.
func (g *group) join(t *ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, t)
	lead := !g.busy
	g.busy = true
	return lead
}

// next takes the next round off the queue: in order, each object once, within the bounds. Nil ends the rounds.
func (g *group) next() []*ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	var round, rest []*ticket
	subjects, bytes := map[string]bool{}, 0
	for _, t := range g.waiting {
		if t.ctx.Err() != nil { // nobody waits for it any more
			t.settle(0, open, context.Cause(t.ctx))
			continue
		}
		fits := len(round) == 0 || len(round) < batch.MaxMessages && bytes+len(t.write.value) <= batch.MaxBytes
		if !fits || subjects[t.write.subject] {
			rest = append(rest, t)
			continue
		}
		round, bytes = append(round, t), bytes+len(t.write.value)
		subjects[t.write.subject] = true
	}
	g.waiting, g.busy = rest, len(round) > 0
	return round
}

// rounds makes rounds until nobody waits.
func (s *Store) rounds(ctx context.Context) {
	for round := s.group.next(); round != nil; round = s.group.next() {
		if len(round) >= s.group.least && s.publishBatch(ctx, round) {
			continue
		}
		var singles sync.WaitGroup
		for _, t := range round[1:] {
			singles.Go(func() { t.settle(s.publishOne(t.ctx, t.write)) })
		}
		round[0].settle(s.publishOne(round[0].ctx, round[0].write)) //nolint:contextcheck // each ends with its own writer
		singles.Wait()
	}
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
			t.settle(0, out, err)
		}
		return true
	}
	return false
}

// batched settles a round that was stored up to a revision.
func (s *Store) batched(round []*ticket, last uint64) {
	entries := make([]Entry, len(round))
	for i, t := range round {
		entries[i] = t.write.entry(last - uint64(len(round)-1-i)) //nolint:gosec // i is less than the length
	}
	s.tail.add(entries...)
	for i, t := range round {
		t.settle(entries[i].Revision, done, nil)
	}
}

// sendBatch sends a batch and returns the sequence of its last message.
func (s *Store) sendBatch(ctx context.Context, round []*ticket, expected uint64) (uint64, error) {
	messages := make([]*nats.Msg, len(round))
	for i, t := range round {
		messages[i] = t.write.message()
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
