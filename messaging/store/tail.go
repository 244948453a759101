package store

import (
	"sync"
	"time"
)

// What one follower of the tail may leave waiting. One that is slower goes back to the stream, which keeps everything.
const (
	tailEntries = 4096
	tailBytes   = 16 << 20
)

// tail is the end of the stream as its only writer knows it: it hands what was stored to the watches of the same store, so
// that they need no consumer, which would have the server read each message back and send it, once for each watch.
//
// It holds as long as the fence does: while nothing can be stored but what this store sends, what was acknowledged is all
// there is, and its sequences have no gaps. When a write may or may not be stored, or the stream turns out to have more, the
// tail is broken: its followers go on with a consumer from where they are, and come back when the fence knows the end of
// the stream again.
type tail struct {
	mu        sync.Mutex
	whole     bool             // entries come without a gap
	last      uint64           // up to which they have come
	early     map[uint64]Entry // acknowledged before one that is older
	followers map[*follower]struct{}
}

// follower is one watch at the tail.
type follower struct {
	tail  *tail
	from  uint64        // all that is newer comes by the tail
	ready chan struct{} // one token says: look

	// Guarded by tail.mu.
	entries []Entry
	bytes   int
	broken  bool
}

// restart begins a tail behind a revision: the stream's last, while nothing is on its way. One that has come that far goes
// on.
func (t *tail) restart(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.whole && t.last == last {
		return
	}
	t.scatter()
	t.whole, t.last, t.early = true, last, map[uint64]Entry{}
}

// end breaks the tail until it is restarted.
func (t *tail) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scatter()
	t.whole, t.early = false, nil
}

// scatter lets all followers go. The caller holds mu.
func (t *tail) scatter() {
	for f := range t.followers {
		f.drop()
	}
}

// add takes what was stored, in any order.
func (t *tail) add(entries ...Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.whole {
		return
	}
	for _, e := range entries {
		t.early[e.Revision] = e
	}
	for e, ok := t.early[t.last+1]; ok; e, ok = t.early[t.last+1] {
		delete(t.early, e.Revision)
		t.last = e.Revision
		for f := range t.followers {
			f.append(e)
		}
	}
}

// follow gives the watch whatever is newer than the follower's from; nil when the tail is broken. Call leave after it.
func (t *tail) follow() *follower {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.whole {
		return nil
	}
	f := &follower{tail: t, from: t.last, ready: make(chan struct{}, 1)} // one token
	if t.followers == nil {
		t.followers = map[*follower]struct{}{}
	}
	t.followers[f] = struct{}{}
	return f
}

// append queues an entry, or gives a follower up that is too slow. The caller holds mu.
func (f *follower) append(e Entry) {
	if len(f.entries) == tailEntries || f.bytes+len(e.Value) > tailBytes {
		f.drop()
		return
	}
	f.entries, f.bytes = append(f.entries, e), f.bytes+len(e.Value)
	f.wake()
}

// drop ends a follower. What it has not taken yet it finds in the stream. The caller holds mu.
func (f *follower) drop() {
	delete(f.tail.followers, f)
	f.entries, f.broken = nil, true
	f.wake()
}

func (f *follower) wake() {
	select {
	case f.ready <- struct{}{}:
	default: // a token is there already
	}
}

// take returns what has come, up to most entries. ok is false when the tail is broken for this follower.
func (f *follower) take(most int) (entries []Entry, ok bool) {
	f.tail.mu.Lock()
	defer f.tail.mu.Unlock()
	n := min(most, len(f.entries))
	entries, f.entries = f.entries[:n:n], f.entries[n:]
	for _, e := range entries {
		f.bytes -= len(e.Value)
	}
	switch {
	case len(f.entries) > 0:
		f.wake()
	case n > 0:
		f.entries = nil // the array is the taker's, and may be large
	}
	return entries, !f.broken
}

// leave ends the follower. A nil one has nothing to end.
func (f *follower) leave() {
	if f == nil {
		return
	}
	f.tail.mu.Lock()
	defer f.tail.mu.Unlock()
	if !f.broken {
		f.drop()
	}
}

// entry is what the stream has of a write, stored at a revision just now.
func (w *write) entry(revision uint64) Entry {
	e := Entry{Key: w.key, Revision: revision, Time: time.Now(), Deleted: isDeletion(w.header)}
	if !e.Deleted {
		e.Value, e.First = w.value, w.base == 0
	}
	return e
}
