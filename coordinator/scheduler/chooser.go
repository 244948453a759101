package scheduler

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// chooser says which pods a rule is about.
type chooser struct {
	names      []string        // of namespaces, sorted
	namespaces labels.Selector // of further namespaces, by their labels
	pods       labels.Selector
}

func (c *chooser) matches(s *society, namespace string, pod labels.Set) bool {
	if _, named := slices.BinarySearch(c.names, namespace); !named && !c.namespaces.Matches(s.namespaces[namespace]) {
		return false
	}
	return c.pods.Matches(pod)
}

func (c *chooser) String() string {
	return fmt.Sprintf("%s;%s;%s", strings.Join(c.names, ","), c.namespaces, c.pods)
}

// anchor is a label that every chosen pod has, if the chooser asks for one.
func (c *chooser) anchor() (label [2]string, ok bool) {
	requirements, _ := c.pods.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if values := r.ValuesUnsorted(); len(values) == 1 {
				return [2]string{r.Key(), values[0]}, true
			}
		default: // says nothing about a value that must be there
		}
	}
	return label, false
}

// selectorOf is the label selector with what the pod's own labels add: a pod chosen must have the same values of the
// labels in match, and other ones of those in mismatch. Labels that the pod lacks are left out, as upstream does. A
// selector that cannot be read chooses nothing; validation refuses such ones.
func selectorOf(s *metav1.LabelSelector, own map[string]string, match, mismatch []string) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil || s == nil {
		return labels.Nothing()
	}
	selector = narrow(selector, own, match, selection.In)
	return narrow(selector, own, mismatch, selection.NotIn)
}

func narrow(selector labels.Selector, own map[string]string, keys []string, operator selection.Operator) labels.Selector {
	for _, k := range keys {
		value, has := own[k]
		if !has {
			continue
		}
		r, err := labels.NewRequirement(k, operator, []string{value})
		if err != nil {
			return labels.Nothing()
		}
		selector = selector.Add(*r)
	}
	return selector
}

// register finds what is about a pod without looking at everything: most rules ask for one value of a label.
type register[T any] struct {
	byLabel map[[2]string][]T
	loose   []T
}

func (r *register[T]) add(c *chooser, one T) {
	label, ok := c.anchor()
	if !ok {
		r.loose = append(r.loose, one)
		return
	}
	if r.byLabel == nil {
		r.byLabel = map[[2]string][]T{}
	}
	r.byLabel[label] = append(r.byLabel[label], one)
}

// each calls f, in no order, with all that may be about a pod with these labels.
func (r *register[T]) each(pod labels.Set, f func(T)) {
	for _, one := range r.loose {
		f(one)
	}
	if len(r.byLabel) == 0 {
		return
	}
	for k, v := range pod {
		for _, one := range r.byLabel[[2]string{k, v}] {
			f(one)
		}
	}
}
