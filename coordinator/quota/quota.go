// Package quota measures what objects use of a namespace's ResourceQuotas: which resources, which quotas an object counts
// for, and whether it still fits. It follows upstream's evaluators, keeps nothing and reads nothing but its arguments:
// package objects asks it before it stores something, and controller/resourcequota writes the sums where people see them.
package quota

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	kinds "skerry.dev/skerry/coordinator/resource"
)

// Used is what the object uses, by the names that a quota may limit; nil for what no quota counts.
func Used(obj runtime.Object, now time.Time) corev1.ResourceList {
	kind := kinds.ForObject(obj)
	if kind == nil || !kind.Namespaced {
		return nil
	}
	used := corev1.ResourceList{count(kind): one()}
	switch o := obj.(type) {
	case *corev1.Pod:
		podUse(o, now, used)
	case *corev1.Service:
		serviceUse(o, used)
	case *corev1.PersistentVolumeClaim:
		claimUse(o, used)
	default:
		if name, short := shortNames[kind.StoreKind()]; short {
			used[name] = one()
		}
	}
	return used
}

// shortNames are how kinds were counted before every kind could be.
var shortNames = map[string]corev1.ResourceName{
	"configmaps": corev1.ResourceConfigMaps, "secrets": corev1.ResourceSecrets, "resourcequotas": corev1.ResourceQuotas,
	"replicationcontrollers": corev1.ResourceReplicationControllers,
}

// count is the resource of a kind's number of objects, such as count/deployments.apps.
func count(kind *kinds.Resource) corev1.ResourceName {
	return corev1.ResourceName("count/" + kind.StoreKind())
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

func zero() resource.Quantity { return resource.Quantity{Format: resource.DecimalSI} }

func serviceUse(s *corev1.Service, used corev1.ResourceList) {
	used[corev1.ResourceServices] = one()
	used[corev1.ResourceServicesNodePorts], used[corev1.ResourceServicesLoadBalancers] = zero(), zero()
	ports := int64(len(s.Spec.Ports))
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
	case corev1.ServiceTypeLoadBalancer:
		used[corev1.ResourceServicesLoadBalancers] = one()
		if allocate := s.Spec.AllocateLoadBalancerNodePorts; allocate != nil && !*allocate {
			ports = 0
			for i := range s.Spec.Ports {
				if s.Spec.Ports[i].NodePort != 0 {
					ports++
				}
			}
		}
	default:
		return
	}
	used[corev1.ResourceServicesNodePorts] = *resource.NewQuantity(ports, resource.DecimalSI)
}

// Covers reports whether the object counts for the quota at all: its scopes choose it, and it limits something that the
// object can use.
func Covers(q *corev1.ResourceQuota, obj runtime.Object) bool {
	return len(limited(q, obj)) > 0 && chosen(q, obj)
}

func chosen(q *corev1.ResourceQuota, obj runtime.Object) bool {
	for _, s := range scopes(q) {
		if !inScope(s, obj) {
			return false
		}
	}
	return true
}

// limited are the names of the quota's limits that an object of this kind can use, sorted.
func limited(q *corev1.ResourceQuota, obj runtime.Object) []corev1.ResourceName {
	var names []corev1.ResourceName
	for _, name := range slices.Sorted(maps.Keys(q.Spec.Hard)) {
		if counts(obj, name) {
			names = append(names, name)
		}
	}
	return names
}

func counts(obj runtime.Object, name corev1.ResourceName) bool {
	kind := kinds.ForObject(obj)
	switch {
	case kind == nil || !kind.Namespaced:
		return false
	case name == count(kind):
		return true
	}
	switch obj.(type) {
	case *corev1.Pod:
		return podResource(name)
	case *corev1.Service:
		return name == corev1.ResourceServices || name == corev1.ResourceServicesNodePorts || name == corev1.ResourceServicesLoadBalancers
	}
	if _, isClaim := obj.(*corev1.PersistentVolumeClaim); isClaim {
		return claimResource(name)
	}
	return shortNames[kind.StoreKind()] == name && name != ""
}

// Known reports whether anything that is served here can use the resource.
func Known(name corev1.ResourceName) bool {
	if kind, isCount := strings.CutPrefix(string(name), "count/"); isCount {
		r := kinds.ForStoreKind(kind)
		return r != nil && r.Namespaced
	}
	return podResource(name) || claimResource(name) || counts(&corev1.Service{}, name) || slices.Contains(slices.Collect(maps.Values(shortNames)), name)
}

// Add adds what to sum, which it changes. Values of one resource in different forms keep the sum's.
func Add(sum, what corev1.ResourceList) {
	for name, quantity := range what {
		have, found := sum[name]
		if !found {
			sum[name] = quantity.DeepCopy()
			continue
		}
		have.Add(quantity)
		sum[name] = have
	}
}

// Mask is the part of list that has the names.
func Mask(list corev1.ResourceList, names []corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, name := range names {
		if quantity, found := list[name]; found {
			out[name] = quantity
		}
	}
	return out
}

// Sum is what objects use of the quota's limits. Resources of which nothing is used are there as zero.
func Sum(q *corev1.ResourceQuota, objects func(yield func(runtime.Object) bool), now time.Time) corev1.ResourceList {
	sum := corev1.ResourceList{}
	for name := range q.Spec.Hard {
		if Known(name) {
			sum[name] = zero()
		}
	}
	names := map[*kinds.Resource][]corev1.ResourceName{} // found once for each kind: a namespace may have many objects
	for obj := range objects {
		kind := kinds.ForObject(obj)
		if _, found := names[kind]; !found {
			names[kind] = limited(q, obj)
		}
		if len(names[kind]) > 0 && chosen(q, obj) {
			Add(sum, Mask(Used(obj, now), names[kind]))
		}
	}
	return sum
}
