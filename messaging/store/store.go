// Package store keeps objects, as bytes, in one JetStream stream: get, create, update by compare-and-set, delete, and
// list-then-watch without a gap. An object's revision is its sequence in the stream, one counter for all kinds.
//
// coordinator/objects writes through it and coordinator/view reads from it. It knows no object's type and never decides
// what may be written.
package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Errors of the store. Each is the only one in its chain.
var (
	ErrNotFound = errors.New("object not found")
	ErrExists   = errors.New("object exists")
	ErrConflict = errors.New("object has changed")
	// ErrExpired means that a watch cannot resume from a cursor: list again.
	ErrExpired = errors.New("revision is too old, or of another stream")
	// ErrUnavailable means that the store did not answer or refused; nothing was written.
	ErrUnavailable = errors.New("store unavailable")
	// ErrUnknownOutcome means that a write may or may not have happened, now or later: read the object to learn it.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
	// ErrDeposed means that another coordinator has opened a newer epoch: this one must stop writing for good.
	ErrDeposed = errors.New("a newer coordinator has taken over")
)

// Key names an object. Kind is the resource with its group, as in "pods" or "deployments.apps"; Namespace is empty for
// cluster-scoped objects.
type Key struct{ Kind, Namespace, Name string }

// Entry is one object at one revision.
type Entry struct {
	Key
	Value    []byte    // nil when deleted
	Revision uint64    // sequence in the stream
	Deleted  bool      // this revision is the deletion
	Time     time.Time // when the server stored it
}

// Options configure the stream.
type Options struct {
	Replicas int                   // 1, 3 or 5; 0 means 1
	Storage  jetstream.StorageType // FileStorage (0) but in virtual-time tests, which need memory
	// MarkerTTL is how long a deletion can be seen by a watcher that resumes. 0 means 24 hours; the least is 1 second.
	MarkerTTL time.Duration
	Logger    *slog.Logger // nil logs nothing
}

// Store is safe for concurrent use.
type Store struct{}

// Open creates the stream, or opens it and brings its configuration up to date. It refuses a stream that it cannot make
// fit, naming what differs.
func Open(ctx context.Context, js jetstream.JetStream, o Options) (*Store, error) {
	return nil, ErrUnavailable
}

// Get reads an object from the stream's leader. It returns an ErrNotFound for a missing or deleted object.
func (s *Store) Get(ctx context.Context, key Key) (Entry, error) { return Entry{}, ErrUnavailable }

// Create writes an object that does not exist, and returns its revision; ErrExists otherwise.
func (s *Store) Create(ctx context.Context, key Key, value []byte) (uint64, error) {
	return 0, ErrUnavailable
}

// Update replaces the object at revision and returns the new revision; ErrConflict if it is not at that revision or gone.
func (s *Store) Update(ctx context.Context, key Key, value []byte, revision uint64) (uint64, error) {
	return 0, ErrUnavailable
}

// Delete removes the object at revision and returns the revision of the deletion; ErrConflict as Update.
func (s *Store) Delete(ctx context.Context, key Key, revision uint64) (uint64, error) {
	return 0, ErrUnavailable
}

// OpenEpoch declares this coordinator the writer and returns its fencing token, which grows with each call by anyone.
// From then on each write of this store is refused with ErrDeposed once another has opened a newer epoch.
func (s *Store) OpenEpoch(ctx context.Context, owner string) (uint64, error) {
	return 0, ErrUnavailable
}

// Cursor is a place in the stream's history from which a watch can resume.
type Cursor struct {
	Revision uint64    // everything up to this revision has been seen; 0 in a zero Cursor
	Time     time.Time // when that was, by our clock
	Stream   time.Time // when the stream was created: another one's revisions mean nothing
}

// Update is what a watch hands over. Entries are in revision order.
type Update struct {
	// Complete says that Entries are all live objects there are: whatever else the receiver holds is gone. The first
	// Update of a watch without a cursor is complete, and so is the first one after each lost connection.
	Complete bool
	Entries  []Entry
	Cursor   Cursor // after these entries
}

// WatchOptions choose what to watch. The zero value watches everything from a complete set on.
type WatchOptions struct {
	Kind string // only this kind; empty for all
	From Cursor // resume after it; zero for a complete set first
}

// Watch calls handle for each Update until ctx ends, handle fails (its error is returned as is), or the cursor in From is
// too old (ErrExpired). Losses of the connection are its own business. handle runs on the calling goroutine.
func (s *Store) Watch(ctx context.Context, o WatchOptions, handle func(Update) error) error {
	return ErrUnavailable
}

// Cursor is the stream's present end, for instance to resume from later.
func (s *Store) Cursor(ctx context.Context) (Cursor, error) { return Cursor{}, ErrUnavailable }
