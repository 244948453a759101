package objects_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

// memory stands for the store where a real one would be most of what is measured or fuzzed.
type memory struct {
	mu       sync.Mutex
	revision uint64
	live     map[store.Key]uint64
	changes  chan store.Entry // as many as may be written before the view has taken them
}

func newMemory() *memory {
	return &memory{live: map[store.Key]uint64{}, changes: make(chan store.Entry, 1024)}
}

func (m *memory) Get(_ context.Context, key store.Key) (store.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live[key] == 0 {
		return store.Entry{}, store.ErrNotFound
	}
	return store.Entry{Key: key, Revision: m.live[key]}, nil
}

func (m *memory) Create(_ context.Context, key store.Key, value []byte) (uint64, error) {
	return m.write(key, value, 0, store.ErrExists)
}

func (m *memory) Update(_ context.Context, key store.Key, value []byte, revision uint64) (uint64, error) {
	return m.write(key, value, revision, store.ErrConflict)
}

func (m *memory) Delete(_ context.Context, key store.Key, revision uint64) (uint64, error) {
	return m.write(key, nil, revision, store.ErrConflict)
}

func (m *memory) write(key store.Key, value []byte, revision uint64, refusal error) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live[key] != revision {
		return 0, refusal
	}
	m.revision++
	m.live[key] = m.revision
	if value == nil {
		delete(m.live, key)
	}
	m.changes <- store.Entry{Key: key, Value: value, Revision: m.revision, Deleted: value == nil}
	return m.revision, nil
}

func (m *memory) Watch(ctx context.Context, _ store.WatchOptions, handle func(store.Update) error) error {
	if err := handle(store.Update{Complete: true}); err != nil {
		return err
	}
	for {
		select {
		case e := <-m.changes:
			if err := handle(store.Update{Entries: []store.Entry{e}, Cursor: store.Cursor{Revision: e.Revision}}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func newMemoryEnv(t testing.TB) *env {
	t.Helper()
	m := newMemory()
	v := view.New(m, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	<-v.Synced()
	s, err := objects.New(v, m, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &env{Store: s, view: v}
}
