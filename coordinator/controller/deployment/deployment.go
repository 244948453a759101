// Package deployment rolls each Deployment out through ReplicaSets: it makes one for each pod template, moves replicas
// from old ones to the new one within maxSurge and maxUnavailable, keeps revisions for rollback, and writes the
// Deployment's status. It never touches pods: those are the replicaset package's.
package deployment

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	reads := controller.Deployments | controller.ReplicaSets | controller.Pods | controller.Namespaces
	return controller.Controller{Name: "deployment", Reads: reads, Plan: Plan}
}

// Plan decides for every Deployment. Each call takes one step of a rollout, as one sync of upstream's controller does:
// scale up, or scale down, or clean up.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{s: s, now: now, sets: newIndex(s.ReplicaSets), closing: map[string]bool{}}
	for _, ns := range s.Namespaces {
		p.closing[ns.Name] = ns.DeletionTimestamp != nil
	}
	var changes []controller.Change
	var wake time.Time
	for _, d := range s.Deployments {
		r := p.rollout(d)
		if r == nil {
			continue
		}
		r.step()
		changes = append(changes, r.changes()...)
		wake = controller.Sooner(wake, r.wake)
	}
	return changes, wake
}

type planner struct {
	s       *controller.Snapshot
	now     time.Time
	sets    *index
	closing map[string]bool
	pods    map[types.UID][]*corev1.Pod // by owner, made when first needed
}

// rollout is one deployment with its sets, as working copies: a step edits them, changes compares them with what is
// stored.
type rollout struct {
	*planner
	stored   *appsv1.Deployment
	d        *appsv1.Deployment
	current  *set   // of the deployment's present template; nil when there is none
	old      []*set // the others, oldest first
	released []*set
	created  *appsv1.ReplicaSet
	deleted  []*appsv1.ReplicaSet
	events   []controller.Event // about the deployment's own status
	wake     time.Time
}

// set is a ReplicaSet and its working copy, which is the same object until it is edited.
type set struct {
	stored *appsv1.ReplicaSet
	*appsv1.ReplicaSet
	events []controller.Event
}

// edit returns the working copy.
func (s *set) edit() *appsv1.ReplicaSet {
	if s.ReplicaSet == s.stored {
		s.ReplicaSet = s.stored.DeepCopy()
	}
	return s.ReplicaSet
}

func (s *set) replicas() int32 { return deref(s.Spec.Replicas, 1) }

func deref(p *int32, otherwise int32) int32 {
	if p == nil {
		return otherwise
	}
	return *p
}

// rollout gathers the deployment's sets; nil when its selector is one that validation does not let through.
func (p *planner) rollout(d *appsv1.Deployment) *rollout {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil || selector.Empty() {
		return nil
	}
	working := *d // shallow: status and metadata are replaced as a whole before they are edited
	working.Status = *d.Status.DeepCopy()
	r := &rollout{planner: p, stored: d, d: &working}
	r.claim(selector)
	return r
}

func (r *rollout) claim(selector labels.Selector) {
	var mine []*set
	for _, rs := range r.sets.of(r.d) {
		s := &set{stored: rs, ReplicaSet: rs}
		if selector.Matches(labels.Set(rs.Labels)) {
			mine = append(mine, s)
		} else if rs.DeletionTimestamp == nil && r.d.DeletionTimestamp == nil {
			s.edit().OwnerReferences = without(rs.OwnerReferences, r.d.UID)
			r.released = append(r.released, s)
		}
	}
	if r.d.DeletionTimestamp == nil {
		mine = append(mine, r.adopt(selector)...)
	}
	r.sort(mine)
}

func (r *rollout) adopt(selector labels.Selector) []*set {
	var adopted []*set
	for _, rs := range r.sets.orphans(r.d.Namespace) {
		if rs.DeletionTimestamp != nil || !selector.Matches(labels.Set(rs.Labels)) {
			continue
		}
		s := &set{stored: rs, ReplicaSet: rs}
		edited := s.edit()
		edited.OwnerReferences = append(edited.OwnerReferences, controller.Reference(r.d, "apps/v1", "Deployment"))
		adopted = append(adopted, s)
	}
	return adopted
}

// step is upstream's syncDeployment.
func (r *rollout) step() {
	if r.d.DeletionTimestamp != nil {
		r.plainStatus()
		return
	}
	r.markPause()
	r.syncRevision()
	switch {
	case r.d.Spec.Paused:
		r.scale()
		r.cleanUp()
		r.plainStatus()
	case r.scaled():
		r.scale()
		r.plainStatus()
	case r.recreates():
		r.recreate()
		r.progressStatus()
	default:
		r.roll()
		r.progressStatus()
	}
}

// all are the deployment's sets, the old ones first.
func (r *rollout) all() []*set {
	all := append([]*set(nil), r.old...)
	if r.current != nil {
		all = append(all, r.current)
	}
	return all
}

func (r *rollout) replicas() int32 { return deref(r.d.Spec.Replicas, 1) }

// changes are the differences between the working copies and what is stored.
func (r *rollout) changes() []controller.Change {
	var changes []controller.Change
	if r.created != nil {
		changes = append(changes, controller.Change{Verb: controller.Create, Object: r.created, Events: r.creationEvents()})
	}
	for _, s := range append(r.all(), r.released...) {
		if s.ReplicaSet != s.stored {
			changes = append(changes, controller.Change{Verb: controller.Update, Object: s.ReplicaSet, Events: s.events})
		}
	}
	for _, rs := range r.deleted {
		changes = append(changes, controller.Change{Verb: controller.Delete, Object: rs})
	}
	if !equality.Semantic.DeepEqual(r.d.Status, r.stored.Status) || r.d.Annotations[revisionAnnotation] != r.stored.Annotations[revisionAnnotation] {
		changes = append(changes, controller.Change{Verb: controller.Status, Object: r.d.DeepCopy(), Events: r.events})
	}
	return changes
}

func (r *rollout) event(kind, reason, message string) controller.Event {
	d := r.stored
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: d.Namespace, Name: d.Name, UID: d.UID, ResourceVersion: d.ResourceVersion},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
