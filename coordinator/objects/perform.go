package objects

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
)

var _ controller.Writer = (*Store)(nil)

// Perform makes one change that a plan asks for, and returns the object as it is then: nil for Delete, and for a change
// without a verb, which is nothing but events.
func (s *Store) Perform(ctx context.Context, c controller.Change) (runtime.Object, error) {
	switch c.Verb {
	case controller.Create:
		return s.Create(ctx, c.Object, WriteOptions{})
	case controller.Update:
		out, _, err := s.Update(ctx, c.Object, WriteOptions{})
		return out, err
	case controller.Status:
		return s.UpdateStatus(ctx, c.Object, WriteOptions{})
	case controller.Bind:
		pod, ok := c.Object.(*corev1.Pod)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("bind %T: only pods can be bound", c.Object))
		}
		return asObject(s.BindPod(ctx, pod))
	case controller.Finalize:
		ns, ok := c.Object.(*corev1.Namespace)
		if !ok {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("finalize %T: only namespaces can be finalized", c.Object))
		}
		return s.Finalize(ctx, ns, WriteOptions{})
	case controller.Delete:
		return nil, s.performDelete(ctx, c)
	case "":
		return nil, nil //nolint:nilnil // nothing to write
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("verb %q is unknown", c.Verb))
}

func asObject(pod *corev1.Pod, err error) (runtime.Object, error) {
	if err != nil {
		return nil, err
	}
	return pod, nil
}

func (s *Store) performDelete(ctx context.Context, c controller.Change) error {
	res := resource.ForObject(c.Object)
	if res == nil {
		return apierrors.NewBadRequest(fmt.Sprintf("delete %T: not of a kind that is served here", c.Object))
	}
	m := metaOf(c.Object)
	o := metav1.DeleteOptions{GracePeriodSeconds: c.Grace, Preconditions: &metav1.Preconditions{}}
	if uid := m.GetUID(); uid != "" {
		o.Preconditions.UID = &uid
	}
	if version := m.GetResourceVersion(); version != "" {
		o.Preconditions.ResourceVersion = &version
	}
	if c.Propagation != "" {
		o.PropagationPolicy = &c.Propagation
	}
	_, _, err := s.Delete(ctx, res, m.GetNamespace(), m.GetName(), o)
	return err
}
