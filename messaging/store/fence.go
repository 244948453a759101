package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// fence refuses the writes of a coordinator that another one has followed.
//
// One coordinator at a time writes the stream, so it knows the stream's last message and can demand, besides the object's
// revision, that nothing at all has been stored since (Nats-Expected-Last-Msg-Id). The newer coordinator's first act is to
// store an epoch: from then on each write of the older one fails, wherever it was delayed. That costs no extra message.
// Writes stay pipelined, as a chain: each names the one sent before it. When one fails, those behind it fail too; then the
// writer waits until nothing is in flight, reads the stream's last sequence, and only then the epoch. In this order an
// epoch that is still ours proves that the sequence was read while it was, and the next write may demand that sequence.
// Sequences cannot be foretold for the writes behind it: another's message may have got the number that was meant for ours.
// A batch is sent when nothing is in flight, and demands the sequence.
type fence struct {
	gate sync.RWMutex // read: a write is in flight. write: none is, while the stream is looked at

	order sync.Mutex // held while a write is sent, so that writes leave in the order of their expectations
	epoch uint64     // 0: no fence
	name  string     // of the message that the next one must follow; empty: the one at tail
	tail  uint64     // the stream's last sequence, when name is empty
	stale bool       // neither is known

	deposed chan struct{} // closed when another epoch is known to be in force
}

func (f *fence) active() bool {
	f.order.Lock()
	defer f.order.Unlock()
	return f.epoch != 0
}

func (f *fence) fresh() bool {
	f.order.Lock()
	defer f.order.Unlock()
	return !f.stale
}

func (f *fence) fail() {
	f.order.Lock()
	defer f.order.Unlock()
	f.stale = true
}

func (f *fence) set(epoch, tail uint64) {
	f.order.Lock()
	defer f.order.Unlock()
	f.epoch, f.name, f.tail, f.stale = epoch, "", tail, false
}

// known gives the last sequence as far as a writer of which nothing is on its way knows it; zero without a fence. The
// caller holds gate.
func (f *fence) known() (tail uint64, ok bool) {
	f.order.Lock()
	defer f.order.Unlock()
	if f.epoch == 0 {
		return 0, true
	}
	return f.tail, !f.stale && f.name == ""
}

// advance takes the sequence of the last message of a batch. The caller holds gate.
func (f *fence) advance(tail uint64) {
	f.order.Lock()
	defer f.order.Unlock()
	f.name, f.tail = "", tail
}

// stored takes the sequence of a message that was acknowledged: unless another one was sent behind it, it is the last.
func (f *fence) stored(name string, revision uint64) {
	f.order.Lock()
	defer f.order.Unlock()
	if f.name == name {
		f.name, f.tail = "", revision
	}
}

// heard takes an epoch that was read from the stream.
func (f *fence) heard(epoch uint64) {
	f.order.Lock()
	defer f.order.Unlock()
	if f.epoch != 0 && epoch > f.epoch {
		f.depose()
	}
}

// heard takes an epoch that was read from the stream. Once another coordinator writes, the tail is not all there is.
func (s *Store) heard(epoch uint64) {
	s.fence.heard(epoch)
	select {
	case <-s.fence.deposed:
		s.tail.end()
	default:
	}
}

// depose closes deposed, once. The caller holds order.
func (f *fence) depose() {
	select {
	case <-f.deposed:
	default:
		close(f.deposed)
	}
}

// Deposed is closed once this store is known to write no more because another has opened a newer epoch, or because the
// stream that held ours is gone. A store that watches learns it at once, another with its next write. Whoever writes
// elsewhere in this coordinator's name must stop then.
func (s *Store) Deposed() <-chan struct{} { return s.fence.deposed }

// OpenEpoch declares this coordinator the writer and returns its fencing token, which grows with each call by anyone.
// From then on each write of this store is refused with ErrDeposed once another has opened a newer epoch. owner is for
// people. It waits for the writes that are in flight.
func (s *Store) OpenEpoch(ctx context.Context, owner string) (uint64, error) {
	ctx, cancel := withTimeout(ctx, writeTime)
	defer cancel()
	value, err := json.Marshal(map[string]any{"owner": owner, "opened": time.Now().UTC()})
	if err != nil {
		return 0, fmt.Errorf("open epoch: %w", err)
	}
	s.fence.gate.Lock()
	defer s.fence.gate.Unlock()
	s.fence.set(0, 0) // the epoch's own write is not fenced
	s.tail.end()
	for {
		epoch, err := s.writeEpoch(ctx, value)
		if errors.Is(err, ErrConflict) { // somebody opens one too: the later one wins
			continue
		}
		if err != nil {
			return 0, err
		}
		s.fence.set(epoch, epoch)
		s.tail.restart(epoch)
		return epoch, nil
	}
}

func (s *Store) writeEpoch(ctx context.Context, value []byte) (uint64, error) {
	base := uint64(0)
	last, err := s.last(ctx, epochSubject)
	if err == nil {
		base = last.Sequence
	} else if !errors.Is(err, ErrNotFound) {
		return 0, fmt.Errorf("open epoch: %w", err)
	}
	return s.write(ctx, makeWrite("open", Key{Kind: "leases", Name: "epoch"}, epochSubject, value, base))
}

// publishFenced is publish for a coordinator that has opened an epoch.
func (s *Store) publishFenced(ctx context.Context, w *write) (uint64, outcome, error) {
	if !s.fence.fresh() {
		if err := s.refreshTail(ctx); err != nil {
			return 0, refreshOutcome(err), err
		}
	}
	s.fence.gate.RLock()
	defer s.fence.gate.RUnlock()
	future, err := s.sendFenced(w)
	if err != nil {
		s.fence.fail()
		return 0, unsent(err), err
	}
	revision, out, err := await(ctx, future)
	if out == done {
		s.fence.stored(w.name, revision)
		s.tail.add(w.entry(revision))
	} else {
		s.loseTrack(out)
	}
	return revision, out, err
}

func (s *Store) sendFenced(w *write) (jetstream.PubAckFuture, error) {
	s.fence.order.Lock()
	defer s.fence.order.Unlock()
	m := w.message()
	if s.fence.name == "" {
		m.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(s.fence.tail, 10))
	} else {
		m.Header.Set(jetstream.ExpectedLastMsgIDHeader, s.fence.name)
	}
	future, err := s.send(m)
	if err == nil {
		s.fence.name = w.name
	}
	return future, err
}

// refreshTail waits until nothing is in flight and learns the last sequence anew. Which is read first matters: see fence.
func (s *Store) refreshTail(ctx context.Context) error {
	s.fence.gate.Lock()
	defer s.fence.gate.Unlock()
	if s.fence.fresh() {
		return nil
	}
	now, err := s.state(ctx)
	if err != nil {
		return err
	}
	last, err := s.last(ctx, epochSubject)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if last.Sequence != s.fence.epoch {
		s.fence.order.Lock()
		s.fence.depose()
		s.fence.order.Unlock()
		return fmt.Errorf("%w: epoch %d, ours is %d", ErrDeposed, last.Sequence, s.fence.epoch)
	}
	s.fence.set(s.fence.epoch, now.Last)
	s.tail.restart(now.Last)
	return nil
}

// loseTrack has the end of the stream learnt anew, after a publication that was not acknowledged. Unless it was refused, it
// may be in the stream.
func (s *Store) loseTrack(out outcome) {
	s.fence.fail()
	if out == lost || out == open {
		s.tail.end()
	}
}

func refreshOutcome(err error) outcome {
	if errors.Is(err, ErrDeposed) {
		return rejected
	}
	return open
}
