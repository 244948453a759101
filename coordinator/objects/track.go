package objects

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects/ownership"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Tidy drops what the store can do without: see ownership.Tracker. Whoever holds the store calls it about once a minute.
func (s *Store) Tidy(now time.Time) { s.owners.Tidy(now) }

// ServerSideApply makes an object as the manifest of its manager says, and takes out what that manager had applied before
// and does not any more. Fields of other managers that it would change are a conflict that names them, unless o.Force is
// set. The object is created when absent, unless the manifest is for a subresource; the result of applying a scale is a
// Scale.
func (s *Store) ServerSideApply(ctx context.Context, res *resource.Resource, namespace, name string, manifest []byte, subresource string, o WriteOptions) (out runtime.Object, created bool, err error) {
	a, err := newApplication(res, namespace, name, manifest, subresource, o)
	if err != nil {
		return nil, false, err
	}
	for range maxAttempts {
		out, err = s.applyOver(ctx, a, o)
		if subresource == resource.Scale {
			return appliedScale(a, out, err)
		}
		if subresource != "" || !isNotFound(kept(res), err, name) {
			return out, false, err
		}
		out, err = s.applyNew(ctx, a, o)
		if !apierrors.IsAlreadyExists(err) {
			return out, err == nil, err
		}
	}
	return nil, false, err
}

// kept is the kind that keeps res's objects.
func kept(res *resource.Resource) *resource.Resource {
	if res.Stored != nil {
		return res.Stored
	}
	return res
}

// application is one manifest on its way into one object.
type application struct {
	to              ownership.Target
	namespace, name string
	manifest        *unstructured.Unstructured
	part            part
}

func newApplication(res *resource.Resource, namespace, name string, manifest []byte, subresource string, o WriteOptions) (*application, error) {
	a := &application{to: ownership.Target{Resource: res, Subresource: subresource}, namespace: namespace, name: name}
	switch subresource {
	case "":
	case resource.Scale:
		return a, a.readScale(manifest, o)
	case resource.Status:
		a.part = partStatus
	default:
		return nil, unsupported(res, "apply "+subresource)
	}
	a.manifest = &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(manifest, &a.manifest.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	return a, checkFields(manifest, new(map[string]any), o)
}

// checkFields finds fields that the manifest has twice, and unknown ones unless into is a map; those of a whole object are
// found when it is merged.
func checkFields(manifest []byte, into any, o WriteOptions) error {
	if o.Validation == metav1.FieldValidationIgnore || o.Validation == "" {
		return nil
	}
	err := yaml.UnmarshalStrict(manifest, into)
	switch {
	case err == nil:
		return nil
	case o.Validation == metav1.FieldValidationStrict:
		return apierrors.NewBadRequest(fmt.Sprintf("error strict decoding patch: %v", err))
	}
	o.warn(err.Error())
	return nil
}

func (s *Store) applyOver(ctx context.Context, a *application, o WriteOptions) (runtime.Object, error) {
	w := write{WriteOptions: o, asked: a.to.Resource, subresource: a.to.Subresource, tracked: true}
	out, err := s.modify(ctx, kept(a.to.Resource), a.namespace, a.name, a.part, false, w, func(item *view.Item) (runtime.Object, error) {
		obj, err := s.owners.Apply(a.to, item.As(a.to.Resource).Object, a.manifest, o.FieldManager, o.Force)
		if err != nil {
			return nil, err
		}
		if err := a.check(obj); err != nil {
			return nil, err
		}
		return stored(a.to.Resource, obj)
	})
	if err != nil {
		return nil, err
	}
	return s.shown(a.to.Resource, out)
}

func (s *Store) applyNew(ctx context.Context, a *application, o WriteOptions) (runtime.Object, error) {
	if uid := a.manifest.GetUID(); uid != "" {
		return nil, apierrors.NewConflict(a.to.Resource.GroupResource(), a.name,
			fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	live := a.to.Resource.New()
	live.GetObjectKind().SetGroupVersionKind(a.to.Resource.GVK)
	obj, err := s.owners.Apply(a.to, live, a.manifest, o.FieldManager, o.Force)
	if err != nil {
		return nil, err
	}
	if err := a.check(obj); err != nil {
		return nil, err
	}
	metaOf(obj).SetResourceVersion("")
	return s.viaStored(obj, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		return s.create(ctx, res, obj, write{WriteOptions: o, asked: asked, tracked: true})
	})
}

// check refuses a manifest of another object than the one that the request names.
func (a *application) check(obj runtime.Object) error {
	m := metaOf(obj)
	if m.GetNamespace() == "" {
		m.SetNamespace(a.namespace)
	}
	return sameName(m, a.namespace, a.name)
}

// stored is what res keeps of obj.
func stored(res *resource.Resource, obj runtime.Object) (runtime.Object, error) {
	if res.Stored == nil {
		return obj, nil
	}
	out, err := res.ToStored(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return out, nil
}

// unnamed is the manager of changes that nobody has put a name to: the coordinator's own.
const unnamed = api.ComponentCoordinator

// trackNew notes who set the fields of a new object, if that client wants to know, or has brought notes of its own.
func (s *Store) trackNew(res *resource.Resource, obj runtime.Object, w write) {
	m := metaOf(obj)
	if w.tracked {
		return
	}
	if !w.Track && len(m.GetManagedFields()) == 0 {
		m.SetManagedFields(nil)
		return
	}
	obj.GetObjectKind().SetGroupVersionKind(res.GVK)
	s.defaults.Set(obj)
	empty := res.New()
	empty.GetObjectKind().SetGroupVersionKind(res.GVK)
	if err := s.owners.Update(ownership.Target{Resource: res}, empty, obj, w.manager()); err != nil {
		s.log.Warn("managed fields not tracked", "kind", res.GVK.Kind, "namespace", m.GetNamespace(), "name", m.GetName(), "err", err)
		m.SetManagedFields(nil)
	}
}

// trackChange notes who changed what in an object whose fields are tracked. Others cost nothing.
func (s *Store) trackChange(item *view.Item, obj runtime.Object, p part, w write) {
	m, old := metaOf(obj), item.Meta.GetManagedFields()
	if w.tracked {
		return
	}
	if p == partFinalize || p == partEphemeral || len(old) == 0 && len(m.GetManagedFields()) == 0 || p == partStatus && w.FieldManager == "" {
		m.SetManagedFields(old)
		return
	}
	res := item.Resource
	obj.GetObjectKind().SetGroupVersionKind(res.GVK)
	s.defaults.Set(obj)
	if err := s.owners.Update(ownership.Target{Resource: res, Subresource: w.subresource}, item.Object, obj, w.manager()); err != nil {
		s.log.Warn("managed fields not tracked", "kind", res.GVK.Kind, "namespace", m.GetNamespace(), "name", m.GetName(), "err", err)
		m.SetManagedFields(old)
	}
}

func (w write) manager() string {
	if w.FieldManager == "" {
		return unnamed
	}
	return w.FieldManager
}

// unchanged reports whether storing obj would change nothing but the times at which fields were managed; obj has those of
// item then.
func unchanged(item *view.Item, obj runtime.Object) bool {
	m := metaOf(obj)
	times, alike := ownership.KeepTimes(m, item.Meta)
	if same(item, obj) {
		return true
	}
	if alike {
		m.SetManagedFields(times)
	}
	return false
}

// resetFields are what a write to the target leaves as it is: status for the object, everything else for status.
func (s *Store) resetFields(to ownership.Target) *fieldpath.Set {
	path := fieldpath.MakePathOrDie
	switch {
	case s.strategy(to.Resource).status == nil:
		return nil
	case to.Subresource != resource.Status:
		return fieldpath.NewSet(path("status"))
	}
	switch to.Resource {
	case pods:
		return fieldpath.NewSet(path("spec"), path("metadata", "deletionTimestamp"), path("metadata", "ownerReferences"))
	case deployments:
		return fieldpath.NewSet(path("spec"), path("metadata", "labels"))
	}
	return fieldpath.NewSet(path("spec"))
}
