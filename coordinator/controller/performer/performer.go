// Package performer performs the changes that plans ask for through the one write path, coordinator/objects. It decides
// nothing and tries nothing twice: the shell of package controller does.
package performer

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

// Performer implements controller.Writer. It is safe for concurrent use.
type Performer struct {
	objects *objects.Store
	options objects.WriteOptions
}

// New makes a performer that writes to o; manager is named in the objects' managed fields.
func New(o *objects.Store, manager string) *Performer {
	return &Performer{objects: o, options: objects.WriteOptions{FieldManager: manager}}
}

// Perform does one change. Its errors are those of the API.
func (p *Performer) Perform(ctx context.Context, c controller.Change) (runtime.Object, error) {
	switch c.Verb {
	case controller.Create:
		return p.objects.Create(ctx, c.Object, p.options)
	case controller.Update:
		obj, _, err := p.objects.Update(ctx, c.Object, p.options)
		return obj, err
	case controller.Status:
		return p.objects.UpdateStatus(ctx, c.Object, p.options)
	case controller.Bind:
		return p.bind(ctx, c.Object)
	case controller.Finalize:
		return p.finalize(ctx, c.Object)
	case controller.Delete:
		return nil, p.delete(ctx, c)
	case controller.Evict:
		return nil, p.evict(ctx, c)
	default:
		return nil, fmt.Errorf("change of %T: no verb %q", c.Object, c.Verb)
	}
}

func (p *Performer) bind(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("bind %T: only pods can be bound", obj)
	}
	bound, err := p.objects.BindPod(ctx, pod)
	if err != nil {
		return nil, err
	}
	return bound, nil
}

func (p *Performer) finalize(ctx context.Context, obj runtime.Object) (runtime.Object, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return nil, fmt.Errorf("finalize %T: only namespaces are finalized so", obj)
	}
	return p.objects.Finalize(ctx, ns, p.options)
}

// delete deletes the very object that the plan saw, and that version of it where the plan says so.
func (p *Performer) delete(ctx context.Context, c controller.Change) error {
	o, options, err := deletion(c)
	if err != nil {
		return err
	}
	res := resource.ForObject(o)
	if res == nil {
		return fmt.Errorf("delete %T: not a kind that is served", o)
	}
	_, _, err = p.objects.Delete(ctx, res, o.GetNamespace(), o.GetName(), options)
	return err
}

// evict is delete, as far as the pod's disruption budget allows it.
func (p *Performer) evict(ctx context.Context, c controller.Change) error {
	o, options, err := deletion(c)
	if err != nil {
		return err
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: o.GetName()}, DeleteOptions: &options}
	return p.objects.Evict(ctx, eviction, p.options)
}

func deletion(c controller.Change) (controller.Object, metav1.DeleteOptions, error) {
	options := metav1.DeleteOptions{GracePeriodSeconds: c.Grace, Preconditions: &metav1.Preconditions{}}
	o, ok := c.Object.(controller.Object)
	if !ok {
		return nil, options, fmt.Errorf("%s %T: not an API object", c.Verb, c.Object)
	}
	if uid := o.GetUID(); uid != "" {
		options.Preconditions.UID = &uid
	}
	if version := o.GetResourceVersion(); c.Exact && version != "" {
		options.Preconditions.ResourceVersion = &version
	}
	if c.Propagation != "" {
		options.PropagationPolicy = &c.Propagation
	}
	return o, options, nil
}
