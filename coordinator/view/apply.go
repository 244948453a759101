package view

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

// take brings one update of the store into the view.
func (v *View) take(u store.Update) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if u.Complete {
		v.reset(u.Entries, u.Cursor.Revision)
	} else {
		v.apply(u.Entries)
	}
	v.advance(u.Cursor.Revision)
	return nil
}

// reset takes a complete set: what it lacks was deleted, what differs was changed. A set that ends before the view's own
// revision is of another life of the store, where equal revisions mean nothing.
func (v *View) reset(entries []store.Entry, revision uint64) {
	rewound := revision < v.revision
	present := map[*table]map[key]bool{}
	for _, e := range byRevision(entries) {
		t := v.tableOf(e)
		if t == nil || !v.put(t, e, rewound) {
			continue
		}
		if present[t] == nil {
			present[t] = map[key]bool{}
		}
		present[t][keyOf(e)] = true
	}
	for _, t := range v.tables {
		v.sweep(t, present[t], revision)
		t.ring.forget(revision)
	}
}

func byRevision(entries []store.Entry) []store.Entry {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Revision, b.Revision) })
	return entries
}

// sweep deletes what is not present.
func (v *View) sweep(t *table, present map[key]bool, revision uint64) {
	for _, i := range slices.Clone(t.sorted) {
		if !present[i.key()] {
			v.drop(t, i.key(), revision)
		}
	}
}

func (v *View) apply(changes []store.Entry) {
	for _, e := range changes {
		t := v.tableOf(e)
		switch {
		case t == nil:
		case e.Deleted:
			if have := t.items[keyOf(e)]; have != nil && have.Revision < e.Revision { // else a repetition
				v.drop(t, keyOf(e), e.Revision)
			}
		default:
			v.put(t, e, false)
		}
	}
}

// tableOf is nil, and says so, when the entry's kind is not served: another version of the coordinator wrote it.
func (v *View) tableOf(e store.Entry) *table {
	t := v.tables[resource.ForStoreKind(e.Kind)]
	if t == nil {
		v.log.Warn("stored kind not served", "kind", e.Kind, "namespace", e.Namespace, "name", e.Name)
	}
	return t
}

// put stores one entry; one that is not newer than what is held is a repetition and changes nothing. It reports whether
// the object is there now: a value that cannot be read is reported and counts as absent, so it hides itself only.
func (v *View) put(t *table, e store.Entry, rewound bool) bool {
	if have := t.items[keyOf(e)]; have != nil && have.Revision >= e.Revision && !rewound {
		return true
	}
	item, err := decode(t.res, e)
	if err != nil {
		v.log.Error("stored object unreadable", "kind", e.Kind, "namespace", e.Namespace, "name", e.Name, "revision", e.Revision, "err", err)
		v.drop(t, keyOf(e), e.Revision)
		return false
	}
	event := Event{Type: watch.Added, Item: item, Previous: t.put(item)}
	if event.Previous != nil {
		event.Type = watch.Modified
	}
	t.publish(event)
	return true
}

func (v *View) drop(t *table, k key, revision uint64) {
	have := t.drop(k)
	if have == nil {
		return
	}
	gone, err := have.deleted(revision)
	if err != nil { // cannot be: it had metadata when it came
		v.log.Error("deleted object unreadable", "kind", t.res.Plural, "namespace", k.namespace, "name", k.name, "err", err)
		gone = have
	}
	t.publish(Event{Type: watch.Deleted, Item: gone, Previous: have})
}

// advance makes revision the view's, and wakes who waits for it.
func (v *View) advance(revision uint64) {
	v.revision = revision
	v.waits = slices.DeleteFunc(v.waits, func(w wait) bool {
		if w.revision > revision {
			return false
		}
		close(w.done)
		return true
	})
	for c := range v.changed {
		select {
		case c <- struct{}{}:
		default: // a token is there already
		}
	}
	select {
	case <-v.synced:
	default:
		close(v.synced)
	}
}
