package view

import (
	"context"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

// Source is where objects come from: a store.Store, or what stands for it in tests.
type Source interface {
	Watch(ctx context.Context, o store.WatchOptions, handle func(store.Update) error) error
}

func keyOf(e store.Entry) key { return key{e.Namespace, e.Name} }

// decode makes an item of a live entry.
func decode(res *resource.Resource, e store.Entry) (*Item, error) {
	obj, body, err := resource.Open(e.Value)
	if err != nil {
		return nil, err
	}
	if have := resource.ForObject(obj); have != res {
		return nil, &kindError{key: e.Key, have: have}
	}
	i, err := NewItem(res, obj, e.Revision)
	if err != nil {
		return nil, err
	}
	if i.key() != keyOf(e) {
		return nil, &kindError{key: e.Key, have: res, name: i.key()}
	}
	if body != nil {
		if i.body, err = resource.WithRevision(body, i.Meta.GetResourceVersion()); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// kindError is a value that does not belong under its key.
type kindError struct {
	key  store.Key
	have *resource.Resource
	name key
}

func (e *kindError) Error() string {
	return "value of " + e.key.Kind + " " + e.key.Namespace + "/" + e.key.Name + " is a " + e.have.GVK.Kind + " " + e.name.namespace + "/" + e.name.name
}
