package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

// maxAttempts bounds how often a write that another coordinator overtook is made again. Two that write one object in
// turns need a few; more means that something is wrong.
const maxAttempts = 32

// metaOf gives the metadata of an object whose type is served: they all have it.
func metaOf(obj runtime.Object) metav1.Object {
	m, err := meta.Accessor(obj)
	if err != nil {
		return &metav1.ObjectMeta{}
	}
	return m
}

// encode makes the stored bytes: without a resourceVersion, which the revision is.
func encode(res *resource.Resource, obj runtime.Object) ([]byte, error) {
	m := metaOf(obj)
	version := m.GetResourceVersion()
	m.SetResourceVersion("")
	value, err := resource.Encode(obj)
	m.SetResourceVersion(version)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if len(value) > MaxObjectBytes {
		return nil, tooLarge(res, m.GetName(), len(value))
	}
	return value, nil
}

// same reports whether storing obj would change nothing of what item holds. obj is not shared.
func same(item *view.Item, obj runtime.Object) bool {
	m := metaOf(obj)
	version := m.GetResourceVersion()
	m.SetResourceVersion(item.Meta.GetResourceVersion())
	defer m.SetResourceVersion(version)
	if proto, ok := obj.(interface {
		Marshal() ([]byte, error)
		Size() int
	}); ok {
		now, err := item.Protobuf()
		if err != nil || len(now) != proto.Size() { // the quick answer to most changes
			return false
		}
		next, err := proto.Marshal()
		return err == nil && bytes.Equal(now, next)
	}
	next, err := resource.Encode(obj)
	now, nowErr := resource.Encode(item.Object)
	return err == nil && nowErr == nil && bytes.Equal(now, next)
}

// stored finishes a write: the view has seen it, and obj says at which revision it is.
func (s *Store) stored(ctx context.Context, res *resource.Resource, obj runtime.Object, verb string, revision uint64) error {
	m := metaOf(obj)
	m.SetResourceVersion(strconv.FormatUint(revision, 10))
	if err := s.view.Wait(ctx, revision); err != nil {
		return apierrors.NewTimeoutError(fmt.Sprintf("%s of %s %q is stored, but this coordinator has not seen it yet: %v", verb, res.GroupResource(), m.GetName(), err), retryAfterSeconds)
	}
	return nil
}

// replace writes obj over item. The caller holds the lock.
func (s *Store) replace(ctx context.Context, item *view.Item, obj runtime.Object) error {
	value, err := encode(item.Resource, obj)
	if err != nil {
		return err
	}
	m := metaOf(obj)
	revision, err := s.to.Update(ctx, keyOf(item.Resource, m.GetNamespace(), m.GetName()), value, item.Revision)
	if err != nil {
		return err
	}
	return s.stored(ctx, item.Resource, obj, "update", revision)
}

// remove deletes item and returns its last state. The caller holds the lock.
func (s *Store) remove(ctx context.Context, item *view.Item, last runtime.Object) (runtime.Object, error) {
	revision, err := s.to.Delete(ctx, keyOf(item.Resource, item.Meta.GetNamespace(), item.Meta.GetName()), item.Revision)
	if err != nil {
		return nil, err
	}
	return last, s.stored(ctx, item.Resource, last, "delete", revision)
}

// step is one attempt at a write, made under the object's lock with its present state; item is nil when there is none.
type step func(ctx context.Context, item *view.Item) error

// attempt runs a step under the object's lock, and again when another coordinator overtook it, unless once is set.
// Errors of the store become Status errors.
func (s *Store) attempt(ctx context.Context, res *resource.Resource, namespace, name, verb string, once bool, do step) error {
	key := keyOf(res, namespace, name)
	release, err := s.locks.take(ctx, key)
	if err != nil {
		return storeError(res, name, verb, err)
	}
	defer release()
	for n := 1; ; n++ {
		item, _ := s.view.Get(res, namespace, name)
		err := do(ctx, item)
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[*apierrors.StatusError](err); ok {
			return err
		}
		if !errors.Is(err, store.ErrConflict) || once || n == maxAttempts {
			return storeError(res, name, verb, err)
		}
		if err := s.catchUp(ctx, key, item); err != nil {
			return storeError(res, name, verb, err)
		}
	}
}

// catchUp waits until the view knows of the write that overtook ours.
func (s *Store) catchUp(ctx context.Context, key store.Key, stale *view.Item) error {
	entry, err := s.to.Get(ctx, key)
	if err == nil {
		return s.view.Wait(ctx, entry.Revision)
	}
	if !errors.Is(err, store.ErrNotFound) || stale == nil {
		return err
	}
	changes, stop := s.view.Changed()
	defer stop()
	for {
		if item, ok := s.view.Get(stale.Resource, key.Namespace, key.Name); !ok || item != stale {
			return nil
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
