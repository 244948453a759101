package view

import (
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
)

// snapshots remembers the typed slices of the last snapshot.
type snapshots struct {
	mu    sync.Mutex
	typed map[*resource.Resource]typed
}

type typed struct {
	changes uint64
	slice   any
}

func (s *snapshots) take(v *View) *controller.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.mu.RLock()
	defer v.mu.RUnlock()
	if s.typed == nil {
		s.typed = map[*resource.Resource]typed{}
	}
	return &controller.Snapshot{
		Revision:       v.revision,
		Namespaces:     sliceOf[*corev1.Namespace](s, v),
		Nodes:          sliceOf[*corev1.Node](s, v),
		Pods:           sliceOf[*corev1.Pod](s, v),
		Services:       sliceOf[*corev1.Service](s, v),
		Endpoints:      sliceOf[*corev1.Endpoints](s, v), //nolint:staticcheck // still what old clients read
		EndpointSlices: sliceOf[*discoveryv1.EndpointSlice](s, v),
		Deployments:    sliceOf[*appsv1.Deployment](s, v),
		ReplicaSets:    sliceOf[*appsv1.ReplicaSet](s, v),
		DaemonSets:     sliceOf[*appsv1.DaemonSet](s, v),
		StatefulSets:   sliceOf[*appsv1.StatefulSet](s, v),
		Revisions:      sliceOf[*appsv1.ControllerRevision](s, v),
		Jobs:           sliceOf[*batchv1.Job](s, v),
		CronJobs:       sliceOf[*batchv1.CronJob](s, v),
		Moves:          sliceOf[*api.MovePlan](s, v),
		Others:         s.others(v),
	}
}

func (s *snapshots) others(v *View) map[schema.GroupKind][]controller.Object {
	named := &controller.Snapshot{}
	out := map[schema.GroupKind][]controller.Object{}
	for res, t := range v.tables {
		if kind := res.GVK.GroupKind(); !named.Knows(kind) {
			out[kind] = cached[controller.Object](s, t)
		}
	}
	return out
}

func sliceOf[T controller.Object](s *snapshots, v *View) []T {
	var zero T
	return cached[T](s, v.tables[resource.ForObject(zero)])
}

// cached makes the typed slice of a table, or gives the last one when nothing changed since.
func cached[T controller.Object](s *snapshots, t *table) []T {
	if c, ok := s.typed[t.res]; ok && c.changes == t.changes {
		if slice, ok := c.slice.([]T); ok {
			return slice
		}
	}
	slice := make([]T, 0, len(t.sorted))
	for _, i := range t.sorted {
		if o, ok := i.Object.(T); ok {
			slice = append(slice, o)
		}
	}
	s.typed[t.res] = typed{t.changes, slice}
	return slice
}
