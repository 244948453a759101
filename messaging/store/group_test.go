package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// Writes that meet go as batches, and each keeps its own outcome: its revision, or that its object has changed.
func TestWritesThatMeet(t *testing.T) {
	both(t, func(t *testing.T, n *natstest.Net, s *store.Store) {
		const writers, times = 40, 5
		batched := countBatches(t, n)
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				k := key(fmt.Sprint(w), 0)
				rev, err := s.Create(t.Context(), k, []byte("0"))
				for i := 1; err == nil && i < times; i++ {
					if _, stale := s.Update(t.Context(), k, []byte("stale"), rev+1000); i%2 == w%2 && !errors.Is(stale, store.ErrConflict) {
						t.Errorf("stale update of %s: %v", k, stale)
					}
					rev, err = s.Update(t.Context(), k, fmt.Append(nil, i), rev)
				}
				if err != nil {
					t.Errorf("writer of %s: %v", k, err)
				} else if e, err := s.Get(t.Context(), k); err != nil || e.Revision != rev || string(e.Value) != fmt.Sprint(times-1) {
					t.Errorf("%s is %q at %d, not as written at %d: %v", k, e.Value, e.Revision, rev, err)
				}
			})
		}
		group.Wait()
		if batched() == 0 {
			t.Error("no write went in a batch")
		}
	})
}

// One object's writes that meet keep their order and their compare-and-set.
func TestWritesOfOneObjectThatMeet(t *testing.T) {
	both(t, func(t *testing.T, _ *natstest.Net, s *store.Store) {
		first := ok[uint64](t)(s.Create(t.Context(), pod, nil))
		var mu sync.Mutex
		var won []uint64
		var group sync.WaitGroup
		for w := range 20 {
			group.Go(func() {
				rev, err := s.Update(t.Context(), pod, fmt.Append(nil, w), first)
				if err == nil {
					mu.Lock()
					won = append(won, rev)
					mu.Unlock()
				} else if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(won) != 1 || !slices.Contains(won, ok[store.Entry](t)(s.Get(t.Context(), pod)).Revision) {
			t.Errorf("updates of one revision that were stored: %v", won)
		}
	})
}

// countBatches counts the batches that are committed from now on.
func countBatches(t *testing.T, n *natstest.Net) func() int {
	t.Helper()
	nc := n.Coordinator()
	sub := ok[*nats.Subscription](t)(nc.SubscribeSync("$KV.state.>"))
	if err := errors.Join(sub.SetPendingLimits(-1, -1), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	return func() (commits int) {
		if err := nc.Flush(); err != nil { // what was sent before has come
			t.Fatal(err)
		}
		for {
			m, err := sub.NextMsg(time.Millisecond)
			if err != nil {
				return commits
			}
			if m.Header.Get("Nats-Batch-Commit") != "" {
				commits++
			}
		}
	}
}
