package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// mirror is what a watcher believes: the simplest read model.
type mirror struct {
	mu       sync.Mutex
	live     map[store.Key]string
	cursor   store.Cursor
	complete int
	fault    string
	changed  chan struct{} // one slot: something has changed since the last look
}

func newMirror() *mirror {
	return &mirror{live: make(map[store.Key]string), changed: make(chan struct{}, 1)}
}

func (m *mirror) handle(u store.Update) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.Complete {
		m.complete++
		m.live = make(map[store.Key]string)
	} else if m.complete == 0 && m.cursor.Revision == 0 {
		m.fault = "increment before a complete set"
	}
	last := m.cursor.Revision
	if u.Complete {
		last = 0
	}
	for _, e := range u.Entries {
		if e.Revision <= last || e.Revision > u.Cursor.Revision {
			m.fault = fmt.Sprintf("revision %d after %d, cursor at %d", e.Revision, last, u.Cursor.Revision)
		}
		last = e.Revision
		if e.Deleted {
			delete(m.live, e.Key)
		} else {
			m.live[e.Key] = string(e.Value)
		}
	}
	m.cursor = u.Cursor
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

// until waits for a condition on the mirror.
func (m *mirror) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		m.mu.Lock()
		fault, holds := m.fault, cond()
		m.mu.Unlock()
		if fault != "" {
			t.Fatal(fault)
		}
		if holds {
			return
		}
		select {
		case <-m.changed:
		case <-deadline:
			t.Fatalf("not within 20 s: %s; have %d objects at %d", what, len(m.live), m.cursor.Revision)
		}
	}
}

// follow runs a watch until the test ends.
func (m *mirror) follow(t *testing.T, s *store.Store, o store.WatchOptions) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Watch(ctx, o, m.handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
}

func TestWatchOfNothingIsCompleteAtOnce(t *testing.T) {
	s := open(t, natstest.Server(t))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{})
	m.until(t, "complete", func() bool { return m.complete == 1 })
	rev := ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
	m.until(t, "one object", func() bool { return m.live[pod] == "x" && m.cursor.Revision == rev })
}

func TestWatchOfAKind(t *testing.T) {
	s := open(t, natstest.Server(t))
	node := store.Key{Kind: "nodes", Name: "n1"}
	ok[uint64](t)(s.Create(t.Context(), node, []byte("n")))
	ok[uint64](t)(s.Create(t.Context(), pod, []byte("p")))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{Kind: "pods"})
	ok[uint64](t)(s.OpenEpoch(t.Context(), "test")) // must not show as an object
	other := store.Key{Kind: "pods", Namespace: "a_b", Name: "x=y"}
	ok[uint64](t)(s.Create(t.Context(), other, []byte("o")))
	want := map[store.Key]string{pod: "p", other: "o"}
	m.until(t, "the two pods", func() bool { return maps.Equal(m.live, want) })
}

// A list under churn must neither miss an object nor show a deleted one.
func TestListUnderChurn(t *testing.T) {
	n := natstest.Server(t)
	s := open(t, n)
	ctx, stop := context.WithCancel(t.Context())
	const stable, writers = 300, 4
	for i := range stable {
		ok[uint64](t)(s.Create(ctx, key("stable", i), []byte("s")))
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() { churn(ctx, t, s, w) })
	}
	for range 15 {
		m := newMirror()
		one, cancel := context.WithCancel(ctx)
		err := s.Watch(one, store.WatchOptions{}, func(u store.Update) error {
			if err := m.handle(u); err != nil {
				return err
			}
			cancel()
			return nil
		})
		wantErr(t, "watch", err, context.Canceled)
		found := 0
		for k := range m.live {
			if k.Namespace == "stable" {
				found++
			}
		}
		if found != stable {
			t.Errorf("complete set has %d of %d objects", found, stable)
		}
	}
	stop()
	wg.Wait()
}

// Whatever happened in between, a watcher ends up with exactly what is stored.
func TestWatchConverges(t *testing.T) {
	both(t, func(t *testing.T, n *natstest.Net, s *store.Store) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		early := newMirror()
		early.follow(t, s, store.WatchOptions{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() { churn(ctx, t, s, w) })
		}
		wg.Wait()
		late := newMirror()
		late.follow(t, s, store.WatchOptions{})
		// What the writers gave up when their time was over may still be on its way, but not behind a later write.
		end := ok[uint64](t)(s.Create(t.Context(), key("end", 0), nil))
		for _, m := range []*mirror{late, early} {
			m.until(t, "the end", func() bool { return m.complete == 1 && m.cursor.Revision >= end })
		}
		if !maps.Equal(early.live, late.live) || early.complete != 1 {
			t.Fatalf("early watcher has %d objects, a new one %d", len(early.live), len(late.live))
		}
	})
}

func key(namespace string, i int) store.Key {
	return store.Key{Kind: "pods", Namespace: namespace, Name: fmt.Sprintf("p%d", i)}
}

// churn creates, updates and deletes its own few objects until the context ends.
func churn(ctx context.Context, t *testing.T, s *store.Store, writer int) {
	namespace := fmt.Sprintf("w%d", writer)
	fail := func(err error) bool {
		if err != nil && ctx.Err() == nil {
			t.Errorf("writer %d: %v", writer, err)
		}
		return err != nil
	}
	for i := 0; ctx.Err() == nil; i++ {
		k := key(namespace, i%5)
		rev, err := s.Create(ctx, k, []byte("0"))
		for n := 1; err == nil && n < 12; n++ { // more often than the stream remembers
			rev, err = s.Update(ctx, k, fmt.Appendf(nil, "%d", n), rev)
		}
		if err == nil {
			_, err = s.Delete(ctx, k, rev)
		}
		if fail(err) {
			return
		}
	}
}

func TestResume(t *testing.T) {
	s := open(t, natstest.Server(t))
	ctx := t.Context()
	a, b := key("default", 1), key("default", 2)
	ra := ok[uint64](t)(s.Create(ctx, a, []byte("a")))
	ok[uint64](t)(s.Create(ctx, b, []byte("b")))
	cursor := ok[store.Cursor](t)(s.Cursor(ctx))

	gone := ok[uint64](t)(s.Delete(ctx, a, ra))
	c := key("default", 3)
	ok[uint64](t)(s.Create(ctx, c, []byte("c")))
	m := newMirror()
	m.cursor, m.live = cursor, map[store.Key]string{a: "a", b: "b"}
	m.follow(t, s, store.WatchOptions{From: cursor})
	want := map[store.Key]string{b: "b", c: "c"}
	m.until(t, "the delete and the create", func() bool { return maps.Equal(m.live, want) })
	if m.complete != 0 || m.cursor.Revision <= gone {
		t.Fatalf("resumed with %d complete sets, cursor %d", m.complete, m.cursor.Revision)
	}
}

func TestResumeRefused(t *testing.T) {
	n := natstest.Server(t)
	js := n.JetStream()
	s := ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{MarkerTTL: time.Hour}))
	ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
	now := ok[store.Cursor](t)(s.Cursor(t.Context()))
	old, ahead, foreign := now, now, now
	old.Time = now.Time.Add(-55 * time.Minute)
	ahead.Revision++
	foreign.Stream = now.Stream.Add(-time.Second)
	for name, c := range map[string]store.Cursor{"too old": old, "ahead": ahead, "of another stream": foreign} {
		err := s.Watch(t.Context(), store.WatchOptions{From: c}, func(store.Update) error { return errors.New("called") })
		wantErr(t, name, err, store.ErrExpired)
	}
}

func TestWatchReturnsHandlersError(t *testing.T) {
	s := open(t, natstest.Server(t))
	want := errors.New("enough")
	err := s.Watch(t.Context(), store.WatchOptions{}, func(store.Update) error { return want })
	if !errors.Is(err, want) {
		t.Fatalf("got %v", err)
	}
}

// A stream that was deleted and made anew must be told as a complete set of another stream, not as silence.
func TestStreamMadeAnew(t *testing.T) {
	n := natstest.Server(t)
	js := n.JetStream()
	s := ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{}))
	ok[uint64](t)(s.Create(t.Context(), pod, []byte("x")))
	m := newMirror()
	m.follow(t, s, store.WatchOptions{})
	m.until(t, "one object", func() bool { return m.live[pod] == "x" })
	before := m.cursor.Stream
	if err := js.DeleteStream(t.Context(), "KV_state"); err != nil {
		t.Fatal(err)
	}
	ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{}))
	m.until(t, "another stream", func() bool { return m.complete >= 2 && !m.cursor.Stream.Equal(before) && len(m.live) == 0 })
}

// A watcher that was cut off while an object was deleted, for longer than the deletion can be seen, must learn of it.
func TestDeletionWhileCutOffForLong(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		watcher := openOver(t, n, "watcher")
		writer := openOver(t, n, "writer")
		rev := ok[uint64](t)(writer.Create(t.Context(), pod, []byte("x")))
		m := newMirror()
		m.follow(t, watcher, store.WatchOptions{})
		m.until(t, "one object", func() bool { return m.live[pod] == "x" })
		n.Cut("watcher")
		time.Sleep(time.Second)
		ok[uint64](t)(writer.Delete(t.Context(), pod, rev))
		time.Sleep(10 * time.Minute)
		n.Heal("watcher")
		time.Sleep(time.Minute)
		m.until(t, "no object", func() bool { return len(m.live) == 0 && m.complete >= 2 })
	})
}

func openOver(t *testing.T, n *natstest.Net, link string) *store.Store {
	t.Helper()
	o := n.CoordinatorOptions()
	o.InProcess, o.PingInterval = n.Link(link), time.Minute
	js := jetStream(t, n.Connect(o))
	return ok[*store.Store](t)(store.Open(t.Context(), js, store.Options{Storage: n.Storage, MarkerTTL: time.Minute}))
}
