package controller

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"sort"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/messaging"
)

// Object is any API object.
type Object interface {
	metav1.Object
	runtime.Object
}

// Snapshot is the whole state at one revision. Its objects are shared: a plan copies what it wants to change.
// Every slice is sorted by namespace and name. A source that hands out the same slice while its content is unchanged
// spares the plans that read only such slices.
type Snapshot struct {
	Revision       uint64
	Namespaces     []*corev1.Namespace
	Nodes          []*corev1.Node
	Pods           []*corev1.Pod
	Services       []*corev1.Service
	Endpoints      []*corev1.Endpoints //nolint:staticcheck // still what old clients read
	EndpointSlices []*discoveryv1.EndpointSlice
	Deployments    []*appsv1.Deployment
	ReplicaSets    []*appsv1.ReplicaSet
	DaemonSets     []*appsv1.DaemonSet
	StatefulSets   []*appsv1.StatefulSet
	Revisions      []*appsv1.ControllerRevision
	Jobs           []*batchv1.Job
	CronJobs       []*batchv1.CronJob
	Moves          []*api.MovePlan

	// Others holds the objects of every other served kind. A kind that is not a key is unknown: nothing is concluded
	// from the absence of its objects.
	Others map[schema.GroupKind][]Object

	// Liveness is what the fleet's heartbeat table says, by node name. A node without an entry was not heard of since
	// this coordinator started and counts as heard at Started.
	Liveness map[string]Liveness
	Started  time.Time

	// Usage is what nodes said last of what their pods use, by node name. A node that was not asked, or not lately, has
	// no entry. As with Liveness, a change of it wakes no plan.
	Usage map[string]*Usage

	// Refused says, by UID of a controller, why the last create on its behalf was refused; a create that succeeds clears
	// it. The shell keeps it.
	Refused map[types.UID]string
}

// Liveness is when a node was last heard, on the coordinator's clock, and the load it reported.
type Liveness struct {
	Heard time.Time
	Boot  string
	Load  messaging.Load
}

// Usage is what the pods of one node use: the mean over Window, which ended at At on the coordinator's clock. It is shared
// and never changed. A pod has no entry until all of its running containers were measured.
type Usage struct {
	At     time.Time
	Window time.Duration
	Pods   map[types.UID][]messaging.ContainerUsage
}

// UsageOf is what a pod uses, and when and over how long it was measured; nil containers when that is not known. A node
// speaks of its own pods only.
func (s *Snapshot) UsageOf(pod *corev1.Pod) (containers []messaging.ContainerUsage, at time.Time, window time.Duration) {
	u := s.Usage[pod.Spec.NodeName]
	if u == nil {
		return nil, time.Time{}, 0
	}
	return u.Pods[pod.UID], u.At, u.Window
}

// Kinds is a set of the snapshot's parts.
type Kinds uint16

// The parts of a snapshot. A change of Liveness alone never wakes a plan: the source signals when a silent node is heard
// again, and plans that wait for silence say when they want to wake.
const (
	Namespaces Kinds = 1 << iota
	Nodes
	Pods
	Services
	Endpoints
	EndpointSlices
	Deployments
	ReplicaSets
	DaemonSets
	StatefulSets
	Revisions
	Jobs
	CronJobs
	Moves
	Others
	Everything Kinds = 1<<iota - 1
)

// Kinds of the objects in a snapshot's own slices.
var (
	NamespaceKind             = schema.GroupKind{Kind: "Namespace"}
	NodeKind                  = schema.GroupKind{Kind: "Node"}
	PodKind                   = schema.GroupKind{Kind: "Pod"}
	ServiceKind               = schema.GroupKind{Kind: "Service"}
	EndpointsKind             = schema.GroupKind{Kind: "Endpoints"}
	EndpointSliceKind         = schema.GroupKind{Group: discoveryv1.GroupName, Kind: "EndpointSlice"}
	DeploymentKind            = schema.GroupKind{Group: appsv1.GroupName, Kind: "Deployment"}
	ReplicaSetKind            = schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"}
	DaemonSetKind             = schema.GroupKind{Group: appsv1.GroupName, Kind: "DaemonSet"}
	StatefulSetKind           = schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"}
	RevisionKind              = schema.GroupKind{Group: appsv1.GroupName, Kind: "ControllerRevision"}
	JobKind                   = schema.GroupKind{Group: batchv1.GroupName, Kind: "Job"}
	CronJobKind               = schema.GroupKind{Group: batchv1.GroupName, Kind: "CronJob"}
	ReplicationControllerKind = schema.GroupKind{Kind: "ReplicationController"}
	MovePlanKind              = schema.GroupKind{Group: api.Group, Kind: "MovePlan"}
)

// All yields every object of the snapshot with its kind, those of Others by group and kind.
func (s *Snapshot) All() iter.Seq2[schema.GroupKind, Object] {
	return func(yield func(schema.GroupKind, Object) bool) {
		_ = each(NamespaceKind, s.Namespaces, yield) && each(NodeKind, s.Nodes, yield) && each(PodKind, s.Pods, yield) &&
			each(ServiceKind, s.Services, yield) && each(EndpointsKind, s.Endpoints, yield) &&
			each(EndpointSliceKind, s.EndpointSlices, yield) && each(DeploymentKind, s.Deployments, yield) &&
			each(ReplicaSetKind, s.ReplicaSets, yield) && each(DaemonSetKind, s.DaemonSets, yield) &&
			each(StatefulSetKind, s.StatefulSets, yield) && each(RevisionKind, s.Revisions, yield) && each(JobKind, s.Jobs, yield) && each(CronJobKind, s.CronJobs, yield) &&
			each(MovePlanKind, s.Moves, yield) && s.others(yield)
	}
}

func (s *Snapshot) others(yield func(schema.GroupKind, Object) bool) bool {
	kinds := slices.SortedFunc(maps.Keys(s.Others), func(a, b schema.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	for _, kind := range kinds {
		if !each(kind, s.Others[kind], yield) {
			return false
		}
	}
	return true
}

func each[T Object](kind schema.GroupKind, objects []T, yield func(schema.GroupKind, Object) bool) bool {
	for _, o := range objects {
		if !yield(kind, o) {
			return false
		}
	}
	return true
}

// Knows reports whether the snapshot lists every object of the kind.
func (s *Snapshot) Knows(kind schema.GroupKind) bool {
	switch kind {
	case NamespaceKind, NodeKind, PodKind, ServiceKind, EndpointsKind, EndpointSliceKind, DeploymentKind, ReplicaSetKind,
		DaemonSetKind, StatefulSetKind, RevisionKind, JobKind, CronJobKind, MovePlanKind:
		return true
	}
	_, known := s.Others[kind]
	return known
}

// Changed returns the parts that differ from an older snapshot; nil differs in everything. Slices are compared by
// identity, so a source that copies makes every part changed, never the reverse.
func (s *Snapshot) Changed(old *Snapshot) Kinds {
	if old == nil {
		return Everything
	}
	return differ(Namespaces, s.Namespaces, old.Namespaces) | differ(Nodes, s.Nodes, old.Nodes) | differ(Pods, s.Pods, old.Pods) |
		differ(Services, s.Services, old.Services) | differ(Endpoints, s.Endpoints, old.Endpoints) |
		differ(EndpointSlices, s.EndpointSlices, old.EndpointSlices) | differ(Deployments, s.Deployments, old.Deployments) |
		differ(ReplicaSets, s.ReplicaSets, old.ReplicaSets) | differ(DaemonSets, s.DaemonSets, old.DaemonSets) |
		differ(StatefulSets, s.StatefulSets, old.StatefulSets) | differ(Revisions, s.Revisions, old.Revisions) | differ(Jobs, s.Jobs, old.Jobs) |
		differ(CronJobs, s.CronJobs, old.CronJobs) | differ(Moves, s.Moves, old.Moves) | s.differOthers(old)
}

func (s *Snapshot) differOthers(old *Snapshot) Kinds {
	if len(s.Others) != len(old.Others) {
		return Others
	}
	for kind := range s.Others {
		if s.differs(old, kind) {
			return Others
		}
	}
	return 0
}

// differs is Changed for one kind of Others.
func (s *Snapshot) differs(old *Snapshot, kind schema.GroupKind) bool {
	objects, known := s.Others[kind]
	before, was := old.Others[kind]
	return known != was || differ(Others, objects, before) != 0
}

// Rest returns the objects of one kind of Others; nil when there are none or the kind is not known.
func Rest[T Object](s *Snapshot, kind schema.GroupKind) []T {
	var out []T
	for _, o := range s.Others[kind] {
		if t, ok := o.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// Within returns those of a sorted slice that are in the namespace, as a part of it.
func Within[T Object](sorted []T, namespace string) []T {
	from := sort.Search(len(sorted), func(n int) bool { return sorted[n].GetNamespace() >= namespace })
	to := from + sort.Search(len(sorted)-from, func(n int) bool { return sorted[from+n].GetNamespace() > namespace })
	return slices.Clip(sorted[from:to])
}

func differ[T any](part Kinds, a, b []T) Kinds {
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return 0
	}
	return part
}
