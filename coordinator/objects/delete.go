package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Delete starts or completes a deletion. Deleted is true when the object is gone; out is its last state. An object with
// finalizers, and a pod that a node may be running, are only marked: they go when nobody holds them any more.
func (s *Store) Delete(ctx context.Context, res *resource.Resource, namespace, name string, o metav1.DeleteOptions) (out runtime.Object, deleted bool, err error) {
	kept := kept(res)
	if errs := metavalidation.ValidateDeleteOptions(&o); len(errs) > 0 {
		return nil, false, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	if undying := s.strategy(kept).undying; undying != nil && undying(name) {
		return nil, false, apierrors.NewForbidden(kept.GroupResource(), name, errors.New("this namespace may not be deleted"))
	}
	once := o.Preconditions != nil && o.Preconditions.ResourceVersion != nil
	err = s.attempt(ctx, kept, namespace, name, "delete", once, func(ctx context.Context, item *view.Item) error {
		if item == nil {
			return notFound(kept, name)
		}
		o := o // each attempt fills in its own
		if err := checkDelete(item, &o); err != nil {
			return err
		}
		out, deleted, err = s.deleteItem(ctx, item, &o)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	out, err = s.shown(res, out)
	return out, deleted, err
}

func checkDelete(item *view.Item, o *metav1.DeleteOptions) error {
	if o.Preconditions == nil {
		return nil
	}
	gr := schema.GroupResource{Group: item.Resource.GVK.Group, Resource: item.Resource.GVK.Kind} // upstream names the kind here
	name, p := item.Meta.GetName(), o.Preconditions
	if p.UID != nil && *p.UID != item.Meta.GetUID() {
		return apierrors.NewConflict(gr, name, fmt.Errorf("the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, item.Meta.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != item.Meta.GetResourceVersion() {
		return apierrors.NewConflict(gr, name, fmt.Errorf("the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, item.Meta.GetResourceVersion()))
	}
	return nil
}

// deleteItem does the first or the last step. The caller holds the lock.
func (s *Store) deleteItem(ctx context.Context, item *view.Item, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	obj := item.Object.DeepCopyObject()
	if ns, ok := obj.(*corev1.Namespace); ok {
		return s.deleteNamespace(ctx, item, ns, o)
	}
	m := metaOf(obj)
	graceful, pending := s.startGrace(item.Resource, obj, o)
	if pending {
		return obj, false, nil
	}
	m.SetFinalizers(collectorFinalizers(m, o))
	if len(m.GetFinalizers()) > 0 && !graceful {
		s.markDeleting(m)
	}
	if len(m.GetFinalizers()) > 0 || (graceful && *o.GracePeriodSeconds > 0) {
		return obj, false, s.replaceUnless(ctx, item, obj, o)
	}
	out, err := s.removeUnless(ctx, item, obj, o)
	return out, err == nil, err
}

// replaceUnless is replace, unless it would change nothing or the deletion is a dry run.
func (s *Store) replaceUnless(ctx context.Context, item *view.Item, obj runtime.Object, o *metav1.DeleteOptions) error {
	if dryRun(o) || same(item, obj) {
		return nil
	}
	return s.replace(ctx, item, obj)
}

func (s *Store) removeUnless(ctx context.Context, item *view.Item, obj runtime.Object, o *metav1.DeleteOptions) (runtime.Object, error) {
	if dryRun(o) {
		return obj, nil
	}
	return s.remove(ctx, item, obj)
}

func dryRun(o *metav1.DeleteOptions) bool { return slices.Contains(o.DryRun, metav1.DryRunAll) }

// startGrace starts a graceful deletion, or shortens one that runs. Graceful is false for kinds without grace, and for an
// object whose grace has been used up. Pending means that the deletion runs already and nothing is to be done.
func (s *Store) startGrace(res *resource.Resource, obj runtime.Object, o *metav1.DeleteOptions) (graceful, pending bool) {
	m, grace := metaOf(obj), s.strategy(res).grace
	switch {
	case grace == nil:
		return false, false
	case m.GetDeletionTimestamp() != nil:
		return s.shortenGrace(m, o)
	}
	grace(obj, o)
	at := metav1.NewTime(s.now().Add(time.Duration(*o.GracePeriodSeconds) * time.Second)).Rfc3339Copy()
	m.SetDeletionTimestamp(&at)
	m.SetDeletionGracePeriodSeconds(o.GracePeriodSeconds)
	if m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	return true, false
}

// shortenGrace is what a second deletion may do: end sooner, never later.
func (s *Store) shortenGrace(m metav1.Object, o *metav1.DeleteOptions) (graceful, pending bool) {
	have := m.GetDeletionGracePeriodSeconds()
	if have == nil || *have == 0 {
		return false, false
	}
	if o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *have {
		return false, true
	}
	seconds := max(*o.GracePeriodSeconds, 0)
	if *o.GracePeriodSeconds < 0 {
		seconds = 1
	}
	at := m.GetDeletionTimestamp().Add(time.Duration(seconds-*have) * time.Second)
	if now := s.now(); at.Before(now) {
		at = now
		if seconds != 0 {
			seconds = 1
		}
	}
	stamp := metav1.NewTime(at).Rfc3339Copy()
	m.SetDeletionTimestamp(&stamp)
	m.SetDeletionGracePeriodSeconds(&seconds)
	o.GracePeriodSeconds = &seconds
	return true, false
}

// markDeleting is for what only its finalizers hold.
func (s *Store) markDeleting(m metav1.Object) {
	if m.GetDeletionTimestamp() == nil && m.GetGeneration() > 0 {
		m.SetGeneration(m.GetGeneration() + 1)
	}
	if at := m.GetDeletionTimestamp(); at == nil || at.After(s.now()) {
		now := metav1.NewTime(s.now()).Rfc3339Copy()
		m.SetDeletionTimestamp(&now)
	}
	var zero int64
	m.SetDeletionGracePeriodSeconds(&zero)
}

// collectorFinalizers are the object's finalizers with those that tell the garbage collector what to do about its
// dependents: none means to delete them afterwards.
func collectorFinalizers(m metav1.Object, o *metav1.DeleteOptions) []string {
	var out []string
	for _, f := range m.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			out = append(out, f)
		}
	}
	switch propagation(m, o) {
	case metav1.DeletePropagationOrphan:
		out = append(out, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		out = append(out, metav1.FinalizerDeleteDependents)
	case metav1.DeletePropagationBackground:
	}
	return out
}

// propagation is what the request says, else what the object's finalizers say, else background.
func propagation(m metav1.Object, o *metav1.DeleteOptions) metav1.DeletionPropagation {
	switch {
	case o.OrphanDependents != nil && *o.OrphanDependents: //nolint:staticcheck // old clients send it
		return metav1.DeletePropagationOrphan
	case o.OrphanDependents != nil: //nolint:staticcheck // old clients send it
		return metav1.DeletePropagationBackground
	case o.PropagationPolicy != nil:
		return *o.PropagationPolicy
	case slices.Contains(m.GetFinalizers(), metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case slices.Contains(m.GetFinalizers(), metav1.FinalizerDeleteDependents):
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// collectionWorkers is how many deletions of a collection run at once: enough to fill the store's batches.
const collectionWorkers = 16

// DeleteCollection deletes what match says (all, when it is nil) and returns the last states in list order. What is gone
// already is left out; any other error ends it, with some objects deleted.
func (s *Store) DeleteCollection(ctx context.Context, res *resource.Resource, namespace string, match func(*view.Item) bool, o metav1.DeleteOptions) ([]runtime.Object, error) {
	items, _ := s.view.List(res, namespace)
	out := make([]runtime.Object, len(items))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(collectionWorkers)
	for n, i := range items {
		if match != nil && !match(i) {
			continue
		}
		g.Go(func() error {
			obj, _, err := s.Delete(gctx, res, i.Meta.GetNamespace(), i.Meta.GetName(), o)
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
			out[n] = obj
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(o runtime.Object) bool { return o == nil }), nil
}
