// Package daemonset runs one pod of each DaemonSet on every node that may run it, and replaces pods of an older template
// as the update strategy allows. A pod names its node by affinity; binding it is the scheduler's job.
package daemonset

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/history"
)

// burst bounds the pods that one plan creates for one DaemonSet, as upstream does.
const burst = 250

// How long a pod that has ended stays before it is replaced: longer if it did not live long, so that a node that refuses
// it is not asked all the time.
const (
	pause      = time.Second
	longPause  = time.Minute
	shortLived = time.Minute
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	reads := controller.Nodes | controller.Pods | controller.DaemonSets | controller.Revisions | controller.Namespaces
	return controller.Controller{Name: "daemonset", Reads: reads, Plan: Plan}
}

// Plan decides for every DaemonSet.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	if len(s.DaemonSets) == 0 {
		return nil, time.Time{}
	}
	p := &planner{s: s, now: now, herd: controller.NewHerd(s.Pods), revisions: history.NewIndex(s.Revisions), closing: controller.Closing(s.Namespaces)}
	for _, ds := range s.DaemonSets {
		p.plan(ds)
	}
	return p.changes, p.wake
}

type planner struct {
	s         *controller.Snapshot
	now       time.Time
	herd      *controller.Herd
	revisions *history.Index
	closing   map[string]bool // namespaces that are being deleted
	changes   []controller.Change
	wake      time.Time
}

// work is one DaemonSet under consideration.
type work struct {
	*planner
	ds      *appsv1.DaemonSet
	pods    []*corev1.Pod
	places  []place
	hash    string // of the present template, empty while it has no revision
	fits    fits
	desired int // nodes that should run a pod
	names   *controller.Names
	made    int
}

// place is a node with the DaemonSet's pods that are on it or for it, oldest first.
type place struct {
	name         string
	run, stay    bool // should run a pod; may keep one that it has
	gone         bool // there is no such node
	pods         []*corev1.Pod
	fresh, stale *corev1.Pod // the only one of the present template, and of an older one
	crowded      bool        // there is more than one of either
}

func (p *planner) plan(ds *appsv1.DaemonSet) {
	selector, err := metav1.LabelSelectorAsSelector(ds.Spec.Selector)
	if err != nil || selector.Empty() {
		return // validation lets neither through; whoever stored it gets no pods rather than all
	}
	pods, changes := p.herd.Claim(controller.Claim{Owner: ds, Reference: reference(ds), Selector: selector})
	p.changes = append(p.changes, changes...)
	h, err := p.revisions.Of(history.Subject{Owner: ds, Reference: reference(ds), Template: &ds.Spec.Template, Collisions: ds.Status.CollisionCount})
	if err != nil {
		return // a template that is stored can be encoded
	}
	w := &work{planner: p, ds: ds, pods: pods, fits: fitsOf(ds), names: controller.NewNames(ds, p.s.Revision, pods)}
	if h.Current != nil {
		w.hash = history.Hash(h.Current)
	}
	w.places = w.survey()
	if ds.DeletionTimestamp == nil && !p.closing[ds.Namespace] {
		p.changes = append(p.changes, h.Changes...)
		w.act(&h)
	}
	w.status(h.Collision)
}

func (w *work) act(h *history.History) {
	if h.Current == nil {
		return // new pods are labelled with it
	}
	before := len(w.changes)
	w.manage()
	if len(w.changes) == before && w.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		w.update()
	}
	w.changes = append(w.changes, h.Prune(w.ds.Spec.RevisionHistoryLimit, w.inUse)...)
}

func (w *work) inUse(r *appsv1.ControllerRevision) bool {
	hash := history.Hash(r)
	return slices.ContainsFunc(w.pods, func(pod *corev1.Pod) bool {
		return pod.Labels[appsv1.ControllerRevisionHashLabelKey] == hash
	})
}

// survey sorts the pods to their nodes.
func (w *work) survey() []place {
	byNode := map[string][]*corev1.Pod{}
	for _, pod := range w.pods {
		if name := target(pod); name != "" {
			byNode[name] = append(byNode[name], pod)
		}
	}
	places := make([]place, 0, len(w.s.Nodes))
	for _, node := range w.s.Nodes {
		at := place{name: node.Name, pods: byNode[node.Name]}
		at.run, at.stay = w.fits.on(node)
		if at.run {
			w.desired++
		}
		delete(byNode, node.Name)
		places = append(places, at)
	}
	for _, name := range slices.Sorted(maps.Keys(byNode)) {
		places = append(places, place{name: name, gone: true, pods: byNode[name]})
	}
	for i := range places {
		w.sort(&places[i])
	}
	return places
}

// sort finds the pods that matter on a place: those that are not being deleted.
func (w *work) sort(at *place) {
	slices.SortStableFunc(at.pods, func(a, b *corev1.Pod) int {
		return cmp.Or(waiting(a)-waiting(b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range at.pods {
		if pod.DeletionTimestamp != nil {
			continue
		}
		slot := &at.stale
		if w.updated(pod) {
			slot = &at.fresh
		}
		at.crowded = at.crowded || *slot != nil
		if *slot == nil {
			*slot = pod
		}
	}
}

func waiting(pod *corev1.Pod) int {
	if pod.Spec.NodeName == "" {
		return 1
	}
	return 0
}

func (w *work) updated(pod *corev1.Pod) bool {
	return w.hash != "" && pod.Labels[appsv1.ControllerRevisionHashLabelKey] == w.hash
}

// manage has one pod on each node that should have one, and none on the others.
func (w *work) manage() {
	for _, at := range w.places {
		switch {
		case at.gone:
			for _, pod := range at.pods {
				if pod.Spec.NodeName == "" {
					w.remove(pod) // it waits for a node that will not come
				}
			}
		case at.run && len(at.pods) == 0:
			w.create(at.name)
		case at.stay:
			w.keep(at)
		default:
			w.remove(at.pods...)
		}
	}
}

// keep leaves the pods on a node that it may have.
func (w *work) keep(at place) {
	var working []*corev1.Pod
	for _, pod := range at.pods {
		switch {
		case pod.DeletionTimestamp != nil:
		case controller.PodFinished(pod):
			w.bury(pod, at.name)
		default:
			working = append(working, pod)
		}
	}
	switch {
	case !w.surges():
		if len(working) > 1 {
			w.remove(working[1:]...)
		}
	case len(working) == 0 && at.run && !slices.ContainsFunc(at.pods, undeleted):
		w.create(at.name)
	case len(working) > 1:
		w.thin(working)
	}
}

func undeleted(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil }

// thin leaves at most the oldest pod of each template while surging, and not the old one once it is of no more use.
func (w *work) thin(working []*corev1.Pod) {
	var fresh, stale *corev1.Pod
	for _, pod := range working {
		switch {
		case w.updated(pod) && fresh == nil:
			fresh = pod
		case !w.updated(pod) && stale == nil:
			stale = pod
		default:
			w.remove(pod)
		}
	}
	if fresh != nil && stale != nil && (!controller.PodReady(stale) || w.available(fresh)) {
		w.remove(stale)
	}
}

// bury removes a pod that has ended, after a while.
func (w *work) bury(pod *corev1.Pod, node string) {
	end := controller.PodEnd(pod)
	due := end.Add(pause)
	if end.Sub(pod.CreationTimestamp.Time) < shortLived {
		due = end.Add(longPause)
	}
	if due.After(w.now) {
		w.wake = controller.Sooner(w.wake, due)
		return
	}
	told := event(w.ds, corev1.EventTypeNormal, "SucceededDaemonPod", "Found succeeded daemon pod "+pod.Namespace+"/"+pod.Name+" on node "+node+", will try to delete it")
	if pod.Status.Phase == corev1.PodFailed {
		told = event(w.ds, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod "+pod.Namespace+"/"+pod.Name+" on node "+node+", will try to kill it")
	}
	w.changes = append(w.changes, controller.Change{Verb: controller.Delete, Object: pod, Events: []controller.Event{told, deleted(w.ds, pod)}})
}

func (w *work) remove(pods ...*corev1.Pod) {
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil {
			w.changes = append(w.changes, controller.Change{Verb: controller.Delete, Object: pod, Events: []controller.Event{deleted(w.ds, pod)}})
		}
	}
}

func deleted(ds *appsv1.DaemonSet, pod *corev1.Pod) controller.Event {
	return event(ds, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+pod.Name)
}

// available asks to be woken when the pod will be.
func (w *work) available(pod *corev1.Pod) bool {
	yes, due := controller.PodAvailable(pod, w.ds.Spec.MinReadySeconds, w.now)
	w.wake = controller.Sooner(w.wake, due)
	return yes
}

func reference(ds *appsv1.DaemonSet) metav1.OwnerReference {
	return controller.Reference(ds, "apps/v1", "DaemonSet")
}

func event(ds *appsv1.DaemonSet, kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: ds.Namespace, Name: ds.Name, UID: ds.UID, ResourceVersion: ds.ResourceVersion},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
