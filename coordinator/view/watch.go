package view

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/resource"
)

// Event is one change of one object.
type Event struct {
	Type     watch.EventType // Added, Modified or Deleted
	Item     *Item           // for Deleted the last state, with the revision of the deletion
	Previous *Item           // the state before; nil for Added

	at time.Time // when it came
}

// Watch reads the changes of one kind, one after another. Its methods are for one goroutine, but Stop.
//
// It keeps no queue of its own: it reads from the table's history, and a watcher that falls behind that gets ErrExpired.
type Watch struct {
	view      *View
	table     *table
	res       *resource.Resource
	namespace string
	ready     chan struct{}
	stop      sync.Once

	next     uint64 // position in the history
	revision uint64
}

// Watch starts reading the kind's changes after revision from, in one namespace or in all when it is empty. It fails
// with ErrExpired when changes after from are not kept any more, or when from is ahead of the view (a reader that may
// have got it from a sibling calls Wait first).
func (v *View) Watch(res *resource.Resource, namespace string, from uint64) (*Watch, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table(res)
	next, ok := t.ring.after(from)
	if !ok || from > v.revision {
		return nil, fmt.Errorf("watch %s from %d: %w", res.Plural, from, ErrExpired)
	}
	w := &Watch{view: v, table: t, res: res, namespace: namespace, next: next, revision: from, ready: make(chan struct{}, 1)} // one token says all
	w.start()
	return w, nil
}

// ListWatch is List and a Watch of exactly what follows it.
func (v *View) ListWatch(res *resource.Resource, namespace string) ([]*Item, uint64, *Watch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.table(res)
	w := &Watch{view: v, table: t, res: res, namespace: namespace, next: t.ring.end, revision: v.revision, ready: make(chan struct{}, 1)} // one token says all
	w.start()
	return asAll(t.list(namespace), res), v.revision, w
}

func (w *Watch) start() {
	w.table.watchers[w] = struct{}{}
	if w.next < w.table.ring.end {
		w.wake()
	}
}

// Ready gets a token when Take may have something; tokens do not pile up.
func (w *Watch) Ready() <-chan struct{} { return w.ready }

func (w *Watch) wake() {
	select {
	case w.ready <- struct{}{}:
	default: // a token is there already
	}
}

// Take returns, without waiting, the events since the last call, and the revision to which the reader then knows
// everything: what a bookmark says. It fails with ErrExpired when the watcher fell behind the history.
func (w *Watch) Take() ([]Event, uint64, error) {
	w.view.mu.RLock()
	events, ok := w.table.ring.from(w.next)
	w.next, w.revision = w.table.ring.end, w.view.revision
	w.view.mu.RUnlock()
	if !ok {
		return nil, 0, fmt.Errorf("watch %s: reader too slow: %w", w.res.Plural, ErrExpired)
	}
	return w.choose(events), w.revision, nil
}

func (w *Watch) choose(events []Event) []Event {
	kept := events[:0]
	for _, e := range events {
		if w.namespace == "" || e.Item.Meta.GetNamespace() == w.namespace {
			kept = append(kept, Event{Type: e.Type, Item: e.Item.As(w.res), Previous: e.Previous.As(w.res)})
		}
	}
	return kept
}

// Revision is that of the last Take, at first the one the watch started from.
func (w *Watch) Revision() uint64 { return w.revision }

// Stop ends the watch. It may be called more than once, and from any goroutine.
func (w *Watch) Stop() {
	w.stop.Do(func() {
		w.view.mu.Lock()
		defer w.view.mu.Unlock()
		delete(w.table.watchers, w)
	})
}

// ring keeps the last events of a table. Positions only grow.
type ring struct {
	limit  int
	events []Event // of positions end-len(events) .. end-1, rotated: position p is at p % limit once it is full
	end    uint64
	gone   uint64 // positions before it are dropped, though there is room for them
	born   uint64 // positions before it are of another life of the store, whose revisions mean nothing
	base   uint64 // a watch can resume from this revision or a later one
}

func (r *ring) add(e Event) {
	if len(r.events) < r.limit {
		r.events = append(r.events, e)
	} else {
		r.drop(r.end - uint64(r.limit))
		*r.at(r.end) = e
	}
	r.end++
}

// forget makes the past unreachable by revision: nothing before revision can be resumed. Running watchers go on.
func (r *ring) forget(revision uint64) { r.base, r.born = revision, r.end }

// trim drops the events from before a time.
func (r *ring) trim(before time.Time) {
	for p := r.start(); p < r.end && r.at(p).at.Before(before); p++ {
		r.drop(p)
	}
}

// drop drops the event at the first position, unless it was dropped before.
func (r *ring) drop(first uint64) {
	if first < r.gone {
		return
	}
	if first >= r.born {
		r.base = r.at(first).Item.Revision
	}
	r.gone = first + 1
	*r.at(first) = Event{}
}

func (r *ring) start() uint64 { return max(r.gone, r.end-uint64(len(r.events))) }

func (r *ring) at(position uint64) *Event { return &r.events[position%uint64(r.limit)] }

// after finds the position of the first event later than revision.
func (r *ring) after(revision uint64) (uint64, bool) {
	if revision < r.base {
		return 0, false
	}
	position := r.end
	for position > max(r.start(), r.born) && r.at(position-1).Item.Revision > revision {
		position--
	}
	return position, true
}

// from copies the events from a position on.
func (r *ring) from(position uint64) ([]Event, bool) {
	if position < r.start() {
		return nil, false
	}
	out := make([]Event, 0, r.end-position)
	for ; position < r.end; position++ {
		out = append(out, *r.at(position))
	}
	return out, true
}
