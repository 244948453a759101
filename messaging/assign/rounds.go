package assign

import (
	"context"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging/batch"
)

// rounds lets parts that are put at the same time share one sync of the disk: what comes while a round is on its way is the
// next one. A round of many is a batch, of which nodes may hear a moment before it is synced. Should the power fail in that
// moment, they hold what this coordinator's successor writes anew, and read their keys again when they connect to it.
type rounds struct {
	least int // parts that make a batch

	mu      sync.Mutex
	waiting []*ticket
	busy    bool // a round is on its way
}

// ticket is one part that waits for its round.
type ticket struct {
	ctx      context.Context //nolint:containedctx // of its writer, who may give up before the round does
	message  *nats.Msg
	done     chan struct{} // closed once the rest is there
	sequence uint64
	err      error
}

func (t *ticket) settle(sequence uint64, err error) {
	t.sequence, t.err = sequence, err
	close(t.done)
}

// publish stores a message and returns its sequence.
func (s *Store) publish(ctx context.Context, m *nats.Msg) (uint64, error) {
	t := &ticket{ctx: ctx, message: m, done: make(chan struct{})}
	if s.rounds.join(t) {
		go s.run(context.WithoutCancel(ctx)) // ends when nobody waits any more
	}
	select {
	case <-t.done:
		return t.sequence, t.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// join queues a ticket. It reports whether the caller must see to it that rounds are made.
func (r *rounds) join(t *ticket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, t)
	lead := !r.busy
	r.busy = true
	return lead
}

// next takes the next round off the queue, in order and within a batch's bounds. Nil ends the rounds.
func (r *rounds) next() []*ticket {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, bytes := 0, 0
	for n < len(r.waiting) && n < batch.MaxMessages && (n == 0 || bytes+len(r.waiting[n].message.Data) <= batch.MaxBytes) {
		bytes += len(r.waiting[n].message.Data)
		n++
	}
	round := r.waiting[:n:n]
	if r.waiting = r.waiting[n:]; n == 0 {
		r.waiting, r.busy, round = nil, false, nil
	}
	return round
}

// run makes rounds until nobody waits.
func (s *Store) run(ctx context.Context) {
	for round := s.rounds.next(); round != nil; round = s.rounds.next() {
		if len(round) >= s.rounds.least {
			s.publishBatch(ctx, round)
			continue
		}
		var singles sync.WaitGroup
		for _, t := range round {
			singles.Go(func() { t.settle(s.publishOne(t.ctx, t.message)) })
		}
		singles.Wait()
	}
}

func (s *Store) publishOne(ctx context.Context, m *nats.Msg) (uint64, error) {
	ack, err := s.js.PublishMsg(ctx, m)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// publishBatch stores a round. When it fails, all its writers hear so, and put their parts again.
func (s *Store) publishBatch(ctx context.Context, round []*ticket) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	messages := make([]*nats.Msg, len(round))
	for i, t := range round {
		messages[i] = t.message
	}
	last, err := batch.Publish(ctx, s.js.Conn(), messages)
	if err != nil {
		err = fmt.Errorf("batch of %d: %w", len(round), err)
	}
	for i, t := range round {
		t.settle(last-uint64(len(round)-1-i), err) //nolint:gosec // i is less than the length
	}
}
