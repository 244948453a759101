// Package ownership keeps track of which client owns which field of an object: server-side apply, its conflicts, and the
// managedFields of the objects that take part in it. The merging is upstream's own; this package gives it the types of the
// served kinds, loaded when somebody applies and dropped when nobody has for a while.
//
// It writes nothing and reads no store: coordinator/objects asks it what an object becomes.
package ownership

import (
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"skerry.dev/skerry/coordinator/objects/ownership/schema"
	"skerry.dev/skerry/coordinator/resource"
)

// idleLife is how long the types are kept after their last use.
const idleLife = 5 * time.Minute

// Target is what a write goes to: a kind, or one of its subresources.
type Target struct {
	Resource    *resource.Resource
	Subresource string // empty for the object itself
}

// Rules are what the tracker must know of the kinds.
type Rules struct {
	// Default fills in an object of a served kind.
	Default func(runtime.Object)
	// Reset gives the fields that a write to the target leaves as they are, whatever it says of them: nobody comes to own
	// them that way. Nil means none.
	Reset func(Target) *fieldpath.Set
}

// Tracker decides who owns what. Its methods may be called concurrently.
type Tracker struct {
	rules Rules

	mu     sync.Mutex
	types  schema.Types // nil while nobody applies
	fields map[Target]*managedfields.FieldManager
	used   time.Time
}

// New makes a Tracker that has nothing loaded.
func New(r Rules) *Tracker { return &Tracker{rules: r} }

// Tidy drops what was loaded when it has not been used for some minutes before now.
func (t *Tracker) Tidy(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.types != nil && now.Sub(t.used) > idleLife {
		t.types, t.fields = nil, nil
	}
}

// Loaded reports whether the types are in memory.
func (t *Tracker) Loaded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.types != nil
}

// Apply is live with the patch applied by manager: a new object of the target's kind, with its managedFields. Live is not
// changed; an empty one of the kind means that there is none yet. Conflicts with other managers are an error that names
// them, unless force takes their fields over.
func (t *Tracker) Apply(to Target, live runtime.Object, patch *unstructured.Unstructured, manager string, force bool) (runtime.Object, error) {
	f, err := t.manager(to)
	if err != nil {
		return nil, err
	}
	out, err := f.Apply(live.DeepCopyObject(), patch, manager, force)
	if err != nil {
		return nil, applyError(err)
	}
	return out, nil
}

// Update sets obj's managedFields: manager comes to own what differs from live. Live is not changed; an empty one of the
// kind means that obj is new. An object that nobody has tracked stays so, unless it is new.
func (t *Tracker) Update(to Target, live, obj runtime.Object, manager string) error {
	f, err := t.manager(to)
	if err != nil {
		return err
	}
	if _, err := f.Update(live, obj, manager); err != nil {
		return fmt.Errorf("track fields: %w", err)
	}
	return nil
}

// applyError keeps what is a Status. The rest is wrong with the patch, and upstream calls it an internal error of no kind.
func applyError(err error) error {
	if _, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return err
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 500, Message: err.Error()}}
}

// manager is the target's part of upstream's field manager.
func (t *Tracker) manager(to Target) (*managedfields.FieldManager, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = time.Now()
	if t.types == nil {
		types, err := schema.Load()
		if err != nil {
			return nil, err
		}
		t.types, t.fields = types, map[Target]*managedfields.FieldManager{}
	}
	if f, ok := t.fields[to]; ok {
		return f, nil
	}
	f, err := t.newManager(to)
	if err != nil {
		return nil, fmt.Errorf("track fields of %s: %w", to.Resource.GVK, err)
	}
	t.fields[to] = f
	return f, nil
}

func (t *Tracker) newManager(to Target) (*managedfields.FieldManager, error) {
	gvk, c := to.Resource.GVK, converter{types: t.types, fill: t.rules.Default}
	var reset map[fieldpath.APIVersion]fieldpath.Filter
	if set := t.rules.Reset(to); set != nil {
		reset = map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(gvk.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set)}
	}
	return managedfields.NewDefaultFieldManager(c, c, c, c, gvk, gvk.GroupVersion(), to.Subresource, reset)
}

// KeepTimes gives obj the times of live's managedFields when those are all that differs in them: a write that changes
// nothing else is then none. It reports whether it did; what they were is then in before.
func KeepTimes(obj, live metav1.Object) (before []metav1.ManagedFieldsEntry, kept bool) {
	now, old := obj.GetManagedFields(), live.GetManagedFields()
	if len(now) == 0 || len(now) != len(old) {
		return nil, false
	}
	for i := range now {
		if !sameButTime(&now[i], &old[i]) {
			return nil, false
		}
	}
	obj.SetManagedFields(old)
	return now, true
}

func sameButTime(a, b *metav1.ManagedFieldsEntry) bool {
	if a.Manager != b.Manager || a.Operation != b.Operation || a.APIVersion != b.APIVersion || a.Subresource != b.Subresource ||
		(a.FieldsV1 == nil) != (b.FieldsV1 == nil) {
		return false
	}
	return a.FieldsV1 == nil || a.FieldsV1.Equal(*b.FieldsV1)
}
