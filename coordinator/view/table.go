package view

import (
	"cmp"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"skerry.dev/skerry/coordinator/resource"
)

type key struct{ namespace, name string }

func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.namespace, o.namespace), cmp.Compare(k.name, o.name))
}

// table holds the objects of one kind. The view's lock guards it.
type table struct {
	res   *resource.Resource
	items map[key]*Item

	// sorted is by namespace and name. Readers keep what list gave them, so a change after that copies the slice first.
	sorted []*Item
	lent   atomic.Bool
	// changes counts every change, for caches made from sorted.
	changes uint64

	ring     ring
	watchers map[*Watch]struct{}
}

func newTable(res *resource.Resource, history int) *table {
	return &table{res: res, items: map[key]*Item{}, ring: ring{limit: history}, watchers: map[*Watch]struct{}{}}
}

// list is called with at least the read lock.
func (t *table) list(namespace string) []*Item {
	t.lent.Store(true)
	if namespace == "" {
		return slices.Clip(t.sorted)
	}
	from := sort.Search(len(t.sorted), func(n int) bool { return t.sorted[n].Meta.GetNamespace() >= namespace })
	to := from + sort.Search(len(t.sorted)-from, func(n int) bool { return t.sorted[from+n].Meta.GetNamespace() > namespace })
	return slices.Clip(t.sorted[from:to])
}

// put adds or replaces an item and returns the one before, if any.
func (t *table) put(i *Item) *Item {
	k := i.key()
	old := t.items[k]
	t.own()
	at, found := t.search(k)
	if found {
		t.sorted[at] = i
	} else {
		t.sorted = slices.Insert(t.sorted, at, i)
	}
	t.items[k] = i
	t.changes++
	return old
}

// drop removes an item and returns it; nil when there was none.
func (t *table) drop(k key) *Item {
	old, ok := t.items[k]
	if !ok {
		return nil
	}
	t.own()
	if at, found := t.search(k); found {
		t.sorted = slices.Delete(t.sorted, at, at+1)
	}
	delete(t.items, k)
	t.changes++
	return old
}

func (t *table) search(k key) (int, bool) {
	return slices.BinarySearchFunc(t.sorted, k, func(i *Item, k key) int { return i.key().compare(k) })
}

func (t *table) own() {
	if t.lent.Swap(false) {
		t.sorted = slices.Clone(t.sorted)
	}
}

// publish records an event and wakes the watchers.
func (t *table) publish(e Event) {
	e.at = time.Now()
	t.ring.add(e)
	for w := range t.watchers {
		w.wake()
	}
}
