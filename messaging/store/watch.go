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

// What ends one run of a watch, which goes on: errLost with a complete set, errBehind from where it is.
var (
	errLost   = errors.New("watch lost")
	errBehind = errors.New("watch has left the tail")
)

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
		if w.resume = errors.Is(err, errBehind); w.resume {
			w.cursor.Time = time.Now() // it has seen all there was until now
			continue
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

// watch is one call of Watch; run is one consumer of it, and then one stay at the tail.
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
	at, err := w.approach(ctx, src, now)
	src.close(ctx)
	if err != nil {
		return err
	}
	defer at.leave()
	return w.followTail(ctx, at, status)
}

// approach reads the stream until the watch has reached the tail.
func (w *watch) approach(ctx context.Context, src *source, now state) (*follower, error) {
	if !w.resume {
		if err := w.list(ctx, src, now); err != nil {
			return nil, err
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

// epochs is a consumer of what other coordinators declare from now on.
func (w *watch) epochs() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: w.cursor.Revision + 1,
		FilterSubject: epochSubject, MemoryStorage: true, Replicas: 1, InactiveThreshold: time.Minute,
	}
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

// follow hands over increments until the watch has everything that the tail will not give it.
func (w *watch) follow(ctx context.Context, src *source) (*follower, error) {
	at := w.attach()
	for at == nil || w.cursor.Revision < at.from {
		if err := w.increment(ctx, src); err != nil {
			at.leave()
			return nil, err
		}
		if at == nil {
			at = w.attach()
		}
	}
	return at, nil
}

// attach is the tail's follower. There is none for a single kind, whose watch could not tell when it has reached the tail.
func (w *watch) attach() *follower {
	if w.kind != "" {
		return nil
	}
	return w.store.tail.follow()
}

// increment waits for what comes next and hands over what has arrived by then, in one Update.
func (w *watch) increment(ctx context.Context, src *source) error {
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
	return w.deliver(u)
}

// followTail hands over what the tail brings until the tail is broken. It listens for nothing but another coordinator's
// epoch meanwhile.
func (w *watch) followTail(ctx context.Context, at *follower, status <-chan nats.Status) error {
	epochs, err := w.store.openSource(ctx, w.epochs(), status)
	if err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	defer epochs.close(ctx)
	for {
		select {
		case <-at.ready:
		case <-epochs.messages: // the source has told the store
			continue
		case err := <-epochs.failed:
			return fmt.Errorf("%w: %w", errLost, err)
		case s := <-status:
			return fmt.Errorf("%w: connection %s", errLost, s)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := w.take(at); err != nil {
			return err
		}
	}
}

// take hands over what has come by the tail, but for what the consumer has brought already.
func (w *watch) take(at *follower) error {
	entries, ok := at.take(updateEntries)
	if !ok {
		return errBehind
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Revision <= w.cursor.Revision })
	if len(entries) == 0 {
		return nil
	}
	return w.deliver(Update{Entries: entries, Cursor: Cursor{Stream: w.cursor.Stream, Revision: entries[len(entries)-1].Revision}})
}

func (w *watch) deliver(u Update) error {
	u.Cursor.Time = time.Now()
	w.cursor, w.healthy = u.Cursor, true
	if !u.Complete && len(u.Entries) == 0 { // an epoch: nothing to tell
		return nil
	}
	return w.handle(u)
}
