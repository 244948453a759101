// Package controllertest is a small world for the tests of plans: it keeps objects as the write path would, performs
// changes, and runs scripts whose printed result is compared with a golden text. It has no clock but its own, and no
// part of the running coordinator imports it.
package controllertest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Start is where every world's clock begins.
var Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is a cluster's objects and clock. It is not safe for concurrent use.
type World struct {
	Now      time.Time
	Liveness map[string]controller.Liveness
	Refused  map[types.UID]string
	Refuse   func(controller.Object) string // when set and not empty for a created object: the create fails with these words

	objects map[id]controller.Object
	known   map[schema.GroupKind]bool
	counter uint64
	aliases map[string]string
	per     map[string]int
}

type id struct {
	kind            schema.GroupKind
	namespace, name string
}

// New is an empty world at Start.
func New() *World {
	return &World{
		Now: Start, Liveness: map[string]controller.Liveness{}, Refused: map[types.UID]string{},
		objects: map[id]controller.Object{}, known: map[schema.GroupKind]bool{}, aliases: map[string]string{}, per: map[string]int{},
	}
}

// Kind is the kind of an object by its Go type.
func Kind(o controller.Object) schema.GroupKind {
	name := reflect.TypeOf(o).Elem().Name()
	switch o.(type) {
	case *appsv1.Deployment, *appsv1.ReplicaSet, *appsv1.DaemonSet, *appsv1.StatefulSet, *appsv1.ControllerRevision:
		return schema.GroupKind{Group: "apps", Kind: name}
	case *batchv1.Job, *batchv1.CronJob:
		return schema.GroupKind{Group: batchv1.GroupName, Kind: name}
	case *discoveryv1.EndpointSlice:
		return schema.GroupKind{Group: "discovery.k8s.io", Kind: name}
	case *policyv1.PodDisruptionBudget:
		return controller.BudgetKind
	case *storagev1.StorageClass:
		return controller.StorageClassKind
	case *api.MovePlan:
		return schema.GroupKind{Group: api.Group, Kind: name}
	}
	return schema.GroupKind{Kind: name}
}

func key(o controller.Object) id { return id{Kind(o), o.GetNamespace(), o.GetName()} }

// Put stores o as a person's create or replace would: a new object gets a UID and a creation time, a changed spec a new
// generation.
func (w *World) Put(o controller.Object) controller.Object {
	o = copyOf(o)
	w.counter++
	o.SetResourceVersion(strconv.FormatUint(w.counter, 10))
	old, exists := w.objects[key(o)]
	switch {
	case !exists:
		if o.GetUID() == "" {
			o.SetUID(types.UID(fmt.Sprintf("uid-%d", w.counter)))
		}
		if created := o.GetCreationTimestamp(); created.IsZero() {
			o.SetCreationTimestamp(metav1.NewTime(w.Now))
		}
		o.SetGeneration(1)
		w.alias(o)
	case !equality.Semantic.DeepEqual(part(old, "Spec"), part(o, "Spec")):
		o.SetGeneration(old.GetGeneration() + 1)
	}
	w.objects[key(o)] = o
	w.settle(o)
	return o
}

// Know makes the world list a kind though it has none of its objects.
func (w *World) Know(kind schema.GroupKind) { w.known[kind] = true }

// Remove deletes the object at once, finalizers or not.
func (w *World) Remove(o controller.Object) { delete(w.objects, key(o)); w.counter++ }

// Get returns the stored object of o's kind, namespace and name, nil when there is none.
func (w *World) Get(o controller.Object) controller.Object { return w.objects[key(o)] }

// Pod returns a pod by name or alias in any namespace; nil when there is none.
func (w *World) Pod(name string) *corev1.Pod {
	for _, o := range w.objects {
		if p, ok := o.(*corev1.Pod); ok && (p.Name == name || w.aliases[p.Name] == name) {
			return p
		}
	}
	return nil
}

func part(o controller.Object, field string) any {
	v := reflect.ValueOf(o).Elem().FieldByName(field)
	if !v.IsValid() {
		return nil
	}
	return v.Interface()
}

// settle removes an object that is being deleted and that nothing holds any longer.
func (w *World) settle(o controller.Object) {
	if o.GetDeletionTimestamp() == nil || len(o.GetFinalizers()) > 0 {
		return
	}
	switch v := o.(type) {
	case *corev1.Namespace:
		if len(v.Spec.Finalizers) > 0 {
			return
		}
	case *corev1.Pod:
		if grace := v.DeletionGracePeriodSeconds; grace != nil && *grace > 0 {
			return
		}
	}
	delete(w.objects, key(o))
}

// Snapshot lists the world.
func (w *World) Snapshot() *controller.Snapshot {
	s := &controller.Snapshot{
		Revision: w.counter, Liveness: maps.Clone(w.Liveness), Started: Start, Refused: maps.Clone(w.Refused),
		Others: map[schema.GroupKind][]controller.Object{},
	}
	for kind := range w.known {
		s.Others[kind] = nil
	}
	for _, k := range slices.SortedFunc(maps.Keys(w.objects), compareID) {
		add(s, k.kind, w.objects[k])
	}
	return s
}

func compareID(a, b id) int {
	return strings.Compare(a.kind.String()+"/"+a.namespace+"/"+a.name, b.kind.String()+"/"+b.namespace+"/"+b.name)
}

func add(s *controller.Snapshot, kind schema.GroupKind, o controller.Object) {
	switch v := o.(type) {
	case *corev1.Namespace:
		s.Namespaces = append(s.Namespaces, v)
	case *corev1.Node:
		s.Nodes = append(s.Nodes, v)
	case *corev1.Pod:
		s.Pods = append(s.Pods, v)
	case *corev1.Service:
		s.Services = append(s.Services, v)
	case *corev1.Endpoints: //nolint:staticcheck // still what old clients read
		s.Endpoints = append(s.Endpoints, v)
	case *discoveryv1.EndpointSlice:
		s.EndpointSlices = append(s.EndpointSlices, v)
	case *appsv1.Deployment:
		s.Deployments = append(s.Deployments, v)
	case *appsv1.ReplicaSet:
		s.ReplicaSets = append(s.ReplicaSets, v)
	case *appsv1.DaemonSet:
		s.DaemonSets = append(s.DaemonSets, v)
	case *appsv1.StatefulSet:
		s.StatefulSets = append(s.StatefulSets, v)
	case *appsv1.ControllerRevision:
		s.Revisions = append(s.Revisions, v)
	case *batchv1.Job:
		s.Jobs = append(s.Jobs, v)
	case *batchv1.CronJob:
		s.CronJobs = append(s.CronJobs, v)
	case *api.MovePlan:
		s.Moves = append(s.Moves, v)
	default:
		s.Others[kind] = append(s.Others[kind], o)
	}
}

// alias gives a created pod a name that does not depend on the revision: its owner's name and a number.
func (w *World) alias(o controller.Object) {
	pod, ok := o.(*corev1.Pod)
	if !ok || pod.GenerateName == "" {
		return
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && ref.Kind == "StatefulSet" {
		return // its name is its own
	}
	w.per[pod.GenerateName]++
	w.aliases[pod.Name] = fmt.Sprintf("%s%d", pod.GenerateName, w.per[pod.GenerateName])
}

// object is any API object as one; a test that passes something else is wrong.
func object(o any) controller.Object {
	v, ok := o.(controller.Object)
	if !ok {
		panic(fmt.Sprintf("%T is no API object", o))
	}
	return v
}

func copyOf(o controller.Object) controller.Object { return object(o.DeepCopyObject()) }
