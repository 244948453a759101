package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
)

// Cursor is a place in the stream's history from which a watch can resume.
type Cursor struct {
	Revision uint64    // everything up to this revision has been seen; 0 in a zero Cursor
	Time     time.Time // when that was, by our clock
	Stream   time.Time // when the stream was created: another one's revisions mean nothing
}

// Update is what a watch hands over. Entries are in order of revision.
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

// updateEntries is the most that one increment holds.
const updateEntries = 256

// errLost ends one consumer; the watch goes on with a complete set.
var errLost = errors.New("watch lost")

// Watch calls handle for each Update until ctx ends, handle fails (its error is returned as it is), the connection is
// closed (ErrUnavailable), or the cursor in From cannot be resumed (ErrExpired). Any other loss is its own business: it
// goes on with a complete set, since whoever was away may have missed a deletion for good. handle runs on the calling
// goroutine and may take its time.
func (s *Store) Watch(ctx context.Context, o WatchOptions, handle func(Update) error) error {
	w := &watch{store: s, kind: o.Kind, handle: handle, cursor: o.From, resume: o.From.Revision > 0}
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := w.run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, errLost) {
			return err
		}
		if s.nc.IsClosed() {
			return fmt.Errorf("watch %s: %w: connection closed", messaging.StreamState, ErrUnavailable)
		}
		if w.healthy {
			pause = 100 * time.Millisecond
		}
		s.log.Warn("watch interrupted", "stream", messaging.StreamState, "revision", w.cursor.Revision, "err", err)
		w.resume = false
		if !sleep(ctx, pause) {
			return context.Cause(ctx)
		}
	}
}

// Cursor is the stream's present end.
func (s *Store) Cursor(ctx context.Context) (Cursor, error) {
	now, err := s.state(ctx)
	if err != nil {
		return Cursor{}, err
	}
	return Cursor{Revision: now.Last, Time: time.Now(), Stream: now.Created}, nil
}

// checkCursor says whether everything since a cursor can still be told. NATS itself never says that a revision is too
// old: a deletion whose marker has faded is simply not delivered.
func checkCursor(c Cursor, now state, markerTTL time.Duration, at time.Time) error {
	switch {
	case !c.Stream.Equal(now.Created):
		return fmt.Errorf("%w: revision %d is of a stream made %s, this one was made %s", ErrExpired, c.Revision,
			c.Stream.Format(time.RFC3339), now.Created.Format(time.RFC3339))
	case c.Revision > now.Last:
		return fmt.Errorf("%w: revision %d is ahead of the stream's %d", ErrExpired, c.Revision, now.Last)
	case at.Sub(c.Time) > markerTTL/10*9:
		return fmt.Errorf("%w: revision %d was seen %s ago", ErrExpired, c.Revision, at.Sub(c.Time).Round(time.Second))
	}
	return nil
}

// watch is one call of Watch; run is one consumer of it.
type watch struct {
	store   *Store
	kind    string
	handle  func(Update) error
	cursor  Cursor
	resume  bool
	healthy bool // the last run delivered something
}

func (w *watch) run(ctx context.Context) error {
	w.healthy = false
	status := w.store.nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer w.store.nc.RemoveStatusListener(status)
	if !w.store.nc.IsConnected() {
		return fmt.Errorf("%w: not connected", errLost)
	}
	now, err := w.store.state(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if w.resume {
		if err := checkCursor(w.cursor, now, w.store.markerTTL, time.Now()); err != nil {
			return fmt.Errorf("watch %s: %w", messaging.StreamState, err)
		}
	}
	src, err := w.store.openSource(ctx, w.consumer(), status)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	defer src.close(ctx)
	if !w.resume {
		if err := w.list(ctx, src, now); err != nil {
			return err
		}
	}
	return w.follow(ctx, src)
}

func (w *watch) consumer() jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		AckPolicy:         jetstream.AckNonePolicy,
		DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
		FilterSubject:     subjectPrefix + ">",
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: time.Minute,
	}
	if w.kind != "" {
		c.FilterSubject = subjectPrefix + messaging.Token(w.kind) + ".>"
	}
	if w.resume {
		c.DeliverPolicy, c.OptStartSeq = jetstream.DeliverByStartSequencePolicy, w.cursor.Revision+1
	}
	return c
}

// list hands over the complete set: the last message of each subject, which the server sends in order of revision. It is
// complete when the server has nothing more to send; a message that merely is as new as the stream was does not say so,
// since a busy object's last message may have been dropped for newer ones meanwhile.
func (w *watch) list(ctx context.Context, src *source, now state) error {
	entries := make(map[Key]Entry)
	at := Cursor{Revision: now.Last, Stream: now.Created}
	for pending := src.pending; pending > 0; {
		m, err := src.next(ctx)
		if err != nil {
			return err
		}
		pending, at.Revision = m.pending, max(at.Revision, m.revision)
		if m.object {
			entries[m.entry.Key] = m.entry
		}
	}
	live := make([]Entry, 0, len(entries))
	for _, e := range entries {
		if !e.Deleted {
			live = append(live, e)
		}
	}
	if err := w.store.horizon.wait(ctx, at.Revision); err != nil {
		return err
	}
	slices.SortFunc(live, func(a, b Entry) int { return cmp.Compare(a.Revision, b.Revision) })
	return w.deliver(Update{Complete: true, Entries: live, Cursor: at})
}

// follow hands over increments: what has arrived by now, in one Update.
func (w *watch) follow(ctx context.Context, src *source) error {
	for {
		m, err := src.next(ctx)
		if err != nil {
			return err
		}
		u := Update{Cursor: Cursor{Stream: w.cursor.Stream}}
		for more := true; more; {
			u.Cursor.Revision = m.revision
			if m.object {
				u.Entries = append(u.Entries, m.entry)
			}
			if more = len(u.Entries) < updateEntries; more {
				m, more, err = src.ready()
			}
			if err != nil {
				return err
			}
		}
		if err := w.store.horizon.wait(ctx, u.Cursor.Revision); err != nil {
			return err
		}
		if err := w.deliver(u); err != nil {
			return err
		}
	}
}

func (w *watch) deliver(u Update) error {
	u.Cursor.Time = time.Now()
	w.cursor, w.healthy = u.Cursor, true
	if !u.Complete && len(u.Entries) == 0 { // an epoch: nothing to tell
		return nil
	}
	return w.handle(u)
}
