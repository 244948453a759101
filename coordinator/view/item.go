package view

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/resource"
)

// Item is one object at one revision. It is shared and never changes.
type Item struct {
	Resource *resource.Resource
	Object   runtime.Object // with kind, apiVersion and resourceVersion
	Meta     metav1.Object  // the same object
	Revision uint64

	body  []byte // what Protobuf gives, when the store had it; nil otherwise
	json  atomic.Pointer[[]byte]
	asked atomic.Bool          // JSON was, since the last Tidy
	alias atomic.Pointer[Item] // the same object under the one other kind that shows it
}

// NewItem makes an item of obj, which it takes over: its resourceVersion becomes revision.
func NewItem(res *resource.Resource, obj runtime.Object, revision uint64) (*Item, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, fmt.Errorf("read metadata of %T: %w", obj, err)
	}
	m.SetResourceVersion(strconv.FormatUint(revision, 10))
	return &Item{Resource: res, Object: obj, Meta: m, Revision: revision}, nil
}

// JSON is the object as JSON, without a trailing newline, encoded once as long as it is asked for (or a few times when
// first asked for concurrently). The bytes are shared.
func (i *Item) JSON() ([]byte, error) {
	if !i.asked.Load() {
		i.asked.Store(true)
	}
	if p := i.json.Load(); p != nil {
		return *p, nil
	}
	b, err := i.EncodeJSON()
	if err == nil {
		i.json.Store(&b)
	}
	return b, err
}

// EncodeJSON is JSON for who will not ask again: the bytes are not kept.
func (i *Item) EncodeJSON() ([]byte, error) {
	if p := i.json.Load(); p != nil {
		return *p, nil
	}
	b, err := json.Marshal(i.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", i.Resource.GVK.Kind, i.Meta.GetName(), err)
	}
	return b, nil
}

// Protobuf is the object in protobuf, without an envelope, which for an object of the store costs nothing. The bytes are
// shared. A kind without a protobuf form gives an error.
func (i *Item) Protobuf() ([]byte, error) {
	if i.body != nil {
		return i.body, nil
	}
	m, ok := i.Object.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("encode %T as protobuf: the kind has no such form", i.Object)
	}
	b, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s %s as protobuf: %w", i.Resource.GVK.Kind, i.Meta.GetName(), err)
	}
	return b, nil
}

// forgetUnasked drops JSON that nobody asked for since the last call.
func (i *Item) forgetUnasked() {
	if i == nil {
		return
	}
	if !i.asked.Swap(false) {
		i.json.Store(nil)
	}
	i.alias.Load().forgetUnasked()
}

func (i *Item) key() key { return key{i.Meta.GetNamespace(), i.Meta.GetName()} }

// As is the item as res, its own kind or an alias of that, shows it. Only aliases need work, and only the first time; nil
// stays nil.
func (i *Item) As(res *resource.Resource) *Item {
	if i == nil || i.Resource == res {
		return i
	}
	if a := i.alias.Load(); a != nil && a.Resource == res {
		return a
	}
	obj, err := res.FromStored(i.Object)
	if err != nil {
		return i // cannot be: the table holds only what its alias converts
	}
	a, err := NewItem(res, obj, i.Revision)
	if err != nil {
		return i
	}
	i.alias.Store(a)
	return a
}

func asAll(items []*Item, res *resource.Resource) []*Item {
	if res.Stored == nil {
		return items
	}
	out := make([]*Item, len(items))
	for n, i := range items {
		out[n] = i.As(res)
	}
	return out
}

// deleted is the last state of the object with the revision of its deletion, as watches report it.
func (i *Item) deleted(revision uint64) (*Item, error) {
	return NewItem(i.Resource, i.Object.DeepCopyObject(), revision)
}
