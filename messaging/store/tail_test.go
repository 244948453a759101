package store_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// atTail waits until the only consumers of the stream are those of so many watches at the tail.
func atTail(t *testing.T, n *natstest.Net, watches int) {
	t.Helper()
	stream := ok[jetstream.Stream](t)(jetStream(t, n.Connect(n.CoordinatorOptions())).Stream(t.Context(), messaging.StreamState))
	var filters []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		filters = nil
		for c := range stream.ListConsumers(t.Context()).Info() {
			filters = append(filters, c.Config.FilterSubject)
		}
		slices.Sort(filters)
		if slices.Equal(filters, slices.Repeat([]string{"$KV.state.leases.epoch"}, watches)) {
			return
		}
	}
	t.Fatalf("consumers listen to %v, want %d at the tail", filters, watches)
}

// The only writer's watches need no consumer, and notice when they do.
func TestWatchesAtTheTail(t *testing.T) {
	n := natstest.Server(t)
	ctx := t.Context()
	s, stranger := open(t, n), open(t, n)
	ok[uint64](t)(s.OpenEpoch(ctx, "test"))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{})
	atTail(t, n, 1)
	ok[uint64](t)(s.Create(ctx, key("a", 0), []byte("mine")))
	m.until(t, "a write", func() bool { return m.live[key("a", 0)] == "mine" })
	_, err := s.Update(ctx, key("a", 0), []byte("stale"), 1)
	wantErr(t, "update of another revision", err, store.ErrConflict)
	ok[uint64](t)(s.Create(ctx, key("a", 1), []byte("mine")))
	atTail(t, n, 1) // a conflict costs nothing

	ok[uint64](t)(stranger.Create(ctx, key("a", 2), []byte("theirs")))
	ok[uint64](t)(s.Create(ctx, key("a", 3), []byte("mine")))
	m.until(t, "a stranger's write before ours", func() bool { return m.live[key("a", 2)] == "theirs" && m.live[key("a", 3)] == "mine" })
	atTail(t, n, 1) // and back again
	if m.complete != 1 {
		t.Errorf("%d complete sets", m.complete)
	}
}

// Who is deposed goes on hearing of everything, though it comes from another.
func TestDeposedWatchLeavesTheTail(t *testing.T) {
	n := natstest.Server(t)
	ctx := t.Context()
	first, second := open(t, n), open(t, n)
	ok[uint64](t)(first.OpenEpoch(ctx, "first"))
	m := newMirror()
	m.follow(t, first, store.WatchOptions{})
	atTail(t, n, 1)
	ok[uint64](t)(second.OpenEpoch(ctx, "second"))
	ok[uint64](t)(second.Create(ctx, key("a", 0), []byte("theirs")))
	m.until(t, "the successor's write", func() bool { return m.live[key("a", 0)] == "theirs" })
}

// A watch that is slower than the tail can wait for misses nothing.
func TestSlowWatchLeavesTheTail(t *testing.T) {
	n := natstest.Server(t)
	ctx := t.Context()
	s := open(t, n)
	ok[uint64](t)(s.OpenEpoch(ctx, "test"))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{})
	atTail(t, n, 1)
	m.mu.Lock() // the handler hangs
	value := make([]byte, 256<<10)
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 12 { // 24 MiB together
				ok[uint64](t)(s.Create(ctx, key(fmt.Sprint(w), i), value))
			}
		})
	}
	writers.Wait()
	m.mu.Unlock()
	m.until(t, "all writes", func() bool { return len(m.live) == 96 })
	ok[uint64](t)(s.Create(ctx, key("end", 0), nil))
	m.until(t, "the end", func() bool { _, there := m.live[key("end", 0)]; return there })
	if m.complete != 1 {
		t.Errorf("%d complete sets", m.complete)
	}
}
