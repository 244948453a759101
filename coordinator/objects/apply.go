package objects

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// lastApplied is the annotation in which kubectl keeps the manifest applied last; sharing it, both can take turns.
const lastApplied = corev1.LastAppliedConfigAnnotation

// Apply makes an object as a manifest (one object, JSON or YAML) says, as kubectl apply does on the client side: created
// when absent, else what the manifest applied last had and this one lacks is removed, what this one has is set, and the
// rest is left alone. Changed is false when it was so already. A namespaced object without a namespace is put in
// "default". Unknown fields are errors unless o.Validation says otherwise.
func (s *Store) Apply(ctx context.Context, manifest []byte, o WriteOptions) (out runtime.Object, changed bool, err error) {
	m, err := parseManifest(manifest, o)
	if err != nil {
		return nil, false, err
	}
	name, namespace := m.content.GetName(), m.content.GetNamespace()
	for range maxAttempts {
		if item, ok := s.view.Get(m.res, namespace, name); ok {
			out, err = s.applyTo(ctx, m, o)
			changed = err == nil && metaOf(out).GetResourceVersion() != item.Meta.GetResourceVersion()
			if !isNotFound(m.res, err, name) {
				return out, changed, err
			}
			continue // deleted meanwhile
		}
		out, err = s.Create(ctx, m.object, o)
		if !apierrors.IsAlreadyExists(err) {
			return out, err == nil, err
		}
	}
	return nil, false, err
}

// parsed is a manifest with the annotation that holds itself.
type parsed struct {
	res     *resource.Resource
	content *unstructured.Unstructured
	json    []byte         // of content
	object  runtime.Object // content, typed
}

func parseManifest(manifest []byte, o WriteOptions) (*parsed, error) {
	body, err := yaml.YAMLToJSONStrict(manifest)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("manifest is not YAML or JSON: %v", err))
	}
	m := &parsed{content: &unstructured.Unstructured{}}
	if err := m.content.UnmarshalJSON(body); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("manifest is no object: %v", err))
	}
	if m.res = resource.ForKind(m.content.GroupVersionKind()); m.res == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("no matches for kind %q in version %q", m.content.GetKind(), m.content.GetAPIVersion()))
	}
	if m.content.GetName() == "" {
		return nil, apierrors.NewBadRequest("metadata.name: required to apply a manifest")
	}
	if m.res.Namespaced && m.content.GetNamespace() == "" {
		m.content.SetNamespace(metav1.NamespaceDefault)
	}
	if err := m.annotate(); err != nil {
		return nil, err
	}
	return m, m.decode(o)
}

// annotate puts the manifest, without the annotation, into its annotation.
func (m *parsed) annotate() error {
	annotations := m.content.GetAnnotations()
	delete(annotations, lastApplied)
	if annotations == nil {
		annotations = map[string]string{}
	}
	m.content.SetAnnotations(annotations)
	bare, err := m.content.MarshalJSON()
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("manifest: %v", err))
	}
	annotations[lastApplied] = string(bare)
	m.content.SetAnnotations(annotations)
	m.json, err = m.content.MarshalJSON()
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("manifest: %v", err))
	}
	return nil
}

func (m *parsed) decode(o WriteOptions) error {
	validation := o.Validation
	if validation == "" {
		validation = metav1.FieldValidationStrict
	}
	obj, warnings, err := DecodeStrict(m.json, runtime.ContentTypeJSON, m.res, validation)
	if err != nil {
		return err
	}
	o.warn(warnings...)
	m.object = obj
	return nil
}

func (s *Store) applyTo(ctx context.Context, m *parsed, o WriteOptions) (runtime.Object, error) {
	out, err := s.modify(ctx, kept(m.res), m.content.GetNamespace(), m.content.GetName(), partSpec, false, write{WriteOptions: o, asked: m.res}, func(item *view.Item) (runtime.Object, error) {
		return m.merge(item.As(m.res), o)
	})
	if err != nil {
		return nil, err
	}
	return s.shown(m.res, out)
}

// merge is the three-way patch of kubectl apply.
func (m *parsed) merge(item *view.Item, o WriteOptions) (runtime.Object, error) {
	current, err := item.JSON()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	strategies, err := strategicpatch.NewPatchMetaFromStruct(item.Object)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	original := []byte(item.Meta.GetAnnotations()[lastApplied])
	if !json.Valid(original) {
		original = nil // whoever wrote it was no apply: nothing is known to remove
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(original, m.json, current, strategies, true)
	if err != nil {
		return nil, strategicError(err)
	}
	p, err := newPatcher(types.StrategicMergePatchType, patch, o)
	if err != nil {
		return nil, err
	}
	return p.object(item)
}
