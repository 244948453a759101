package objects

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	genericvalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// part is what of an object a write may change.
type part int

const (
	partSpec      part = iota // everything but status
	partStatus                // status only
	partFinalize              // a namespace's spec.finalizers only
	partEphemeral             // a pod's spec.ephemeralContainers only
)

// Update replaces everything but status. With a resourceVersion it is a compare-and-set, without it the last writer wins
// where the kind allows that. Created is true when the kind allows creation by update and the object was absent.
func (s *Store) Update(ctx context.Context, obj runtime.Object, o WriteOptions) (out runtime.Object, created bool, err error) {
	out, err = s.viaStored(obj, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		w := write{WriteOptions: o, asked: asked}
		out, err := s.put(ctx, res, obj, partSpec, w)
		if isNotFound(res, err, metaOf(obj).GetName()) && s.strategy(res).createOnUpdate && metaOf(obj).GetUID() == "" {
			created = true
			obj = obj.DeepCopyObject()
			metaOf(obj).SetResourceVersion("")
			return s.create(ctx, res, obj, w)
		}
		return out, err
	})
	return out, created && err == nil, err
}

// UpdateStatus replaces status, and the labels and annotations where upstream lets a status write change them.
func (s *Store) UpdateStatus(ctx context.Context, obj runtime.Object, o WriteOptions) (runtime.Object, error) {
	return s.viaStored(obj, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		if s.strategy(res).status == nil {
			return nil, unsupported(res, "update status")
		}
		return s.put(ctx, res, obj, partStatus, write{WriteOptions: o, asked: asked, subresource: resource.Status})
	})
}

// Finalize replaces a namespace's spec.finalizers, and removes it when none is left and it is being deleted.
func (s *Store) Finalize(ctx context.Context, ns *corev1.Namespace, o WriteOptions) (runtime.Object, error) {
	return s.viaStored(ns, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		return s.put(ctx, res, obj, partFinalize, write{WriteOptions: o, asked: asked, subresource: "finalize"})
	})
}

// UpdateEphemeralContainers replaces a pod's spec.ephemeralContainers, to which more may only be added.
func (s *Store) UpdateEphemeralContainers(ctx context.Context, pod *corev1.Pod, o WriteOptions) (runtime.Object, error) {
	return s.viaStored(pod, func(res *resource.Resource, obj runtime.Object, asked *resource.Resource) (runtime.Object, error) {
		return s.put(ctx, res, obj, partEphemeral, write{WriteOptions: o, asked: asked, subresource: resource.Ephemeral})
	})
}

// put writes the client's whole object.
func (s *Store) put(ctx context.Context, res *resource.Resource, obj runtime.Object, p part, w write) (runtime.Object, error) {
	m := metaOf(obj)
	once := m.GetResourceVersion() != ""
	return s.modify(ctx, res, m.GetNamespace(), m.GetName(), p, once, w, func(*view.Item) (runtime.Object, error) {
		return obj.DeepCopyObject(), nil
	})
}

// modify writes what produce makes of the present object, again when another coordinator overtook it unless once is set.
// What produce returns must not be shared.
func (s *Store) modify(ctx context.Context, res *resource.Resource, namespace, name string, p part, once bool, w write, produce func(*view.Item) (runtime.Object, error)) (out runtime.Object, err error) {
	err = s.attempt(ctx, res, namespace, name, "update", once, func(ctx context.Context, item *view.Item) error {
		if item == nil {
			return notFound(res, name)
		}
		obj, err := produce(item)
		if err != nil {
			return err
		}
		out, err = s.change(ctx, item, obj, p, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// change makes item into obj, as far as part allows. The caller holds the lock.
func (s *Store) change(ctx context.Context, item *view.Item, obj runtime.Object, p part, w write) (runtime.Object, error) {
	res, st := item.Resource, s.strategy(item.Resource)
	if err := checkPreconditions(res, st, item, metaOf(obj), p); err != nil {
		return nil, err
	}
	s.trackChange(item, obj, p, w)
	s.prepareChange(res, st, item, obj, p)
	if err := s.admitChange(item, obj, p, w); err != nil {
		return nil, err
	}
	var reserved *reservation
	var errs field.ErrorList
	if p == partSpec {
		reserved, errs = st.reserve(obj, item.Object)
	}
	if len(errs) == 0 {
		errs = s.judgeChange(res, st, item, obj, p, w)
	}
	if err := invalid(res, item.Meta.GetName(), errs); err != nil {
		reserved.settle(err)
		return nil, err
	}
	if st.finish != nil {
		st.finish(obj)
	}
	if w.Warn != nil && p == partSpec {
		w.warn(s.validator.Warnings(ctx, res.GVK.GroupKind(), obj, item.Object)...)
	}
	out, err := s.commitCharged(ctx, item, obj, p, w)
	reserved.settle(err)
	return out, err
}

// admitChange refuses a change by who asks for it, or by what a pod's account may use.
func (s *Store) admitChange(item *view.Item, obj runtime.Object, p part, w write) error {
	switch pod, isPod := obj.(*corev1.Pod); {
	case p == partSpec:
		return w.admit(obj, item.Object)
	case p == partEphemeral && isPod:
		return s.refuseEphemeralSecrets(pod)
	}
	return nil
}

// commitCharged is commit, as far as quotas let it. Of what may be changed, only a Service can come to use more.
func (s *Store) commitCharged(ctx context.Context, item *view.Item, obj runtime.Object, p part, w write) (runtime.Object, error) {
	if item.Resource != services || p != partSpec {
		return s.commit(ctx, item, obj, w)
	}
	charged, err := s.charge(item.Resource, obj, item.Object, w.DryRun)
	if err != nil {
		return nil, err
	}
	out, err := s.commit(ctx, item, obj, w)
	charged(err)
	return out, err
}

// commit stores obj over item, deletes it when that was all it waited for, or does nothing when nothing changed.
func (s *Store) commit(ctx context.Context, item *view.Item, obj runtime.Object, w write) (runtime.Object, error) {
	switch {
	case deletionComplete(item, obj):
		if w.DryRun {
			return obj, nil
		}
		return s.remove(ctx, item, obj)
	case unchanged(item, obj):
		return obj, nil
	case w.DryRun:
		_, err := encode(item.Resource, obj)
		return obj, err
	}
	return obj, s.replace(ctx, item, obj)
}

func checkPreconditions(res *resource.Resource, st *strategy, item *view.Item, m metav1.Object, p part) error {
	if uid := m.GetUID(); uid != "" && uid != item.Meta.GetUID() {
		return uidConflict(res, m.GetName(), uid, item.Meta.GetUID())
	}
	switch version := m.GetResourceVersion(); {
	case version == "" && st.needVersion && p == partSpec:
		return invalid(res, m.GetName(), field.ErrorList{field.Invalid(field.NewPath("metadata", "resourceVersion"), version, "must be specified for an update")})
	case version != "" && version != item.Meta.GetResourceVersion():
		return conflict(res, m.GetName())
	}
	return nil
}

// prepareChange puts back what this part of the object may not change.
func (s *Store) prepareChange(res *resource.Resource, st *strategy, item *view.Item, obj runtime.Object, p part) {
	obj.GetObjectKind().SetGroupVersionKind(res.GVK)
	s.defaults.Set(obj)
	m, old := metaOf(obj), item.Meta
	m.SetGeneration(old.GetGeneration())
	switch {
	case p == partStatus:
		st.status(obj, item.Object)
	case p == partFinalize:
		keepAllButFinalizers(obj, item.Object)
	case p == partEphemeral:
		keepAllButEphemeral(obj, item.Object)
	case st.update != nil:
		st.update(obj, item.Object)
	}
	m.SetUID(old.GetUID())
	m.SetResourceVersion(old.GetResourceVersion())
	m.SetCreationTimestamp(old.GetCreationTimestamp())
	m.SetSelfLink(old.GetSelfLink())
	if at := old.GetDeletionTimestamp(); at != nil {
		m.SetDeletionTimestamp(at.DeepCopy())
	}
	if grace := old.GetDeletionGracePeriodSeconds(); grace != nil {
		seconds := *grace
		m.SetDeletionGracePeriodSeconds(&seconds)
	}
}

func (s *Store) judgeChange(res *resource.Resource, st *strategy, item *view.Item, obj runtime.Object, p part, w write) field.ErrorList {
	path := field.NewPath("metadata")
	errs := genericvalidation.ValidateObjectMetaAccessor(metaOf(obj), res.Namespaced, validPathSegment, path)
	errs = append(errs, genericvalidation.ValidateObjectMetaAccessorUpdate(metaOf(obj), item.Meta, path)...)
	gk := res.GVK.GroupKind()
	switch {
	case p == partStatus:
		errs = append(errs, s.validator.UpdateStatus(gk, obj, item.Object)...)
	case p == partFinalize:
		errs = append(errs, s.validator.FinalizeNamespace(obj, item.Object)...)
	case p == partEphemeral:
		errs = append(errs, s.validator.UpdateEphemeralContainers(obj, item.Object)...)
	case isEvent(obj):
		errs = append(errs, s.validator.UpdateEvent(obj, item.Object, w.asked.GVK.GroupVersion())...)
	default:
		errs = append(errs, s.validator.Update(gk, obj, item.Object)...)
	}
	if st.rules != nil && p == partSpec {
		errs = append(errs, st.rules(obj, item.Object)...)
	}
	return distinct(errs)
}

func isEvent(obj runtime.Object) bool {
	_, ok := obj.(*corev1.Event)
	return ok
}

// distinct drops repetitions: the kinds' rules judge metadata again.
func distinct(errs field.ErrorList) field.ErrorList {
	if len(errs) < 2 {
		return errs
	}
	seen := map[string]bool{}
	out := errs[:0]
	for _, e := range errs {
		if text := e.Error(); !seen[text] {
			seen[text] = true
			out = append(out, e)
		}
	}
	return out
}

// deletionComplete reports whether obj, which is being deleted, has nothing left that it waits for.
func deletionComplete(item *view.Item, obj runtime.Object) bool {
	if len(metaOf(obj).GetFinalizers()) > 0 || item.Meta.GetDeletionTimestamp() == nil {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok && len(ns.Spec.Finalizers) > 0 {
		return false
	}
	grace := item.Meta.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}
