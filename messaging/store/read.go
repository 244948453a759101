package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
)

// Entry is one object at one revision.
type Entry struct {
	Key
	Value    []byte    // nil when deleted
	Revision uint64    // sequence in the stream
	Deleted  bool      // this revision is the deletion
	First    bool      // nothing was before this revision; false when that is not known
	Time     time.Time // when the server stored it
}

// Headers that make a message a deletion for the nats CLI and for us.
const (
	operationHeader = "KV-Operation"
	operationPurge  = "PURGE"
	markerHeader    = "Nats-Marker-Reason" // the server's own deletion marker
	baseHeader      = "Nats-Expected-Last-Subject-Sequence"
	// writeHeader names one attempt to change an object, so that its writer can find it again when the answer got lost and
	// the next write can demand to follow it. That the server also drops a second copy within a second is not relied on.
	writeHeader = jetstream.MsgIDHeader
)

// Get reads an object from the stream's leader; other replicas may be behind. It returns an ErrNotFound, and the
// deletion if it can still be seen, for an object that does not exist.
func (s *Store) Get(ctx context.Context, key Key) (Entry, error) {
	if err := key.validate(); err != nil {
		return Entry{}, err
	}
	m, err := s.last(ctx, key.subject())
	if err != nil {
		return Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	e := m.entry(key)
	if e.Deleted {
		return e, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return e, nil
}

// stored is a message as the stream keeps it.
type stored struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Header   []byte    `json:"hdrs,omitempty"`
	Data     []byte    `json:"data,omitempty"`
	Time     time.Time `json:"time"`

	header nats.Header
}

func (m stored) entry(key Key) Entry {
	e := Entry{Key: key, Revision: m.Sequence, Time: m.Time, Deleted: isDeletion(m.header)}
	if !e.Deleted {
		e.Value = m.Data
		e.First = m.header.Get(baseHeader) == "0"
	}
	return e
}

func isDeletion(h nats.Header) bool {
	op := h.Get(operationHeader)
	return op == operationPurge || op == "DEL" || h.Get(markerHeader) != ""
}

// last is the newest message of a subject, or ErrNotFound.
func (s *Store) last(ctx context.Context, subject string) (stored, error) {
	return s.read(ctx, map[string]any{"last_by_subj": subject})
}

// next is the first message of a subject at or after a sequence, or ErrNotFound.
func (s *Store) next(ctx context.Context, subject string, from uint64) (stored, error) {
	return s.read(ctx, map[string]any{"next_by_subj": subject, "seq": from})
}

// jsError is how JetStream says no.
type jsError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (s *Store) read(ctx context.Context, query map[string]any) (stored, error) {
	var answer struct {
		Error   *jsError `json:"error"`
		Message stored   `json:"message"`
	}
	if err := s.ask(ctx, "STREAM.MSG.GET."+messaging.StreamState, query, &answer); err != nil {
		return stored{}, err
	}
	if e := answer.Error; e != nil {
		const noMessage = 10037
		if e.ErrCode == noMessage {
			return stored{}, ErrNotFound
		}
		return stored{}, fmt.Errorf("%w: %s (%d)", ErrUnavailable, e.Description, e.ErrCode)
	}
	m := answer.Message
	if len(m.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return stored{}, fmt.Errorf("headers of revision %d: %w", m.Sequence, err)
		}
		m.header = h
	}
	return m, nil
}

// ask makes one JetStream request. Reads change nothing, so any silence is ErrUnavailable; the end of the context stays
// visible too.
func (s *Store) ask(ctx context.Context, verb string, query, answer any) error {
	ctx, cancel := withTimeout(ctx, attemptTime)
	defer cancel()
	body, err := json.Marshal(query)
	if err != nil {
		return fmt.Errorf("encode %s: %w", verb, err)
	}
	msg, err := s.nc.RequestWithContext(ctx, s.api+verb, body)
	if err != nil {
		return errors.Join(ErrUnavailable, err)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("answer to %s: %w", verb, err)
	}
	return nil
}

// withTimeout gives a context without a deadline one.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// state is what fencing and watching need to know of the stream.
type state struct {
	Created time.Time
	Last    uint64
}

func (s *Store) state(ctx context.Context) (state, error) {
	var answer struct {
		Error   *jsError  `json:"error"`
		Created time.Time `json:"created"`
		State   struct {
			Last uint64 `json:"last_seq"`
		} `json:"state"`
	}
	if err := s.ask(ctx, "STREAM.INFO."+messaging.StreamState, struct{}{}, &answer); err != nil {
		return state{}, err
	}
	if e := answer.Error; e != nil {
		return state{}, fmt.Errorf("%w: stream %s: %s", ErrUnavailable, messaging.StreamState, e.Description)
	}
	return state{Created: answer.Created, Last: answer.State.Last}, nil
}
