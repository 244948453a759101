package ownership

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"skerry.dev/skerry/coordinator/objects/ownership/schema"
	"skerry.dev/skerry/coordinator/resource"
)

// converter is what upstream's field manager asks of a scheme and of a type converter, for kinds that are served in one
// version each, or in two that are one kept object.
type converter struct {
	types schema.Types
	fill  func(runtime.Object)
}

// New makes an empty object.
func (c converter) New(gvk runtimeschema.GroupVersionKind) (runtime.Object, error) {
	r := resource.ForKind(gvk)
	if r == nil {
		return nil, runtime.NewNotRegisteredErrForKind("served kinds", gvk)
	}
	obj := r.New()
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, nil
}

// Default fills in an object.
func (c converter) Default(obj runtime.Object) { c.fill(obj) }

// ObjectToTyped wraps an object for merging.
func (c converter) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	t := c.types[gvk]
	if t == nil {
		return nil, runtime.NewNotRegisteredErrForKind("served kinds", gvk)
	}
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return t.FromUnstructured(u.UnstructuredContent(), opts...)
	}
	return t.FromStructured(obj, opts...)
}

// TypedToObject unwraps what merging gave.
func (c converter) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	content, ok := v.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, errors.New("the merged value is no object")
	}
	return &unstructured.Unstructured{Object: content}, nil
}

// ConvertToVersion gives the object as a Go type of the version.
func (c converter) ConvertToVersion(in runtime.Object, version runtime.GroupVersioner) (runtime.Object, error) {
	from := in.GetObjectKind().GroupVersionKind()
	to, ok := version.KindForGroupVersionKinds([]runtimeschema.GroupVersionKind{from})
	if !ok {
		gv, exact := version.(runtimeschema.GroupVersion)
		if !exact {
			return nil, runtime.NewNotRegisteredErrForTarget("served kinds", nil, version)
		}
		to = gv.WithKind(from.Kind)
	}
	obj, err := c.structured(in, from)
	if err != nil || from == to {
		return obj, err
	}
	return convert(obj, resource.ForKind(from), resource.ForKind(to), to)
}

func (c converter) structured(in runtime.Object, gvk runtimeschema.GroupVersionKind) (runtime.Object, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	out, err := c.New(gvk)
	if err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, out); err != nil {
		return nil, fmt.Errorf("read %s: %w", gvk.Kind, err)
	}
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out, nil
}

// convert turns an object into what is another name for it.
func convert(obj runtime.Object, from, to *resource.Resource, want runtimeschema.GroupVersionKind) (runtime.Object, error) {
	switch {
	case from == nil || to == nil:
	case to.Stored == from:
		return to.FromStored(obj)
	case from.Stored == to:
		return from.ToStored(obj)
	}
	return nil, runtime.NewNotRegisteredErrForKind("served kinds", want)
}

// Convert is never called: versions are.
func (c converter) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T: not a conversion between versions", in, out)
}

// ConvertFieldLabel is never called: selectors are the apiserver's.
func (c converter) ConvertFieldLabel(gvk runtimeschema.GroupVersionKind, label, _ string) (string, string, error) {
	return "", "", fmt.Errorf("convert field label %s of %s: not a selector", label, gvk.Kind)
}
