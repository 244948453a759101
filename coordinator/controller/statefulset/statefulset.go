// Package statefulset runs the numbered pods of each StatefulSet: each has a name of its own that stays, they come and go
// in the order of their numbers unless the set does not mind, and a new template reaches them from the highest number
// down to the partition. Placing the pods is the scheduler's job; a successor is made only when its predecessor of the
// same name is gone, which its node says.
package statefulset

import (
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/history"
)

// burst bounds the pods that one plan creates or deletes for one set that does not mind the order.
const burst = 500

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	reads := controller.Pods | controller.StatefulSets | controller.Revisions | controller.Namespaces
	return controller.Controller{Name: "statefulset", Reads: reads, Rest: []schema.GroupKind{controller.ClaimKind}, Plan: Plan}
}

// Plan decides for every StatefulSet. What a set does follows from the snapshot alone: where a pod of a lower number is
// not available yet, those above wait, and the next plan goes on.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	if len(s.StatefulSets) == 0 {
		return nil, time.Time{}
	}
	p := &planner{now: now, herd: controller.NewHerd(s.Pods), revisions: history.NewIndex(s.Revisions), closing: controller.Closing(s.Namespaces)}
	p.claims = claimsOf(s)
	for _, set := range s.StatefulSets {
		p.plan(set)
	}
	return p.changes, p.wake
}

type planner struct {
	now       time.Time
	herd      *controller.Herd
	revisions *history.Index
	closing   map[string]bool                          // namespaces that are being deleted
	claims    map[string]*corev1.PersistentVolumeClaim // by namespace and name
	changes   []controller.Change
	wake      time.Time
}

// work is one StatefulSet under consideration.
type work struct {
	*planner
	set     *appsv1.StatefulSet
	current *appsv1.ControllerRevision // of the pods that the update has not reached
	update  *appsv1.ControllerRevision // of the present template
	pods    []*corev1.Pod              // all, by number
	wanted  []*corev1.Pod              // those that the set asks for, nil where one is missing
	surplus []*corev1.Pod              // the others, the highest number first
}

func (p *planner) plan(set *appsv1.StatefulSet) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil || selector.Empty() {
		return // validation lets neither through; whoever stored it gets no pods rather than all
	}
	pods, changes := p.herd.Claim(controller.Claim{
		Owner: set, Reference: reference(set), Selector: selector,
		Fits: func(pod *corev1.Pod) bool { return ordinal(set, pod) >= 0 },
	})
	p.changes = append(p.changes, changes...)
	h, err := p.revisions.Of(history.Subject{Owner: set, Reference: reference(set), Template: &set.Spec.Template, Collisions: set.Status.CollisionCount})
	if err != nil {
		return // a template that is stored can be encoded
	}
	w := &work{planner: p, set: set, pods: pods, update: h.Current, current: h.Current}
	for _, r := range h.Revisions {
		if r.Name == set.Status.CurrentRevision {
			w.current = r
		}
	}
	w.sort()
	if set.DeletionTimestamp == nil && !p.closing[set.Namespace] {
		p.changes = append(p.changes, h.Changes...)
		w.act(&h)
	}
	w.status(h.Collision)
}

func (w *work) act(h *history.History) {
	if w.update == nil {
		return // new pods are labelled with it
	}
	if w.populate() && w.shrink() {
		w.roll()
	}
	w.changes = append(w.changes, h.Prune(w.set.Spec.RevisionHistoryLimit, func(r *appsv1.ControllerRevision) bool {
		return r == w.current || slices.ContainsFunc(w.pods, func(pod *corev1.Pod) bool { return revisionOf(pod) == r.Name })
	})...)
}

// sort puts the pods in their places.
func (w *work) sort() {
	slices.SortFunc(w.pods, func(a, b *corev1.Pod) int { return ordinal(w.set, a) - ordinal(w.set, b) })
	w.wanted = make([]*corev1.Pod, replicas(w.set))
	for _, pod := range w.pods {
		if i := ordinal(w.set, pod) - start(w.set); i >= 0 && i < len(w.wanted) {
			w.wanted[i] = pod
		} else {
			w.surplus = append(w.surplus, pod)
		}
	}
	slices.Reverse(w.surplus)
}

// populate makes the missing pods, one after the other if the order matters. It reports whether the wanted pods are as they
// should be, so that the set can go on.
func (w *work) populate() bool {
	made := 0
	for i, pod := range w.wanted {
		settled := true
		switch {
		case pod == nil:
			if w.provide(i) {
				w.create(i)
				made++
			}
			settled = false
		case controller.PodFinished(pod):
			w.remove(pod) // whatever its end: it is to run for ever
			settled = false
		case pod.DeletionTimestamp != nil || !w.available(pod):
			settled = false
		}
		if pod != nil && !labelled(pod) {
			w.label(pod)
		}
		if pod != nil && pod.DeletionTimestamp == nil {
			w.provide(i)
		}
		if !settled && w.ordered() || made == burst {
			return false
		}
	}
	return made == 0
}

// shrink removes surplus pods, the highest number first and one after the other if the order matters. It reports whether
// none is left to wait for.
func (w *work) shrink() bool {
	for n, pod := range w.surplus {
		switch {
		case pod.DeletionTimestamp != nil && w.ordered():
			return false
		case pod.DeletionTimestamp != nil:
			continue
		case w.ordered() && !w.available(pod) && pod != w.firstUnavailable():
			return false
		}
		if !w.bequeath(pod) {
			return false
		}
		w.remove(pod)
		if w.ordered() || n == burst {
			return false
		}
	}
	return true
}

// firstUnavailable is the pod with the lowest number, wanted or not, that is not available.
func (w *work) firstUnavailable() *corev1.Pod {
	for _, pod := range w.pods {
		if pod.DeletionTimestamp != nil || !w.available(pod) {
			return pod
		}
	}
	return nil
}

// roll replaces pods of another template than the present one, the highest number first, down to the partition, as long
// as no more are unavailable than may be.
func (w *work) roll() {
	strategy := w.set.Spec.UpdateStrategy
	if strategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return
	}
	budget := w.maxUnavailable()
	for _, pod := range w.wanted {
		if pod == nil || pod.DeletionTimestamp != nil || !w.available(pod) {
			budget--
		}
	}
	old := w.old()
	if !w.ordered() {
		for _, pod := range old { // those that are of no use cost nothing
			if !w.available(pod) {
				w.remove(pod)
			}
		}
	}
	for _, pod := range old {
		if budget <= 0 {
			return
		}
		if w.ordered() || w.available(pod) {
			w.remove(pod)
			budget--
		}
	}
}

// old are the pods that the update is still to reach, the highest number first.
func (w *work) old() []*corev1.Pod {
	var old []*corev1.Pod
	for i := len(w.wanted) - 1; i >= w.partition(); i-- {
		if pod := w.wanted[i]; pod != nil && pod.DeletionTimestamp == nil && revisionOf(pod) != w.update.Name {
			old = append(old, pod)
		}
	}
	return old
}

func (w *work) remove(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		return
	}
	message := "delete Pod " + pod.Name + " in StatefulSet " + w.set.Name + " successful"
	w.changes = append(w.changes, controller.Change{
		Verb: controller.Delete, Object: pod, Events: []controller.Event{event(w.set, "SuccessfulDelete", message)},
	})
}

// ordered reports that the set's pods come and go one after the other.
func (w *work) ordered() bool {
	return w.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement
}

// available asks to be woken when the pod will be.
func (w *work) available(pod *corev1.Pod) bool {
	if controller.PodFinished(pod) {
		return false
	}
	yes, due := controller.PodAvailable(pod, w.set.Spec.MinReadySeconds, w.now)
	w.wake = controller.Sooner(w.wake, due)
	return yes
}

func replicas(set *appsv1.StatefulSet) int {
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}

func start(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals == nil {
		return 0
	}
	return int(set.Spec.Ordinals.Start)
}

// ordinal is the pod's number, -1 when its name is none of the set's.
func ordinal(set *appsv1.StatefulSet, pod *corev1.Pod) int {
	digits, ok := strings.CutPrefix(pod.Name, set.Name+"-")
	n, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || n < 0 || strconv.FormatInt(n, 10) != digits {
		return -1
	}
	return int(n)
}

func reference(set *appsv1.StatefulSet) metav1.OwnerReference {
	return controller.Reference(set, "apps/v1", "StatefulSet")
}

func event(set *appsv1.StatefulSet, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "StatefulSet", Namespace: set.Namespace, Name: set.Name, UID: set.UID, ResourceVersion: set.ResourceVersion},
		Type:      corev1.EventTypeNormal, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
