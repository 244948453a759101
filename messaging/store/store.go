// Package store keeps objects, as bytes, in one JetStream stream: get, create, update by compare-and-set, delete, and
// list-then-watch without a gap. An object's revision is its sequence in the stream, one counter for all kinds.
//
// coordinator/objects writes through it and coordinator/view reads from it. It knows no object's type and never decides
// what may be written.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/batch"
)

// Errors of the store, for errors.Is.
var (
	ErrNotFound = errors.New("object not found")
	ErrExists   = errors.New("object exists")
	ErrConflict = errors.New("object has changed")
	// ErrExpired means that a watch cannot resume from a cursor: list again.
	ErrExpired = errors.New("revision is too old, or of another stream")
	// ErrUnavailable means that the store did not answer, or refused; nothing was written.
	ErrUnavailable = errors.New("store unavailable")
	// ErrFull means that the store's disk has no room for the write; nothing was written.
	ErrFull = errors.New("store is full")
	// ErrTooLarge means that the object does not fit a message; nothing was written.
	ErrTooLarge = errors.New("object is too large")
	// ErrUnknownOutcome means that a write may or may not have happened, now or later: read the object to learn it.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrDeposed means that another coordinator has opened a newer epoch: this one must stop writing for good.
	ErrDeposed = errors.New("a newer coordinator has taken over")
)

const (
	// history is how many revisions of an object the stream keeps. More than one lets a watcher that resumes see what it
	// missed, and lets a writer find its own write after another has followed it.
	history          = 8
	defaultMarkerTTL = 24 * time.Hour
	// maxInFlight bounds writes that wait for the server. Beyond some hundred a server that syncs each write only makes
	// later ones wait longer.
	maxInFlight = 256
	// attemptTime is how long one publication waits for its answer before the outcome is looked up.
	attemptTime = 5 * time.Second
	// writeTime bounds a write whose context has no deadline.
	writeTime = 15 * time.Second
)

// reserveBytes is what each kind of write leaves free on the store's disk: what makes room may use the last of it, and the
// server, which gives up at the first write that the disk refuses, does not come to that. An object is deleted by an
// update first when it has time to end.
var reserveBytes = map[string]uint64{"create": 16 << 20, "update": 8 << 20, "delete": 4 << 20}

// Options configure the stream.
type Options struct {
	Replicas int                   // 1, 3 or 5; 0 means 1
	Storage  jetstream.StorageType // FileStorage (0) but in virtual-time tests, which need memory
	// MarkerTTL is how long a deletion can be seen by a watcher that resumes. 0 means 24 hours; the least is 1 second.
	MarkerTTL time.Duration
	// Room says whether so many bytes are free for the stream, with an error for people. It is asked before each write, so
	// it must be quick. nil when nobody knows.
	Room func(bytes uint64) error
	// Stage, called once the stream is there, has the server keep batches on their way in memory. Nil or an error means that
	// they take files, which pays for large ones only.
	Stage  func(stream string) error
	Logger *slog.Logger // nil logs nothing
}

// Store is safe for concurrent use.
type Store struct {
	js        jetstream.JetStream
	nc        *nats.Conn
	api       string // prefix of JetStream requests
	log       *slog.Logger
	markerTTL time.Duration
	room      func(bytes uint64) error
	inFlight  chan struct{} // maxInFlight slots
	rounds    *rounds
	horizon   horizon
	fence     fence
	tail      tail
}

// Open creates the stream, or opens it and brings its configuration up to date. It refuses a stream that it cannot make
// fit, with the server's words for what differs.
func Open(ctx context.Context, js jetstream.JetStream, o Options) (*Store, error) {
	if o.MarkerTTL == 0 {
		o.MarkerTTL = defaultMarkerTTL
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Room == nil {
		o.Room = func(uint64) error { return nil }
	}
	own, err := ownJetStream(js)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", messaging.StreamState, err)
	}
	if _, err := own.CreateOrUpdateStream(ctx, streamConfig(o)); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", messaging.StreamState, err)
	}
	s := &Store{
		js: own, nc: own.Conn(), api: apiPrefix(own.Options()), log: o.Logger, markerTTL: o.MarkerTTL, room: o.Room,
		inFlight: make(chan struct{}, maxInFlight), fence: fence{deposed: make(chan struct{})},
	}
	s.rounds = &rounds{
		Least: batch.Least(messaging.StreamState, o.Storage, o.Replicas, o.Stage, o.Logger), One: s.publishSingle, Many: s.publishBatch,
	}
	return s, nil
}

// ownJetStream has its own limits on publications in flight, which the caller's knows nothing of.
func ownJetStream(js jetstream.JetStream) (jetstream.JetStream, error) {
	opts := []jetstream.JetStreamOpt{
		jetstream.WithPublishAsyncMaxPending(2 * maxInFlight), // room for futures that wait for their time-out
		jetstream.WithPublishAsyncTimeout(attemptTime),
	}
	return jetstream.NewWithAPIPrefix(js.Conn(), apiPrefix(js.Options()), opts...)
}

// apiPrefix is where JetStream listens: at home, in another domain, or imported from another account.
func apiPrefix(o jetstream.JetStreamOptions) string {
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	default:
		return jetstream.DefaultAPIPrefix
	}
}

func streamConfig(o Options) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              messaging.StreamState,
		Description:       "Skerry objects; the key-value bucket \"state\"",
		Subjects:          []string{subjectPrefix + ">"},
		MaxMsgsPerSubject: history,
		MaxConsumers:      -1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		Discard:           jetstream.DiscardNew, // never drop an object to make room for another
		Storage:           o.Storage,
		Replicas:          max(o.Replicas, 1),
		DenyDelete:        true,
		AllowRollup:       true, // a deletion removes the revisions before it
		AllowDirect:       true, // the nats CLI's kv commands read by it
		AllowMsgTTL:       true, // deletions fade
		// A deletion's TTL is raised to this by the server.
		SubjectDeleteMarkerTTL: o.MarkerTTL,
		AllowAtomicPublish:     true,
		Duplicates:             time.Second, // the shortest memory of message names: see writeHeader
	}
}
