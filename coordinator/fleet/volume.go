package fleet

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging"
)

// discarded lets a volume go whose node says that its data are gone. It counts only for a volume of that node whose data
// were to be removed.
func (r *Reports) discarded(ctx context.Context, node string, report messaging.VolumeReport) error {
	v, ok := get[*corev1.PersistentVolume](r.view, "", report.Volume)
	if !ok {
		return nil
	}
	if home := controller.HomeOf(v); home != node {
		return drop("node %s reports volume %s, which is on %q", node, v.Name, home)
	}
	_, err := r.objects.Mutate(ctx, resource.ForObject(v), "", v.Name, func(obj runtime.Object) bool {
		now, ok := obj.(*corev1.PersistentVolume)
		if !ok || now.UID != v.UID || !controller.Condemned(now) {
			return false
		}
		now.Finalizers = slices.DeleteFunc(now.Finalizers, func(f string) bool { return f == api.FinalizerLocalData })
		return true
	})
	return err
}
