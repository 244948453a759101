package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Create writes an object that does not exist, and returns its revision; ErrExists otherwise.
func (s *Store) Create(ctx context.Context, key Key, value []byte) (uint64, error) {
	w, err := newWrite("create", key, value, 0)
	if err != nil {
		return 0, err
	}
	ctx, cancel := withTimeout(ctx, writeTime)
	defer cancel()
	revision, err := s.write(ctx, w)
	// A deletion that can still be seen counts as the object's last revision: replace exactly that one.
	for errors.Is(err, ErrConflict) && sleep(ctx, time.Millisecond) {
		last, getErr := s.last(ctx, w.subject)
		switch {
		case errors.Is(getErr, ErrNotFound):
			w.rebase(0)
		case getErr != nil:
			return 0, fmt.Errorf("create %s: %w", key, getErr)
		case !isDeletion(last.header):
			return 0, fmt.Errorf("create %s: %w at revision %d", key, ErrExists, last.Sequence)
		default:
			w.rebase(last.Sequence)
		}
		revision, err = s.write(ctx, w)
	}
	return revision, err
}

// Update replaces the object at revision and returns the new revision; ErrConflict if it is at another revision or gone.
func (s *Store) Update(ctx context.Context, key Key, value []byte, revision uint64) (uint64, error) {
	w, err := newWrite("update", key, value, revision)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		return 0, fmt.Errorf("update %s: %w: revision 0", key, ErrConflict)
	}
	return s.write(ctx, w)
}

// Delete removes the object at revision and returns the revision of the deletion; ErrConflict as Update. Watchers that
// resume can see the deletion for Options.MarkerTTL.
func (s *Store) Delete(ctx context.Context, key Key, revision uint64) (uint64, error) {
	w, err := newWrite("delete", key, nil, revision)
	if err != nil {
		return 0, err
	}
	if revision == 0 {
		return 0, fmt.Errorf("delete %s: %w: revision 0", key, ErrConflict)
	}
	w.header.Set(operationHeader, operationPurge)
	w.header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	w.header.Set(jetstream.MsgTTLHeader, s.markerTTL.String())
	return s.write(ctx, w)
}

// write is one change of one object, which may need several publications. All of them carry one name, so that it takes
// effect at most once and its outcome can be looked up.
type write struct {
	verb    string
	key     Key
	subject string
	name    string
	base    uint64 // the revision that it replaces; 0 for none
	header  nats.Header
	value   []byte
}

func newWrite(verb string, key Key, value []byte, base uint64) (*write, error) {
	if err := key.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	return makeWrite(verb, key, key.subject(), value, base), nil
}

func makeWrite(verb string, key Key, subject string, value []byte, base uint64) *write {
	w := &write{verb: verb, key: key, subject: subject, name: nuid.Next(), header: nats.Header{}, value: value}
	w.header.Set(writeHeader, w.name)
	w.rebase(base)
	return w
}

func (w *write) rebase(base uint64) {
	w.base = base
	w.header.Set(baseHeader, strconv.FormatUint(base, 10))
}

// message is a fresh copy: nats.go keeps what it is given until the answer.
func (w *write) message() *nats.Msg {
	m := &nats.Msg{Subject: w.subject, Header: make(nats.Header, len(w.header)+1), Data: w.value}
	maps.Copy(m.Header, w.header)
	return m
}

// outcome is what one publication, or a look-up, says of a write.
type outcome int

const (
	done     outcome = iota // stored
	refused                 // not stored, and its compare-and-set failed
	rejected                // not stored, for another reason
	lost                    // perhaps stored, perhaps later
	open                    // not stored so far, and nothing speaks against trying again
)

// write publishes until the outcome is known or the context ends.
func (s *Store) write(ctx context.Context, w *write) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s %s: %w", w.verb, w.key, err)
	}
	if err := s.room(reserveBytes[w.verb]); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %w", w.verb, w.key, ErrFull, err)
	}
	ctx, cancel := withTimeout(ctx, writeTime)
	defer cancel()
	doubt := false // an earlier publication may still be stored
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		revision, out, err := s.publish(ctx, w)
		if out == refused && (doubt || s.fence.active()) {
			revision, out, err = s.lookUp(ctx, w, doubt)
		}
		switch out {
		case done:
			return revision, nil
		case refused:
			return 0, fmt.Errorf("%s %s at revision %d: %w", w.verb, w.key, w.base, ErrConflict)
		case rejected:
			return 0, fmt.Errorf("%s %s: %w", w.verb, w.key, rejection(err, doubt))
		case lost:
			doubt = true
		case open:
		}
		if !sleep(ctx, pause) {
			return 0, fmt.Errorf("%s %s: %w", w.verb, w.key, ended(ctx, err, doubt))
		}
	}
}

// rejection gives a refusal its meaning, or admits that an earlier publication may have been stored all the same.
func rejection(err error, doubt bool) error {
	var api *jetstream.APIError
	const messageTooLarge = 10054
	switch {
	case errors.Is(err, ErrDeposed) && !doubt, errors.Is(err, ErrUnknownOutcome):
		return err
	case doubt:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == messageTooLarge:
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// ended says why a write was given up when its context ended.
func ended(ctx context.Context, err error, doubt bool) error {
	base := ErrUnavailable
	if doubt {
		base = ErrUnknownOutcome
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w: %w", base, err)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// publish sends a write once and waits for the answer.
func (s *Store) publish(ctx context.Context, w *write) (uint64, outcome, error) {
	select {
	case s.inFlight <- struct{}{}:
		defer func() { <-s.inFlight }()
	case <-ctx.Done():
		return 0, open, context.Cause(ctx)
	}
	if w.subject == epochSubject { // its writer holds what a batch needs
		return s.publishOne(ctx, w)
	}
	return s.publishGrouped(ctx, w)
}

// publishOne is publish as a message by itself.
func (s *Store) publishOne(ctx context.Context, w *write) (uint64, outcome, error) {
	if s.fence.active() {
		return s.publishFenced(ctx, w)
	}
	future, err := s.send(w.message())
	if err != nil {
		return 0, unsent(err), err
	}
	return await(ctx, future)
}

// unsent says whether a message that could not even be sent is worth another try.
func unsent(err error) outcome {
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrMaxPayload) {
		return rejected
	}
	return open
}

func (s *Store) send(m *nats.Msg) (jetstream.PubAckFuture, error) {
	// The retries of nats.go would run in the background, out of order. write has its own.
	return s.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
}

func await(ctx context.Context, future jetstream.PubAckFuture) (uint64, outcome, error) {
	select {
	case ack := <-future.Ok():
		return ack.Sequence, done, nil
	case err := <-future.Err():
		out := classify(err)
		return 0, out, err
	case <-ctx.Done():
		return 0, lost, context.Cause(ctx)
	}
}

// Codes that nats.go has no names for.
const (
	wrongLastMsgID     jetstream.ErrorCode = 10070
	duplicateInProcess jetstream.ErrorCode = 10158
)

// classify says what an error of a publication means for the message.
func classify(err error) outcome {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
			api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant):
		return refused
	case errors.As(err, &api) && api.ErrorCode == wrongLastMsgID: // only a fenced write demands one
		return open
	case errors.As(err, &api) && api.ErrorCode == duplicateInProcess:
		return lost
	case errors.As(err, &api):
		return rejected
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return open // there was nobody to store it
	default:
		return lost
	}
}

// lookUp finds out what became of a write that was refused, when the refusal may concern a second copy of it or, with a
// fence, another object. Exactly one message can have replaced a base: the first one after it.
func (s *Store) lookUp(ctx context.Context, w *write, doubt bool) (uint64, outcome, error) {
	first, err := s.next(ctx, w.subject, w.base+1)
	switch {
	case errors.Is(err, ErrNotFound):
		return s.lookUpBase(ctx, w)
	case err != nil:
		return 0, open, err
	case first.header.Get(writeHeader) == w.name:
		return first.Sequence, done, nil
	case first.header.Get(baseHeader) == strconv.FormatUint(w.base, 10) || !doubt:
		return 0, refused, nil
	default: // so much has happened since that ours, if it was stored, is no longer kept
		return 0, rejected, fmt.Errorf("%w: revision %d has been replaced many times", ErrUnknownOutcome, w.base)
	}
}

// lookUpBase decides when nothing has replaced the base: is it still there?
func (s *Store) lookUpBase(ctx context.Context, w *write) (uint64, outcome, error) {
	last, err := s.last(ctx, w.subject)
	switch {
	case errors.Is(err, ErrNotFound) && w.base == 0, err == nil && last.Sequence == w.base:
		return 0, open, nil
	case errors.Is(err, ErrNotFound), err == nil:
		return 0, refused, nil
	default:
		return 0, open, err
	}
}
