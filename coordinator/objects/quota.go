package objects

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/quota"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

var resourceQuotas = resource.ForObject((*corev1.ResourceQuota)(nil))

// doubtLimit is how long an object counts though nobody knows whether it was stored, and the view does not show it.
const doubtLimit = time.Minute

// charges are the objects that quotas have let in and the view may not show yet. An object counts from the moment when it
// is let in: whoever asks next sees it here until it is in the view. So no number of writes at once exceeds a quota, and
// nothing has to be stored for it but the objects themselves.
type charges struct {
	mu      sync.Mutex
	pending map[store.Key]charge
}

type charge struct {
	object runtime.Object
	old    runtime.Object // nil for a new one
	until  time.Time      // zero while its write is under way
}

// charge lets an object in that is about to be created, or changed from old, as far as the quotas of its namespace go.
// The caller settles it when the write has ended.
func (s *Store) charge(res *resource.Resource, obj, old runtime.Object, dry bool) (settle func(error), err error) {
	nothing := func(error) {}
	m := metaOf(obj)
	if !res.Namespaced || len(s.quotasOf(obj)) == 0 {
		return nothing, nil
	}
	s.charges.mu.Lock()
	defer s.charges.mu.Unlock()
	key := keyOf(res, m.GetNamespace(), m.GetName())
	for _, q := range s.quotasOf(obj) {
		if err := quota.Check(q, obj, old, s.usedByOthers(q, key), s.now()); err != nil {
			return nothing, apierrors.NewForbidden(res.GroupResource(), m.GetName(), err)
		}
	}
	if dry {
		return nothing, nil
	}
	if s.charges.pending == nil {
		s.charges.pending = map[store.Key]charge{}
	}
	s.charges.pending[key] = charge{object: obj.DeepCopyObject(), old: old}
	return func(err error) { s.charges.settle(key, err, s.now()) }, nil
}

// settle ends a charge. The view shows what was stored by then; what may have been stored is kept in mind for a while.
func (c *charges) settle(key store.Key, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if one, found := c.pending[key]; found && unsettled(err) {
		one.until = now.Add(doubtLimit)
		c.pending[key] = one
		return
	}
	delete(c.pending, key)
}

// quotasOf are the quotas that the object counts for.
func (s *Store) quotasOf(obj runtime.Object) []*corev1.ResourceQuota {
	items, _ := s.view.List(resourceQuotas, metaOf(obj).GetNamespace())
	var out []*corev1.ResourceQuota
	for _, i := range items {
		if q, ok := i.Object.(*corev1.ResourceQuota); ok && quota.Covers(q, obj) {
			out = append(out, q)
		}
	}
	return out
}

// usedByOthers is what all objects of the quota's namespace but the named one use, with those on their way.
func (s *Store) usedByOthers(q *corev1.ResourceQuota, but store.Key) corev1.ResourceList {
	now := s.now()
	return quota.Sum(q, func(yield func(runtime.Object) bool) {
		for _, res := range resource.All() {
			if res.Namespaced && res.Stored == nil && !s.yieldStored(q, res, but, yield) {
				return
			}
		}
		for key, one := range s.charges.pending {
			switch {
			case !one.until.IsZero() && now.After(one.until):
				delete(s.charges.pending, key)
			case key.Namespace == q.Namespace && key != but && !yield(one.object):
				return
			}
		}
	}, now)
}

// yieldStored yields the stored objects of one kind that no charge stands for; false when nobody wants more.
func (s *Store) yieldStored(q *corev1.ResourceQuota, res *resource.Resource, but store.Key, yield func(runtime.Object) bool) bool {
	items, _ := s.view.List(res, q.Namespace)
	for _, i := range items {
		key := keyOf(res, i.Meta.GetNamespace(), i.Meta.GetName())
		_, charged := s.charges.pending[key]
		if key != but && !charged && !yield(i.Object) {
			return false
		}
	}
	return true
}

func resourceQuotaStrategy() *strategy {
	return &strategy{
		create: one(func(q *corev1.ResourceQuota) { q.Status = corev1.ResourceQuotaStatus{} }),
		update: two(func(q, old *corev1.ResourceQuota) { old.Status.DeepCopyInto(&q.Status) }),
		status: two(func(q, old *corev1.ResourceQuota) { old.Spec.DeepCopyInto(&q.Spec) }),
	}
}
