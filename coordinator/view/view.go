// Package view is the coordinator's in-memory read model: every object of the store, decoded once, with its sorted
// lists, its recent changes, and its JSON made at most once per revision.
//
// One goroutine feeds it from the store; everybody reads from it: the apiserver's GET, LIST and WATCH, the controllers'
// snapshots, the object store's compare-and-set. It never writes to the store, and its objects are shared: whoever wants
// to change one copies it first.
package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

// ErrExpired means that a watch cannot go on from where it was: the changes since are not kept any more, or the revision
// is of another life of the store. The reader must list again (410 Gone).
var ErrExpired = errors.New("revision is not available any more")

// defaultHistory is how many changes per resource are kept for watches to resume from and to lag behind.
const defaultHistory = 2048

// View is the read model. All methods may be called concurrently.
type View struct {
	src     Source
	log     *slog.Logger
	history int

	synced chan struct{} // closed when the first complete set is in

	mu       sync.RWMutex
	revision uint64
	tables   map[*resource.Resource]*table
	waits    []wait
	changed  map[chan struct{}]struct{}

	snapshots snapshots
}

type wait struct {
	revision uint64
	done     chan struct{}
}

// Option changes a View from its defaults.
type Option func(*View)

// History sets how many changes per resource are kept; at least one.
func History(changes int) Option { return func(v *View) { v.history = max(1, changes) } }

// New makes an empty view of src.
func New(src Source, log *slog.Logger, options ...Option) *View {
	v := &View{
		src: src, log: log, history: defaultHistory, synced: make(chan struct{}),
		tables: map[*resource.Resource]*table{}, changed: map[chan struct{}]struct{}{},
	}
	for _, o := range options {
		o(v)
	}
	for _, r := range resource.All() {
		if r.Stored == nil {
			v.tables[r] = newTable(r, v.history)
		}
	}
	return v
}

// Run feeds the view until ctx ends, which is no error, or the source gives up for good.
func (v *View) Run(ctx context.Context) error {
	if err := v.src.Watch(ctx, store.WatchOptions{}, v.take); err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch the store: %w", err)
	}
	return nil
}

// Synced is closed when the view has held the complete state once.
func (v *View) Synced() <-chan struct{} { return v.synced }

// Revision is the store's revision up to which the view is complete.
func (v *View) Revision() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// Wait returns when the view has seen revision, so that a writer reads its own write; or the context's error.
func (v *View) Wait(ctx context.Context, revision uint64) error {
	v.mu.Lock()
	if v.revision >= revision {
		v.mu.Unlock()
		return nil
	}
	w := wait{revision, make(chan struct{})}
	v.waits = append(v.waits, w)
	v.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		v.forget(w)
		return fmt.Errorf("wait for revision %d: %w", revision, ctx.Err())
	}
}

func (v *View) forget(w wait) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waits = slices.DeleteFunc(v.waits, func(o wait) bool { return o.done == w.done })
}

// Get finds one object; namespace is empty for cluster-scoped kinds.
func (v *View) Get(res *resource.Resource, namespace, name string) (*Item, bool) {
	v.mu.RLock()
	item, ok := v.table(res).items[key{namespace, name}]
	v.mu.RUnlock()
	if !ok {
		return nil, false
	}
	return item.As(res), true
}

// List returns the objects of one namespace, or of all when it is empty, sorted by namespace and name, and the revision
// at which this was the complete list. The slice is shared: it is not to be changed.
func (v *View) List(res *resource.Resource, namespace string) ([]*Item, uint64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return asAll(v.table(res).list(namespace), res), v.revision
}

// Len is how many objects of the kind there are.
func (v *View) Len(res *resource.Resource) int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.table(res).items)
}

// Changes counts the changes of the kinds: it grows whenever an object of one of them changes, and only then.
func (v *View) Changes(kinds ...*resource.Resource) uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	sum := uint64(0)
	for _, res := range kinds {
		sum += v.table(res).changes
	}
	return sum
}

// Changed returns a channel that gets a token after changes; tokens do not pile up, so one token may stand for many
// changes. Call stop when done with it.
func (v *View) Changed() (changes <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1) // one token says all: look again
	v.mu.Lock()
	v.changed[c] = struct{}{}
	v.mu.Unlock()
	return c, func() {
		v.mu.Lock()
		delete(v.changed, c)
		v.mu.Unlock()
	}
}

func (v *View) table(res *resource.Resource) *table {
	if res.Stored != nil {
		res = res.Stored
	}
	return v.tables[res]
}

// Snapshot gathers the state for the controllers at one revision, together with what the fleet knows of its nodes.
// Slices of kinds that did not change since the last call are the same slices.
func (v *View) Snapshot(live map[string]controller.Liveness, started time.Time) *controller.Snapshot {
	s := v.snapshots.take(v)
	s.Liveness, s.Started = live, started
	return s
}
