package coordinator

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/autoscaler"
	"skerry.dev/skerry/coordinator/controller/endpoints"
	"skerry.dev/skerry/coordinator/fleet"
	"skerry.dev/skerry/coordinator/metrics"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

// source is the state as the controllers' shell looks at it: the view, and what the heartbeats say.
type source struct {
	view     *view.View
	table    *fleet.Table
	usage    *metrics.Table
	started  time.Time
	returned chan struct{} // one token stands for any number of nodes
}

// Snapshot is controller.Source's.
func (s *source) Snapshot() *controller.Snapshot {
	snapshot := s.view.Snapshot(s.table.Liveness(), s.started)
	snapshot.Usage = s.usage.Usage(time.Now())
	return snapshot
}

// measured names the nodes whose pods are scaled by what they use.
func (s *source) measured() []string { return autoscaler.Nodes(s.Snapshot()) }

// Changed is controller.Source's.
func (s *source) Changed() (<-chan struct{}, func()) {
	changes, stop := s.view.Changed()
	both, done := make(chan struct{}, 1), make(chan struct{}) // one token says all
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changes:
			case <-s.returned:
			}
			select {
			case both <- struct{}{}:
			default:
			}
		}
	}()
	return both, func() { stop(); close(done) }
}

// wake tells the controllers that a silent node was heard again.
func (s *source) wake() {
	select {
	case s.returned <- struct{}{}:
	default:
	}
}

// assignable is the state as assignments are made from it.
type assignable struct {
	view    *view.View
	changes <-chan struct{}
	network NetworkConfig
}

// Changed is assign.State's.
func (a *assignable) Changed() <-chan struct{} { return a.changes }

// Nodes is assign.State's.
func (a *assignable) Nodes() []*corev1.Node { return objectsOf[*corev1.Node](a.view) }

// Pods is assign.State's.
func (a *assignable) Pods() []*corev1.Pod { return objectsOf[*corev1.Pod](a.view) }

// ConfigMap is assign.State's.
func (a *assignable) ConfigMap(namespace, name string) (*corev1.ConfigMap, bool) {
	return objectOf[*corev1.ConfigMap](a.view, namespace, name)
}

// Secret is assign.State's.
func (a *assignable) Secret(namespace, name string) (*corev1.Secret, bool) {
	return objectOf[*corev1.Secret](a.view, namespace, name)
}

// Claim is assign.State's.
func (a *assignable) Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool) {
	return objectOf[*corev1.PersistentVolumeClaim](a.view, namespace, name)
}

// Volumes is assign.State's.
func (a *assignable) Volumes() []*corev1.PersistentVolume {
	return objectsOf[*corev1.PersistentVolume](a.view)
}

// Volume is assign.State's.
func (a *assignable) Volume(name string) (*corev1.PersistentVolume, bool) {
	return objectOf[*corev1.PersistentVolume](a.view, "", name)
}

// Services is assign.State's.
func (a *assignable) Services() messaging.ServiceTable {
	table := endpoints.Table(&controller.Snapshot{
		Nodes: a.Nodes(), Pods: a.Pods(),
		Services: objectsOf[*corev1.Service](a.view), EndpointSlices: objectsOf[*discoveryv1.EndpointSlice](a.view),
	})
	table.PodCIDR, table.ServiceCIDR = a.network.PodCIDR, a.network.ServiceCIDR
	return table
}

func objectsOf[T controller.Object](v *view.View) []T {
	var zero T
	items, _ := v.List(resource.ForObject(zero), "")
	out := make([]T, 0, len(items))
	for _, i := range items {
		if o, ok := i.Object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

func objectOf[T controller.Object](v *view.View, namespace, name string) (T, bool) {
	var zero T
	item, ok := v.Get(resource.ForObject(zero), namespace, name)
	if !ok {
		return zero, false
	}
	o, ok := item.Object.(T)
	return o, ok
}
