package objects

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/resource"
)

// strategy is what one kind does beyond what all do. Functions may be nil. New objects are the write's own copies; old
// ones are shared and never changed.
type strategy struct {
	createOnUpdate bool // an update of an absent object creates it
	needVersion    bool // an update must carry a resourceVersion

	create   func(obj runtime.Object)      // clears and sets what clients may not
	update   func(obj, old runtime.Object) // the same for a change of anything but status
	status   func(obj, old runtime.Object) // the same for a change of status; nil when the kind has no status subresource
	finish   func(obj runtime.Object)      // after validation
	refuse   func(obj runtime.Object) error
	rules    func(obj, old runtime.Object) field.ErrorList // our own, beside upstream's; old is nil for a new object
	allocate func(obj, old runtime.Object) (*reservation, field.ErrorList)
	grace    func(obj runtime.Object, o *metav1.DeleteOptions) // sets o's grace period; nil when the kind is deleted at once
	undying  func(name string) bool                            // may not be deleted
}

// defaultRules are of kinds that need nothing special.
var defaultRules = &strategy{}

func (s *Store) strategy(res *resource.Resource) *strategy {
	if st := s.strategies[res]; st != nil {
		return st
	}
	return defaultRules
}

// one and two give functions on a concrete type the strategy's shape. The table binds them to that type's kind.
func one[T runtime.Object](f func(T)) func(runtime.Object) {
	return func(obj runtime.Object) {
		if t, ok := obj.(T); ok {
			f(t)
		}
	}
}

func two[T runtime.Object](f func(obj, old T)) func(obj, old runtime.Object) {
	return func(obj, old runtime.Object) {
		t, ok := obj.(T)
		o, both := old.(T)
		if ok && both {
			f(t, o)
		}
	}
}
