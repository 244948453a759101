package automation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/store"
)

const (
	// eventsAge is how long a change can be read from the stream EVENTS.
	eventsAge = 7 * 24 * time.Hour
	// publishLimit is how long one publish may take.
	publishLimit = 10 * time.Second
	// maxUnanswered bounds the messages sent ahead of the server's answers.
	maxUnanswered = 256
	maxPause      = 10 * time.Second

	// Where a restarted publisher goes on: behind which revision, when that was the newest, and in which life of the
	// store.
	headerRevision = "Skerry-Revision"
	headerSeen     = "Skerry-Seen"
	headerStream   = "Skerry-Stream"
)

// Change is the payload of a message in the stream EVENTS.
type Change struct {
	// Type is ADDED, MODIFIED or DELETED; or RESYNC, without an object: changes before Revision may be missing, list to
	// learn the present state. It comes when the store no longer has what happened since the last message.
	Type      string          `json:"type"`
	Kind      string          `json:"kind"` // plural, as in the subject
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name,omitempty"`
	Revision  uint64          `json:"revision"`         // of the store; also the message's id
	Object    json.RawMessage `json:"object,omitempty"` // a Secret is without data; of a DELETED one the last state told
}

const (
	typeResync = "RESYNC"
	resyncKind = "state" // of a RESYNC
)

// Source is the store to follow: a *store.Store.
type Source interface {
	Watch(ctx context.Context, o store.WatchOptions, handle func(store.Update) error) error
}

// EventsConfig is what Events need. View and Log may be nil, all else must be set.
type EventsConfig struct {
	JS     jetstream.JetStream
	Source Source
	// View spares decoding and encoding what it has at the same revision.
	View     *view.View
	Storage  jetstream.StorageType
	Replicas int // 0 means 1
	Log      *slog.Logger
}

// Events publishes every change of the store to the stream EVENTS, each once and in order of revision. Only the leading
// coordinator may run it; should two run, the stream accepts each message from one of them only.
//
// It goes on behind the last message in the stream, so neither a restart nor a lost connection leaves a gap while the
// store still has the changes since; deletions can be told for about 21 hours. After that, a RESYNC message comes first
// and then, as MODIFIED, what exists and is newer than the last message. Of what was deleted before it could be told, only
// the deletion is told: it takes the earlier revisions out of the store.
//
// The stream is not synced to disk message by message: it is derived from the store, which is. A power cut may take the
// last messages, which are then told again, with the same ids.
type Events struct {
	EventsConfig
}

// NewEvents checks the configuration.
func NewEvents(c EventsConfig) (*Events, error) {
	if c.JS == nil || c.Source == nil {
		return nil, errors.New("automation events: JS and Source must be set")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Events{EventsConfig: c}, nil
}

// Run publishes until ctx ends. Failures are retried for ever: changes wait in the store meanwhile.
func (e *Events) Run(ctx context.Context) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, maxPause) {
		started := time.Now()
		err := e.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, errResume) {
			e.Log.Warn("change events interrupted", "err", err)
		}
		if time.Since(started) > time.Minute {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// errResume ends a session whose watch lost its place, though the last message in the stream still knows it.
var errResume = errors.New("watch must resume")

// session publishes from where the stream ends until something fails.
func (e *Events) session(ctx context.Context) error {
	stream, err := e.open(ctx)
	if err != nil {
		return err
	}
	last, err := readLast(ctx, stream)
	if err != nil {
		return err
	}
	p := &publisher{events: e, stream: stream, last: last, known: map[store.Key]bool{}, fresh: last.sequence == 0}
	if last.cursor.Revision > 0 {
		err = e.Source.Watch(ctx, store.WatchOptions{From: last.cursor}, func(u store.Update) error { return p.follow(ctx, u) })
		if !errors.Is(err, store.ErrExpired) {
			return err
		}
		e.Log.Warn("change events have a gap", "after", last.cursor.Revision, "err", err)
	}
	return e.Source.Watch(ctx, store.WatchOptions{}, func(u store.Update) error { return p.restart(ctx, u) })
}

func (e *Events) open(ctx context.Context) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	mode, err := e.persistMode(ctx)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", messaging.StreamEvents, err)
	}
	s, err := e.JS.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: messaging.StreamEvents, Subjects: []string{messaging.EventAll}, Description: "Every change of every object",
		Storage: e.Storage, Replicas: max(1, e.Replicas), MaxAge: eventsAge, Discard: jetstream.DiscardOld, AllowDirect: true,
		PersistMode: mode,
		Duplicates:  time.Second, // ids repeat when the store is made anew; what keeps messages single is their expected place
	})
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", messaging.StreamEvents, err)
	}
	return s, nil
}

// persistMode is the stream's own if it exists, since that cannot be changed; else the cheapest that its storage allows.
func (e *Events) persistMode(ctx context.Context) (jetstream.PersistModeType, error) {
	have, err := e.JS.Stream(ctx, messaging.StreamEvents)
	switch {
	case err == nil:
		return have.CachedInfo().Config.PersistMode, nil
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, err
	case e.Storage == jetstream.FileStorage && e.Replicas <= 1:
		return jetstream.AsyncPersistMode, nil
	}
	return jetstream.DefaultPersistMode, nil
}

// position is the last message in the stream.
type position struct {
	sequence uint64
	cursor   store.Cursor
}

// readLast finds where the stream ends. A stream that never had a message gives a zero position; one whose messages have
// all aged away, a position without a revision.
func readLast(ctx context.Context, stream jetstream.Stream) (position, error) {
	ctx, cancel := context.WithTimeout(ctx, publishLimit)
	defer cancel()
	info, err := stream.Info(ctx)
	if err != nil {
		return position{}, fmt.Errorf("read end of stream %s: %w", messaging.StreamEvents, err)
	}
	p := position{sequence: info.State.LastSeq}
	if info.State.Msgs == 0 {
		return p, nil
	}
	msg, err := stream.GetMsg(ctx, p.sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return p, nil // deleted by hand: the same as aged
	}
	if err != nil {
		return p, fmt.Errorf("read message %d of stream %s: %w", p.sequence, messaging.StreamEvents, err)
	}
	p.cursor = cursorOf(msg.Header)
	return p, nil
}

// cursorOf reads what publish wrote. What a stranger published has no cursor and counts as a gap.
func cursorOf(h nats.Header) store.Cursor {
	revision, err1 := strconv.ParseUint(h.Get(headerRevision), 10, 64)
	seen, err2 := time.Parse(time.RFC3339Nano, h.Get(headerSeen))
	stream, err3 := time.Parse(time.RFC3339Nano, h.Get(headerStream))
	if errors.Join(err1, err2, err3) != nil {
		return store.Cursor{}
	}
	return store.Cursor{Revision: revision, Time: seen, Stream: stream}
}

// verbOf is the last token of a change's subject.
func verbOf(t watch.EventType) string {
	switch t {
	case watch.Added:
		return "added"
	case watch.Deleted:
		return "deleted"
	case watch.Modified, watch.Bookmark, watch.Error:
	}
	return "modified"
}

// kindOf is the kind of a key; nil when it is not served any more, and then its changes are not told.
func kindOf(k store.Key) *resource.Resource { return resource.ForStoreKind(k.Kind) }
