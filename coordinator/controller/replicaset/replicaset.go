// Package replicaset keeps as many pods as each ReplicaSet asks for: it adopts and releases pods by selector, creates
// what is missing, deletes what is too much, and writes the ReplicaSet's status. It knows nothing of deployments, nor of
// nodes; placing the pods that it creates is the scheduler's job.
package replicaset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// burst bounds the pods that one plan creates or deletes for one ReplicaSet, as upstream does.
const burst = 500

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{Name: "replicaset", Reads: controller.Pods | controller.ReplicaSets | controller.Namespaces, Plan: Plan}
}

// Plan decides for every ReplicaSet. It never asks for more pods than are missing in s: names of new pods follow from the
// ReplicaSet, the revision of s and their number, so a plan that is performed twice creates once.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	return plan(s, now, s.ReplicaSets, sort{"apps/v1", "ReplicaSet", true, func(rs *appsv1.ReplicaSet) controller.Object { return rs }})
}

// sort is what kind of object is planned for. ReplicationControllers are planned as the ReplicaSets that they could be.
type sort struct {
	apiVersion, kind  string
	countsTerminating bool                                       // in its status
	stored            func(*appsv1.ReplicaSet) controller.Object // the object of that kind
}

func plan(s *controller.Snapshot, now time.Time, sets []*appsv1.ReplicaSet, of sort) ([]controller.Change, time.Time) {
	p := &planner{s: s, now: now, sets: sets, sort: of, byOwner: controller.PodsByOwner(s.Pods), closing: controller.Closing(s.Namespaces)}
	p.orphans = byNamespace(p.byOwner[""])
	for _, rs := range sets {
		p.plan(rs)
	}
	return p.changes, p.wake
}

type planner struct {
	sort
	sets    []*appsv1.ReplicaSet
	s       *controller.Snapshot
	now     time.Time
	byOwner map[types.UID][]*corev1.Pod
	orphans map[string][]*corev1.Pod // active pods without a controller, by namespace
	closing map[string]bool          // namespaces that are being deleted
	related map[types.UID][]*appsv1.ReplicaSet
	changes []controller.Change
	wake    time.Time
}

func (p *planner) plan(rs *appsv1.ReplicaSet) {
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil || selector.Empty() {
		return // validation lets neither through; whoever stored it gets no pods rather than all
	}
	claimed := p.claim(rs, selector)
	if rs.DeletionTimestamp == nil {
		p.scale(rs, claimed)
	}
	p.status(rs, claimed)
}

// claims are the pods of one ReplicaSet. Standbys are in neither list.
type claims struct {
	counted     []*corev1.Pod
	terminating []*corev1.Pod
	fenced      int // terminating ones that may still run and must not run twice: each keeps a replacement from being made
}

func (p *planner) claim(rs *appsv1.ReplicaSet, selector labels.Selector) claims {
	var c claims
	owned := p.byOwner[rs.UID]
	for _, pod := range owned {
		switch {
		case !selector.Matches(labels.Set(pod.Labels)):
			p.release(rs, pod)
		case pod.DeletionTimestamp != nil && !controller.PodFinished(pod):
			c.terminating = append(c.terminating, pod)
			if pod.Annotations[api.AnnotationSingleton] == "true" {
				c.fenced++
			}
		case controller.PodActive(pod) && !controller.Standby(pod, owned):
			c.counted = append(c.counted, pod)
		}
	}
	if rs.DeletionTimestamp != nil {
		return c
	}
	return p.adopt(rs, selector, c)
}

func (p *planner) adopt(rs *appsv1.ReplicaSet, selector labels.Selector, c claims) claims {
	rest := p.orphans[rs.Namespace][:0:0]
	for _, pod := range p.orphans[rs.Namespace] {
		if !selector.Matches(labels.Set(pod.Labels)) {
			rest = append(rest, pod)
			continue
		}
		adopted := pod.DeepCopy()
		adopted.OwnerReferences = append(adopted.OwnerReferences, p.reference(rs))
		p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: adopted})
		c.counted = append(c.counted, pod)
	}
	p.orphans[rs.Namespace] = rest
	return c
}

func (p *planner) release(rs *appsv1.ReplicaSet, pod *corev1.Pod) {
	if rs.DeletionTimestamp != nil || !controller.PodActive(pod) {
		return
	}
	released := pod.DeepCopy()
	released.OwnerReferences = nil
	for _, ref := range pod.OwnerReferences {
		if ref.UID != rs.UID {
			released.OwnerReferences = append(released.OwnerReferences, ref)
		}
	}
	p.changes = append(p.changes, controller.Change{Verb: controller.Update, Object: released})
}

func (p *planner) scale(rs *appsv1.ReplicaSet, c claims) {
	missing := int(wanted(rs)) - len(c.counted)
	if missing > 0 {
		missing = max(0, missing-c.fenced)
	}
	switch {
	case missing > 0 && !p.closing[rs.Namespace]:
		p.create(rs, min(missing, burst))
	case missing < 0:
		p.remove(rs, c.counted, min(-missing, burst))
	}
}

func (p *planner) create(rs *appsv1.ReplicaSet, count int) {
	names := controller.NewNames(rs, p.s.Revision, p.byOwner[rs.UID])
	for range count {
		pod := newPod(rs, names.Next(prefix(rs)), p.reference(rs))
		p.changes = append(p.changes, controller.Change{
			Verb: controller.Create, Object: pod,
			Events: []controller.Event{p.event(rs, "SuccessfulCreate", "Created pod: "+pod.Name)},
		})
	}
}

func (p *planner) remove(rs *appsv1.ReplicaSet, pods []*corev1.Pod, count int) {
	for _, pod := range victims(pods, p.siblings(rs), count, p.now) {
		p.changes = append(p.changes, controller.Change{
			Verb: controller.Delete, Object: pod,
			Events: []controller.Event{p.event(rs, "SuccessfulDelete", "Deleted pod: "+pod.Name)},
		})
	}
}

// siblings are the pods of all ReplicaSets with the same controller as rs: two of them on one node compete for its life.
func (p *planner) siblings(rs *appsv1.ReplicaSet) []*corev1.Pod {
	ref := metav1.GetControllerOfNoCopy(rs)
	if ref == nil {
		return p.byOwner[rs.UID]
	}
	if p.related == nil {
		p.related = relatives(p.sets)
	}
	var pods []*corev1.Pod
	for _, other := range p.related[ref.UID] {
		pods = append(pods, p.byOwner[other.UID]...)
	}
	return pods
}

func relatives(sets []*appsv1.ReplicaSet) map[types.UID][]*appsv1.ReplicaSet {
	index := make(map[types.UID][]*appsv1.ReplicaSet)
	for _, rs := range sets {
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
			index[ref.UID] = append(index[ref.UID], rs)
		}
	}
	return index
}

// byNamespace indexes the active ones of pods, which are sorted by namespace.
func byNamespace(pods []*corev1.Pod) map[string][]*corev1.Pod {
	index := make(map[string][]*corev1.Pod)
	var active []*corev1.Pod
	for i, pod := range pods {
		if controller.PodActive(pod) {
			active = append(active, pod)
		}
		if i+1 == len(pods) || pods[i+1].Namespace != pod.Namespace {
			index[pod.Namespace], active = active, nil
		}
	}
	return index
}

func wanted(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}

func (s sort) reference(rs *appsv1.ReplicaSet) metav1.OwnerReference {
	return controller.Reference(rs, s.apiVersion, s.kind)
}

func (s sort) event(rs *appsv1.ReplicaSet, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: s.apiVersion, Kind: s.kind, Namespace: rs.Namespace, Name: rs.Name, UID: rs.UID, ResourceVersion: rs.ResourceVersion},
		Type:      corev1.EventTypeNormal, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
