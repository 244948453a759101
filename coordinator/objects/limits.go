package objects

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	podresource "k8s.io/component-helpers/resource"

	kinds "skerry.dev/skerry/coordinator/resource"
)

var limitRanges = kinds.ForObject((*corev1.LimitRange)(nil))

// annotationLimits says in a pod what a LimitRange has added to it.
const annotationLimits = "kubernetes.io/limit-ranger"

func (s *Store) limitRanges(namespace string) []*corev1.LimitRange {
	items, _ := s.view.List(limitRanges, namespace)
	var out []*corev1.LimitRange
	for _, i := range items {
		if l, ok := i.Object.(*corev1.LimitRange); ok {
			out = append(out, l)
		}
	}
	return out
}

// limit gives a new pod's containers the requests and limits that its namespace's LimitRanges provide.
func (s *Store) limit(pod *corev1.Pod) {
	for _, l := range s.limitRanges(pod.Namespace) {
		var added []string
		for i := range pod.Spec.Containers {
			added = append(added, addLimits(&pod.Spec.Containers[i], "container", l)...)
		}
		for i := range pod.Spec.InitContainers {
			added = append(added, addLimits(&pod.Spec.InitContainers[i], "init container", l)...)
		}
		if len(added) == 0 {
			continue
		}
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[annotationLimits] = "LimitRanger plugin set: " + strings.Join(added, "; ")
	}
}

// addLimits returns words for what it added.
func addLimits(c *corev1.Container, sort string, l *corev1.LimitRange) (added []string) {
	requests, limits := corev1.ResourceList{}, corev1.ResourceList{}
	for i := range l.Spec.Limits {
		if item := &l.Spec.Limits[i]; item.Type == corev1.LimitTypeContainer {
			maps.Copy(requests, item.DefaultRequest)
			maps.Copy(limits, item.Default)
		}
	}
	fill := func(list *corev1.ResourceList, from corev1.ResourceList, what string) {
		var names []string
		for name, quantity := range from {
			if _, set := (*list)[name]; set {
				continue
			}
			if *list == nil {
				*list = corev1.ResourceList{}
			}
			(*list)[name] = quantity.DeepCopy()
			names = append(names, string(name))
		}
		if len(names) > 0 {
			slices.Sort(names)
			added = append(added, fmt.Sprintf("%s %s for %s %s", strings.Join(names, ", "), what, sort, c.Name))
		}
	}
	fill(&c.Resources.Requests, requests, "request")
	fill(&c.Resources.Limits, limits, "limit")
	return added
}

// refuseLimits is upstream's LimitRanger admission of a new pod.
func (s *Store) refuseLimits(pod *corev1.Pod) error {
	for _, l := range s.limitRanges(pod.Namespace) {
		var errs []error
		for i := range l.Spec.Limits {
			errs = append(errs, outside(pod, &l.Spec.Limits[i])...)
		}
		if err := utilerrors.NewAggregate(errs); err != nil {
			return apierrors.NewForbidden(pods.GroupResource(), pod.Name, err)
		}
	}
	return nil
}

// outside are the ways in which the pod, or one of its containers, is outside of the limits.
func outside(pod *corev1.Pod, item *corev1.LimitRangeItem) []error {
	switch item.Type {
	case corev1.LimitTypeContainer:
		var errs []error
		for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
			errs = append(errs, beyond(item, c.Resources.Requests, c.Resources.Limits)...)
		}
		return errs
	case corev1.LimitTypePod:
		o := podresource.PodResourcesOptions{ExcludeOverhead: true}
		return beyond(item, podresource.PodRequests(pod, o), podresource.PodLimits(pod, o))
	case corev1.LimitTypePersistentVolumeClaim:
	}
	return nil
}

func beyond(item *corev1.LimitRangeItem, requests, limits corev1.ResourceList) []error {
	var errs []error
	check := func(bounds corev1.ResourceList, judge func(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, request, limit amount) error) {
		for _, name := range slices.Sorted(maps.Keys(bounds)) {
			if err := judge(item.Type, name, bounds[name], amountOf(requests, name), amountOf(limits, name)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	check(item.Min, belowMin)
	check(item.Max, aboveMax)
	check(item.MaxLimitRequestRatio, aboveRatio)
	return errs
}

// amount is a request or limit that may not be there.
type amount struct {
	resource.Quantity
	set bool
}

func amountOf(list corev1.ResourceList, name corev1.ResourceName) amount {
	quantity, set := list[name]
	return amount{quantity, set}
}

func belowMin(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, request, limit amount) error {
	words := fmt.Sprintf("minimum %s usage per %s is %s", name, kind, bound.String())
	switch {
	case !request.set:
		return errors.New(words + ".  No request is specified")
	case request.Cmp(bound) < 0:
		return errors.New(words + ", but request is " + request.String())
	case limit.set && limit.Cmp(bound) < 0:
		return errors.New(words + ", but limit is " + limit.String())
	}
	return nil
}

func aboveMax(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, request, limit amount) error {
	words := fmt.Sprintf("maximum %s usage per %s is %s", name, kind, bound.String())
	switch {
	case !limit.set:
		return errors.New(words + ".  No limit is specified")
	case limit.Cmp(bound) > 0:
		return errors.New(words + ", but limit is " + limit.String())
	case request.set && request.Cmp(bound) > 0:
		return errors.New(words + ", but request is " + request.String())
	}
	return nil
}

func aboveRatio(kind corev1.LimitType, name corev1.ResourceName, bound resource.Quantity, request, limit amount) error {
	words := fmt.Sprintf("%s max limit to request ratio per %s is %s", name, kind, bound.String())
	switch {
	case request.IsZero():
		return errors.New(words + ", but no request is specified or request is 0")
	case limit.IsZero():
		return errors.New(words + ", but no limit is specified or limit is 0")
	}
	if ratio := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); ratio > bound.AsApproximateFloat64() {
		return fmt.Errorf("%s, but provided ratio is %f", words, ratio)
	}
	return nil
}
