package assign

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging/batch"
)

// rounds lets parts that are put at the same time share one sync of the disk. Of a batch nodes may hear a moment before it
// is synced. Should the power fail in that moment, they hold what this coordinator's successor writes anew, and read their
// keys again when they connect to it.
type rounds = batch.Rounds[*nats.Msg, result]

// result is what became of one part.
type result struct {
	sequence uint64
	err      error
}

// publish stores a message and returns its sequence.
func (s *Store) publish(ctx context.Context, m *nats.Msg) (uint64, error) {
	r, ok := s.rounds.Do(ctx, m, m.Subject, len(m.Data))
	if !ok {
		return 0, context.Cause(ctx)
	}
	return r.sequence, r.err
}

func (s *Store) publishOne(ctx context.Context, m *nats.Msg) result {
	ack, err := s.js.PublishMsg(ctx, m)
	if err != nil {
		return result{err: err}
	}
	return result{sequence: ack.Sequence}
}

// publishBatch stores a round. When it fails, all its writers hear so, and put their parts again.
func (s *Store) publishBatch(ctx context.Context, round []*batch.Ticket[*nats.Msg, result]) bool {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	messages := make([]*nats.Msg, len(round))
	for i, t := range round {
		messages[i] = t.Message
	}
	last, err := batch.Publish(ctx, s.js.Conn(), messages)
	if err != nil {
		err = fmt.Errorf("batch of %d: %w", len(round), err)
	}
	for i, t := range round {
		t.Settle(result{last - uint64(len(round)-1-i), err}) //nolint:gosec // i is less than the length
	}
	return true
}
