package objects

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// MutateStatus lets change edit a copy of the object, and writes its status if it returns true; again, on the newer
// object, when another write came between. The result is the object as it is then.
func (s *Store) MutateStatus(ctx context.Context, res *resource.Resource, namespace, name string, change func(runtime.Object) bool) (runtime.Object, error) {
	if s.strategy(res).status == nil {
		return nil, unsupported(res, "update status")
	}
	return s.modify(ctx, res, namespace, name, partStatus, false, write{asked: res, subresource: resource.Status}, func(item *view.Item) (runtime.Object, error) {
		obj := item.Object.DeepCopyObject()
		if !change(obj) {
			return item.Object.DeepCopyObject(), nil
		}
		return obj, nil
	})
}

// Mutate is MutateStatus for everything but status.
func (s *Store) Mutate(ctx context.Context, res *resource.Resource, namespace, name string, change func(runtime.Object) bool) (runtime.Object, error) {
	return s.modify(ctx, res, namespace, name, partSpec, false, write{asked: res}, func(item *view.Item) (runtime.Object, error) {
		obj := item.Object.DeepCopyObject()
		if !change(obj) {
			return item.Object.DeepCopyObject(), nil
		}
		return obj, nil
	})
}

// isNotFound reports whether err says that this very object is absent, not for instance its namespace.
func isNotFound(res *resource.Resource, err error, name string) bool {
	if !apierrors.IsNotFound(err) {
		return false
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok || status.Status().Details == nil {
		return false
	}
	d := status.Status().Details
	return d.Kind == res.Plural && d.Group == res.GVK.Group && d.Name == name
}
