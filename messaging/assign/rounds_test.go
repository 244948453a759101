package assign_test

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

// Parts that are put at the same time go as batches, and each is where its writer was told.
func TestPartsThatMeet(t *testing.T) {
	n := natstest.Server(t)
	s := open(t, n)
	nc := n.Coordinator()
	sub, err := nc.SubscribeSync(messaging.AssignRepublishSource)
	if err := errors.Join(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	told := map[string]uint64{}
	var group sync.WaitGroup
	for w := range 60 {
		group.Go(func() {
			for i := range 5 {
				node, part := fmt.Sprint("n", w), fmt.Sprintf("pod.%d", i)
				revision, err := s.Put(t.Context(), node, part, []byte("x"), "sig")
				if err != nil {
					t.Errorf("put %s of %s: %v", part, node, err)
				}
				mu.Lock()
				told[node+" "+part] = revision
				mu.Unlock()
			}
		})
	}
	group.Wait()
	parts, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]uint64{}
	for _, p := range parts {
		stored[p.Node+" "+p.Part] = p.Revision
	}
	if len(stored) != 300 || !maps.Equal(stored, told) {
		t.Errorf("stored %v, writers were told %v", stored, told)
	}
	batches := 0
	for {
		m, err := sub.NextMsg(10 * time.Millisecond)
		if err != nil {
			break
		}
		if m.Header.Get("Nats-Batch-Commit") != "" {
			batches++
		}
	}
	if batches == 0 {
		t.Error("no part went in a batch")
	}
}
