package view

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/watch"

	"skerry.dev/skerry/coordinator/resource"
)

// Reset takes a complete set: what it lacks was deleted, what differs was changed.
func (v *View) Reset(entries []Entry, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rewound := revision < v.revision
	present := map[*table]map[key]bool{}
	for _, e := range sorted(entries) {
		if t := v.put(e, rewound); t != nil {
			if present[t] == nil {
				present[t] = map[key]bool{}
			}
			present[t][e.key()] = true
		}
	}
	for _, t := range v.tables {
		v.sweep(t, present[t], revision)
		t.ring.forget(revision)
	}
	v.advance(revision)
}

// sorted puts the entries in the order of their revisions, so that events are too.
func sorted(entries []Entry) []Entry {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Revision, b.Revision) })
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

// Apply takes changes in order. One that is not newer than what is held is a repetition and changes nothing.
func (v *View) Apply(changes []Entry) {
	if len(changes) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.revision
	for _, e := range changes {
		last = max(last, e.Revision)
		if !e.Deleted {
			v.put(e, false)
		} else if t := v.tables[resource.ForStoreKind(e.Kind)]; t != nil {
			v.drop(t, e.key(), e.Revision)
		}
	}
	v.advance(last)
}

// put stores one entry and returns its table; nil when its kind is not served. An entry that cannot be decoded is
// reported and counts as not there, so one bad value hides itself only.
func (v *View) put(e Entry, rewound bool) *table {
	t := v.tables[resource.ForStoreKind(e.Kind)]
	if t == nil {
		v.log.Warn("stored kind not served", "kind", e.Kind, "namespace", e.Namespace, "name", e.Name)
		return nil
	}
	if have := t.items[e.key()]; have != nil && (have.Revision == e.Revision && !rewound || have.Revision > e.Revision && !rewound) {
		return t
	}
	item, err := e.item(t.res)
	if err != nil {
		v.log.Error("stored object unreadable", "kind", e.Kind, "namespace", e.Namespace, "name", e.Name, "revision", e.Revision, "err", err)
		return nil
	}
	old := t.put(item)
	event := Event{Type: watch.Added, Item: item, Previous: old}
	if old != nil {
		event.Type = watch.Modified
	}
	t.publish(event)
	return t
}

func (v *View) drop(t *table, k key, revision uint64) {
	have := t.items[k]
	if have == nil {
		return
	}
	gone, err := have.deleted(revision)
	if err != nil {
		v.log.Error("deleted object unreadable", "kind", t.res.Plural, "namespace", k.namespace, "name", k.name, "err", err)
		gone = have
	}
	t.drop(k)
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
