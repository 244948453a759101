package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

func jetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	return ok[jetstream.JetStream](t)(jetstream.New(nc))
}

func TestDeposedWriterIsRefused(t *testing.T) {
	n := natstest.Server(t)
	first, second := open(t, n), open(t, n)
	ctx := t.Context()
	old := ok[uint64](t)(first.OpenEpoch(ctx, "first"))
	rev := ok[uint64](t)(first.Create(ctx, pod, []byte("x")))

	select {
	case <-first.Deposed():
		t.Fatal("deposed by nobody")
	default:
	}
	epoch := ok[uint64](t)(second.OpenEpoch(ctx, "second"))
	if epoch <= old {
		t.Fatalf("epoch %d after %d", epoch, old)
	}
	// Its compare-and-set would succeed: nobody has changed the object.
	_, err := first.Update(ctx, pod, []byte("late"), rev)
	wantErr(t, "update by the deposed writer", err, store.ErrDeposed)
	_, err = first.Create(ctx, key("default", 1), []byte("late"))
	wantErr(t, "create by the deposed writer", err, store.ErrDeposed)
	_, err = first.Delete(ctx, pod, rev)
	wantErr(t, "delete by the deposed writer", err, store.ErrDeposed)
	ok[uint64](t)(second.Update(ctx, pod, []byte("new"), rev))
	<-first.Deposed()
	select {
	case <-second.Deposed():
		t.Error("the newest writer counts as deposed")
	default:
	}
}

// A writer that watches learns that it is deposed though it writes nothing.
func TestWatcherLearnsThatItIsDeposed(t *testing.T) {
	n := natstest.Server(t)
	first, second := open(t, n), open(t, n)
	ok[uint64](t)(first.OpenEpoch(t.Context(), "first"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // the watch's word
	go func() { ended <- first.Watch(ctx, store.WatchOptions{}, func(store.Update) error { return nil }) }()
	ok[uint64](t)(second.OpenEpoch(t.Context(), "second"))
	<-first.Deposed()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended with %v", err)
	}
}

// While coordinators take over from each other, a write that was acknowledged was made by the one whose epoch was last
// before it in the stream.
func TestTakeOverUnderLoad(t *testing.T) {
	n := natstest.Server(t)
	ctx := t.Context()
	acked := make(map[uint64]uint64) // revision to epoch
	var mu sync.Mutex
	var epochs []uint64
	var writers sync.WaitGroup
	for c := range 6 {
		s := open(t, n)
		epoch := ok[uint64](t)(s.OpenEpoch(ctx, fmt.Sprint(c)))
		epochs = append(epochs, epoch)
		var count atomic.Int64
		enough := make(chan struct{})
		for w := range 4 {
			writers.Go(func() {
				for i := 0; ; i++ {
					rev, err := s.Create(ctx, key(fmt.Sprintf("c%d-w%d", c, w), i), []byte("x"))
					if errors.Is(err, store.ErrDeposed) || ctx.Err() != nil {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[rev] = epoch
					mu.Unlock()
					if count.Add(1) == 100 {
						close(enough)
					}
					if c == 5 && i == 100 { // nobody deposes the last one
						return
					}
				}
			})
		}
		<-enough
	}
	writers.Wait()
	for rev, epoch := range acked {
		owner := epochs[0]
		for _, e := range epochs {
			if e < rev {
				owner = e
			}
		}
		if owner != epoch {
			t.Fatalf("revision %d was written under epoch %d, when %d was in force", rev, epoch, owner)
		}
	}
}

// Conflicts in the middle of pipelined writes must not make others fail.
func TestConflictsDoNotSpread(t *testing.T) {
	s := open(t, natstest.Server(t))
	ctx := t.Context()
	ok[uint64](t)(s.OpenEpoch(ctx, "test"))
	ok[uint64](t)(s.Create(ctx, pod, []byte("x")))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if w%2 == 0 {
					if _, err := s.Update(ctx, pod, []byte("stale"), 1); !errors.Is(err, store.ErrConflict) {
						t.Errorf("stale update: %v", err)
					}
				} else if _, err := s.Create(ctx, key(fmt.Sprint(w), i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Many writers of one counter: each acknowledged increment counts exactly once.
func TestContendedCounter(t *testing.T) {
	both(t, func(t *testing.T, n *natstest.Net, s *store.Store) {
		ctx := t.Context()
		ok[uint64](t)(s.Create(ctx, pod, []byte("0")))
		var wg sync.WaitGroup
		const writers, each = 6, 20
		for range writers {
			wg.Go(func() {
				for range each {
					if err := increment(ctx, s); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if e := ok[store.Entry](t)(s.Get(ctx, pod)); string(e.Value) != fmt.Sprint(writers*each) {
			t.Fatalf("counter is %s, want %d", e.Value, writers*each)
		}
	})
}

func increment(ctx context.Context, s *store.Store) error {
	for {
		e, err := s.Get(ctx, pod)
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
			return err
		}
		_, err = s.Update(ctx, pod, fmt.Append(nil, n+1), e.Revision)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
