package objects

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/view"
)

// The namespaces that every cluster has. The first three may not be deleted, as upstream.
var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, corev1.NamespaceNodeLease}

func namespaceStrategy() *strategy {
	return &strategy{
		create: one(func(ns *corev1.Namespace) {
			ns.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
			if !slices.Contains(ns.Spec.Finalizers, corev1.FinalizerKubernetes) {
				ns.Spec.Finalizers = append(ns.Spec.Finalizers, corev1.FinalizerKubernetes)
			}
		}),
		update: two(func(ns, old *corev1.Namespace) {
			ns.Spec.Finalizers = slices.Clone(old.Spec.Finalizers)
			old.Status.DeepCopyInto(&ns.Status)
		}),
		status: two(func(ns, old *corev1.Namespace) { old.Spec.DeepCopyInto(&ns.Spec) }),
		finish: one(func(ns *corev1.Namespace) {
			if ns.Labels == nil {
				ns.Labels = map[string]string{}
			}
			ns.Labels[corev1.LabelMetadataName] = ns.Name
		}),
		undying: func(name string) bool {
			return slices.Contains(systemNamespaces, name) && name != corev1.NamespaceNodeLease
		},
	}
}

// keepAllButFinalizers is what a write to the finalize subresource may change.
func keepAllButFinalizers(obj, old runtime.Object) {
	two(func(ns, old *corev1.Namespace) { old.Status.DeepCopyInto(&ns.Status) })(obj, old)
}

// deleteNamespace marks it as terminating; it goes away when Finalize has emptied spec.finalizers. The caller holds the
// lock and has checked the preconditions.
func (s *Store) deleteNamespace(ctx context.Context, item *view.Item, ns *corev1.Namespace, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if ns.DeletionTimestamp != nil && (len(ns.Spec.Finalizers) > 0 || len(ns.Finalizers) > 0) {
		return ns, false, nil
	}
	if ns.DeletionTimestamp != nil {
		out, err := s.removeUnless(ctx, item, ns, o)
		return out, err == nil, err
	}
	now := metav1.NewTime(s.now()).Rfc3339Copy()
	ns.DeletionTimestamp = &now
	ns.Status.Phase = corev1.NamespaceTerminating
	ns.Finalizers = collectorFinalizers(ns, o)
	return ns, false, s.replaceUnless(ctx, item, ns, o)
}
