package objects

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	genericvalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Names are generated as upstream does: a random suffix, and another one when that name is taken.
const (
	maxNameLength      = 63
	suffixLength       = 5
	maxGeneratedPrefix = maxNameLength - suffixLength
	nameAttempts       = 8
)

// write is one request on its way.
type write struct {
	WriteOptions
	asked       *resource.Resource // the kind as the client named it; differs from the stored one for aliases
	subresource string             // empty for the object itself
	tracked     bool               // the object's managed fields are as they are to be
}

// Create stores a new object.
func (s *Store) Create(ctx context.Context, obj runtime.Object, o WriteOptions) (runtime.Object, error) {
	return s.viaStored(obj, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		return s.create(ctx, res, obj, write{WriteOptions: o, asked: asked})
	})
}

// viaStored runs do on the kind under which obj is kept, and converts the result back.
func (s *Store) viaStored(obj runtime.Object, do func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error)) (runtime.Object, error) {
	res := resource.ForObject(obj)
	if res == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%T is not of a kind that is served here", obj))
	}
	if res.Stored == nil {
		return do(res, obj, res)
	}
	in, err := res.ToStored(obj)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	out, err := do(res.Stored, in, res)
	if err != nil {
		return nil, err
	}
	return s.shown(res, out)
}

// shown is a stored object as res names it.
func (s *Store) shown(res *resource.Resource, obj runtime.Object) (runtime.Object, error) {
	if res.Stored == nil || obj == nil {
		return obj, nil
	}
	out, err := res.FromStored(obj)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return out, nil
}

func (s *Store) create(ctx context.Context, res *resource.Resource, obj runtime.Object, w write) (runtime.Object, error) {
	obj = obj.DeepCopyObject()
	m := metaOf(obj)
	if m.GetResourceVersion() != "" {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	if err := s.checkNamespace(res, m); err != nil {
		return nil, err
	}
	s.trackNew(res, obj, w)
	prefix := m.GetGenerateName()
	if m.GetName() != "" || prefix == "" {
		return obj, s.createOne(ctx, res, obj, w)
	}
	for n := 1; ; n++ {
		attempt := obj.DeepCopyObject()
		metaOf(attempt).SetName(generateName(prefix))
		err := s.createOne(ctx, res, attempt, w)
		if err == nil {
			return attempt, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
		if n == nameAttempts {
			return nil, apierrors.NewGenerateNameConflict(res.GroupResource(), metaOf(attempt).GetName(), retryAfterSeconds)
		}
	}
}

func generateName(prefix string) string {
	if len(prefix) > maxGeneratedPrefix {
		prefix = prefix[:maxGeneratedPrefix]
	}
	return prefix + rand.String(suffixLength)
}

// checkNamespace refuses objects in no namespace, in one that does not exist, and in one that is being deleted.
func (s *Store) checkNamespace(res *resource.Resource, m metav1.Object) error {
	if !res.Namespaced {
		return nil
	}
	namespace := m.GetNamespace()
	if namespace == "" {
		return apierrors.NewBadRequest("an empty namespace may not be set during creation")
	}
	item, ok := s.view.Get(resource.ForObject((*corev1.Namespace)(nil)), "", namespace)
	if !ok {
		return notFound(resource.ForObject((*corev1.Namespace)(nil)), namespace)
	}
	if item.Meta.GetDeletionTimestamp() != nil {
		return terminating(res, namespace, m.GetName())
	}
	return nil
}

// createOne stores obj, which it completes, under its name.
func (s *Store) createOne(ctx context.Context, res *resource.Resource, obj runtime.Object, w write) error {
	reserved, err := s.prepareCreate(ctx, res, obj, w)
	if err != nil {
		return err
	}
	charged, err := s.charge(res, obj, nil, w.DryRun)
	if err != nil {
		reserved.settle(err)
		return err
	}
	err = s.attempt(ctx, res, metaOf(obj).GetNamespace(), metaOf(obj).GetName(), "create", true, func(ctx context.Context, item *view.Item) error {
		return s.insert(ctx, res, item, obj, w)
	})
	charged(err)
	reserved.settle(err)
	if err == nil {
		s.furnish(ctx, obj, w)
	}
	return err
}

func (s *Store) insert(ctx context.Context, res *resource.Resource, item *view.Item, obj runtime.Object, w write) error {
	m := metaOf(obj)
	if item != nil {
		return apierrors.NewAlreadyExists(res.GroupResource(), m.GetName())
	}
	value, err := encode(res, obj)
	if err != nil || w.DryRun {
		return err
	}
	revision, err := s.to.Create(ctx, keyOf(res, m.GetNamespace(), m.GetName()), value)
	if err != nil {
		return err
	}
	return s.stored(ctx, res, obj, "create", revision)
}

// prepareCreate makes obj what will be stored, and judges it. What it reserves is the caller's to settle.
func (s *Store) prepareCreate(ctx context.Context, res *resource.Resource, obj runtime.Object, w write) (*reservation, error) {
	st := s.strategy(res)
	s.fillSystemFields(metaOf(obj))
	obj.GetObjectKind().SetGroupVersionKind(res.GVK)
	s.defaults.Set(obj)
	if st.create != nil {
		st.create(obj)
	}
	if st.refuse != nil {
		if err := st.refuse(obj); err != nil {
			return nil, err
		}
	}
	if err := w.admit(obj, nil); err != nil {
		return nil, err
	}
	reserved, errs := st.reserve(obj, nil)
	if len(errs) == 0 {
		errs = s.judgeCreate(res, st, obj, w)
	}
	if err := invalid(res, metaOf(obj).GetName(), errs); err != nil {
		reserved.settle(err)
		return nil, err
	}
	if st.finish != nil {
		st.finish(obj)
	}
	if w.Warn != nil {
		w.warn(s.validator.Warnings(ctx, res.GVK.GroupKind(), obj, nil)...)
	}
	return reserved, nil
}

func (s *Store) fillSystemFields(m metav1.Object) {
	m.SetUID(uuid.NewUUID())
	m.SetCreationTimestamp(metav1.NewTime(s.now()).Rfc3339Copy())
	m.SetDeletionTimestamp(nil)
	m.SetDeletionGracePeriodSeconds(nil)
	m.SetSelfLink("")
	m.SetGeneration(0)
}

func (s *Store) judgeCreate(res *resource.Resource, st *strategy, obj runtime.Object, w write) field.ErrorList {
	errs := s.upstreamCreate(res, obj, w)
	if st.rules != nil {
		errs = append(errs, st.rules(obj, nil)...)
	}
	if len(errs) == 0 { // as upstream: the kind's own words about its name first
		errs = genericvalidation.ValidateObjectMetaAccessor(metaOf(obj), res.Namespaced, validPathSegment, field.NewPath("metadata"))
	}
	return errs
}

func (s *Store) upstreamCreate(res *resource.Resource, obj runtime.Object, w write) field.ErrorList {
	if _, ok := obj.(*corev1.Event); ok {
		return s.validator.CreateEvent(obj, w.asked.GVK.GroupVersion())
	}
	return s.validator.Create(res.GVK.GroupKind(), obj)
}

func validPathSegment(name string, prefix bool) []string {
	if prefix {
		return content.IsPathSegmentPrefix(name)
	}
	return content.IsPathSegmentName(name)
}

// unsettled reports whether a write may have happened though it gave err.
func unsettled(err error) bool {
	var status *apierrors.StatusError
	return errors.As(err, &status) && (apierrors.IsServerTimeout(status) || apierrors.IsTimeout(status))
}
