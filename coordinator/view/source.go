package view

import (
	"context"

	"skerry.dev/skerry/coordinator/resource"
)

// Source is where objects come from: the store, or what stands for it.
type Source interface {
	// Follow calls Reset with the complete set, then Apply with each change in order of revision; Reset again whenever
	// changes were missed or the store was made anew. It calls from one goroutine, returns nil when ctx ends, and an
	// error only when trying again would not help.
	Follow(ctx context.Context, to Sink) error
}

// Sink takes what a Source has.
type Sink interface {
	// Reset replaces everything. Revision is that of the store when the set was complete.
	Reset(entries []Entry, revision uint64)
	// Apply takes changes; they may not be empty.
	Apply(changes []Entry)
}

// Entry is one key of the store. Value is not changed afterwards by either side.
type Entry struct {
	Kind      string // as resource.StoreKind
	Namespace string // empty for cluster-scoped kinds
	Name      string
	Value     []byte // as resource.Encode made it; nil when Deleted
	Revision  uint64
	Deleted   bool // never in a Reset
}

func (e Entry) key() key { return key{e.Namespace, e.Name} }

// item decodes an entry.
func (e Entry) item(res *resource.Resource) (*Item, error) {
	obj, err := resource.Decode(e.Value)
	if err != nil {
		return nil, err
	}
	return NewItem(res, obj, e.Revision)
}
