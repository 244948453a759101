package batch

import (
	"context"
	"sync"
)

// Rounds let messages that meet share one sync of the disk: what comes while a round is on its way is the next one. A round
// of few is a message each, one of many a batch. M is a message of one stream as its store has it, R what became of it.
//
// The fields must be set, and do not change. Do may be called concurrently.
type Rounds[M, R any] struct {
	// Least is how many messages make a batch; see the function Least.
	Least int
	// One stores a message by itself. ctx is its writer's.
	One func(ctx context.Context, message M) R
	// Many stores a round as a batch, and settles its tickets, each once; its ctx never ends. Or it stores nothing, settles none
	// and returns false: then the messages are stored one by one.
	Many func(ctx context.Context, round []*Ticket[M, R]) bool

	mu      sync.Mutex
	waiting []*Ticket[M, R]
	busy    bool // a round is on its way
}

// Ticket is a message that waits for its round.
type Ticket[M, R any] struct {
	Message M

	ctx     context.Context //nolint:containedctx // of its writer, who may give up before the round does
	subject string
	bytes   int
	done    chan struct{} // closed once the result is there
	result  R
}

// Settle tells the writer what became of its message.
func (t *Ticket[M, R]) Settle(r R) {
	t.result = r
	close(t.done)
}

// Do has a message stored by way of a round and returns what became of it. subject is where it goes, and bytes is the size of
// its data. ok is false when ctx ended before that was known: it is then perhaps stored, or will be.
func (r *Rounds[M, R]) Do(ctx context.Context, message M, subject string, bytes int) (result R, ok bool) {
	t := &Ticket[M, R]{Message: message, ctx: ctx, subject: subject, bytes: bytes, done: make(chan struct{})}
	if r.join(t) {
		go r.run(context.WithoutCancel(ctx)) // ends when nobody waits any more
	}
	select {
	case <-t.done:
		return t.result, true
	case <-ctx.Done():
		return result, false
	}
}

// join queues a ticket. It reports whether the caller must see to it that rounds are made.
func (r *Rounds[M, R]) join(t *Ticket[M, R]) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(r.waiting, t)
	lead := !r.busy
	r.busy = true
	return lead
}

// next takes the next round off the queue: in order, each subject once, within the bounds of a batch, and without those
// that nobody waits for any more. Nil ends the rounds.
func (r *Rounds[M, R]) next() []*Ticket[M, R] {
	r.mu.Lock()
	defer r.mu.Unlock()
	var round, rest []*Ticket[M, R]
	subjects, bytes := map[string]bool{}, 0
	for _, t := range r.waiting {
		if t.ctx.Err() != nil {
			continue
		}
		fits := len(round) == 0 || len(round) < MaxMessages && bytes+t.bytes <= MaxBytes
		if !fits || subjects[t.subject] {
			rest = append(rest, t)
			continue
		}
		round, bytes = append(round, t), bytes+t.bytes
		subjects[t.subject] = true
	}
	r.waiting, r.busy = rest, len(round) > 0
	return round
}

// run makes rounds until nobody waits.
func (r *Rounds[M, R]) run(ctx context.Context) {
	for round := r.next(); round != nil; round = r.next() {
		if len(round) >= r.Least && r.Many(ctx, round) {
			continue
		}
		var singles sync.WaitGroup
		for _, t := range round[1:] {
			singles.Go(func() { t.Settle(r.One(t.ctx, t.Message)) })
		}
		round[0].Settle(r.One(round[0].ctx, round[0].Message)) //nolint:contextcheck // each ends with its own writer
		singles.Wait()
	}
}
