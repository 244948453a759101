package rebalance

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/scheduler"
)

// advance takes one move one step. Every step follows from what is there, so that a coordinator that dies between two
// writes leaves nothing that the next one does not finish or undo.
func (p *planner) advance(m *api.MovePlan) {
	old := p.pods[m.Spec.Pod.UID]
	replacement := p.replacement(m)
	p.busy++
	switch m.Status.Phase {
	case Starting:
		p.starting(m, old, replacement)
	case Stopping:
		p.stopping(m, old)
	default:
		p.planned(m, old, replacement)
	}
}

// replacement is the pod that was started for the move; nil when there is none.
func (p *planner) replacement(m *api.MovePlan) *corev1.Pod {
	for _, pod := range p.s.Pods {
		if pod.Namespace == m.Spec.Pod.Namespace && pod.Annotations[annotationMove] == m.Name {
			return pod
		}
	}
	return nil
}

func (p *planner) planned(m *api.MovePlan, old, replacement *corev1.Pod) {
	if replacement != nil { // created, but the coordinator ended before it could say so
		p.toStarting(m, replacement)
		return
	}
	reason := p.hindrance(m, old)
	if reason != "" {
		p.finish(m, Failed, reason)
		return
	}
	pod := p.newReplacement(m, old)
	rs := p.owner(old)
	event := controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "apps/v1", Kind: "ReplicaSet", Namespace: rs.Namespace, Name: rs.Name, UID: rs.UID},
		Type:      corev1.EventTypeNormal, Reason: "Rebalancing", Component: api.ComponentController,
		Message: fmt.Sprintf("Starting %s on %s to take over from %s on %s: %s", pod.Name, m.Spec.To, old.Name, m.Spec.From, m.Spec.Reason),
	}
	p.changes = append(p.changes, controller.Change{Verb: controller.Create, Object: pod, Events: []controller.Event{event, scheduler.Scheduled(pod)}})
	p.toStarting(m, pod)
}

// hindrance is why the move cannot begin (any more).
func (p *planner) hindrance(m *api.MovePlan, old *corev1.Pod) string {
	switch {
	case old == nil || !controller.PodActive(old):
		return "the pod is gone"
	case old.Spec.NodeName != m.Spec.From:
		return fmt.Sprintf("the pod is on %s", old.Spec.NodeName)
	case p.owner(old) == nil || p.owner(old).DeletionTimestamp != nil:
		return "the pod has no ReplicaSet that would keep it"
	}
	if words := p.unsuitable(old); words != "" {
		return words
	}
	if words := p.fleet().Ask(old).Refused(m.Spec.To); words != "" {
		return fmt.Sprintf("%s cannot take it: %s", m.Spec.To, words)
	}
	return ""
}

// newReplacement is the pod that the ReplicaSet would make, on its node from the start.
func (p *planner) newReplacement(m *api.MovePlan, old *corev1.Pod) *corev1.Pod {
	rs := p.owner(old)
	pod := replicaset.NewPod(rs, replicaset.NewName(rs, seed(m), p.byOwner[rs.UID]))
	pod.Spec.NodeName = m.Spec.To
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, api.AnnotationReplaces, string(old.UID))
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, annotationMove, m.Name)
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, api.AnnotationPlacement, m.Spec.To+": moved from "+m.Spec.From+": "+m.Spec.Reason)
	controller.SetPodCondition(&pod.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, p.now)
	return pod
}

// seed makes the name of the replacement follow from the move, so that performing the step twice creates one pod.
func seed(m *api.MovePlan) uint64 {
	var n uint64
	for _, c := range []byte(m.UID) {
		n = n*131 + uint64(c)
	}
	return n
}

func (p *planner) toStarting(m *api.MovePlan, replacement *corev1.Pod) {
	updated := m.DeepCopy()
	at := metav1.NewTime(p.now)
	updated.Status.Phase, updated.Status.Replacement, updated.Status.Started = Starting, replacement.Name, &at
	updated.Status.Message = fmt.Sprintf("waiting for %s on %s to become ready", replacement.Name, m.Spec.To)
	p.status(updated)
}

func (p *planner) starting(m *api.MovePlan, old, replacement *corev1.Pod) {
	due := p.now
	if m.Status.Started != nil {
		due = m.Status.Started.Add(p.Deadline)
	}
	switch {
	case old == nil || !controller.PodActive(old):
		p.finish(m, Done, "the pod went by itself, its replacement stays")
	case replacement == nil || !controller.PodActive(replacement):
		p.fail(m, old, replacement, "the replacement ended before it was ready")
	case p.takesOver(replacement) && p.guard(old) == "":
		p.toStopping(m, old)
	case !due.After(p.now):
		p.fail(m, old, replacement, p.tooLate(old, replacement))
	case p.unready(m.Spec.To):
		p.fail(m, old, replacement, fmt.Sprintf("node %s is not ready any more", m.Spec.To))
	default:
		p.wake = controller.Sooner(p.wake, due)
	}
}

// takesOver reports whether the replacement is available by its ReplicaSet's own measure.
func (p *planner) takesOver(replacement *corev1.Pod) bool {
	var seconds int32
	if rs := p.owner(replacement); rs != nil {
		seconds = rs.Spec.MinReadySeconds
	}
	available, due := controller.PodAvailable(replacement, seconds, p.now)
	p.wake = controller.Sooner(p.wake, due)
	return available
}

// tooLate is why the replacement could not take over in time.
func (p *planner) tooLate(old, replacement *corev1.Pod) string {
	if words := p.guard(old); words != "" && p.takesOver(replacement) {
		return fmt.Sprintf("%s for %s", words, p.Deadline)
	}
	return fmt.Sprintf("the replacement was not ready within %s", p.Deadline)
}

// guard is why the pod's disruption budget does not let it go now; empty when it does.
func (p *planner) guard(pod *corev1.Pod) string {
	for _, b := range p.budgets.Of(pod) {
		if _, promised := b.Status.DisruptedPods[pod.Name]; !promised && b.Status.DisruptionsAllowed < 1 {
			return fmt.Sprintf("disruption budget %s did not let the pod go", b.Name)
		}
	}
	return ""
}

func (p *planner) unready(node string) bool {
	n := p.nodes[node]
	return n == nil || !readySince(n).ok
}

// fail undoes a move: the replacement goes, the pod stays.
func (p *planner) fail(m *api.MovePlan, old, replacement *corev1.Pod, why string) {
	if replacement != nil && controller.PodActive(replacement) {
		p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: replacement})
	}
	p.finish(m, Failed, why, controller.Event{
		Regarding: controller.PodReference(old), Type: corev1.EventTypeWarning, Reason: "RebalanceFailed", Component: api.ComponentController,
		Message: fmt.Sprintf("Staying on %s: move to %s failed: %s", m.Spec.From, m.Spec.To, why),
	})
}

func (p *planner) toStopping(m *api.MovePlan, old *corev1.Pod) {
	p.changes = append(p.changes, controller.Change{
		Verb: controller.Evict, Object: old,
		Events: []controller.Event{{
			Regarding: controller.PodReference(old), Type: corev1.EventTypeNormal, Reason: "Rebalanced", Component: api.ComponentController,
			Message: fmt.Sprintf("Stopping: %s on %s has taken over", m.Status.Replacement, m.Spec.To),
		}},
	})
	updated := m.DeepCopy()
	updated.Status.Phase = Stopping
	updated.Status.Message = fmt.Sprintf("%s is ready, waiting for %s to stop", m.Status.Replacement, old.Name)
	p.status(updated)
}

func (p *planner) stopping(m *api.MovePlan, old *corev1.Pod) {
	switch {
	case old == nil || controller.PodFinished(old):
		p.finish(m, Done, fmt.Sprintf("moved from %s to %s", m.Spec.From, m.Spec.To))
	case old.DeletionTimestamp == nil && m.Status.Started != nil && !m.Status.Started.Add(2*p.Deadline).After(p.now):
		p.fail(m, old, p.replacement(m), p.guard(old))
	case old.DeletionTimestamp == nil: // the coordinator ended between the two writes, or somebody else used the budget up
		p.changes = append(p.changes, controller.Change{Verb: controller.Evict, Object: old})
	default:
		due := old.DeletionTimestamp.Add(p.Deadline)
		if !due.After(p.now) {
			p.finish(m, Done, fmt.Sprintf("moved to %s; the old pod on %s has been told to stop and has not answered", m.Spec.To, m.Spec.From))
			return
		}
		p.wake = controller.Sooner(p.wake, due)
	}
}

func (p *planner) finish(m *api.MovePlan, phase, message string, events ...controller.Event) {
	updated := m.DeepCopy()
	at := metav1.NewTime(p.now)
	updated.Status.Phase, updated.Status.Message, updated.Status.Finished = phase, message, &at
	p.status(updated, events...) // the next move waits for the snapshot that shows it, since it starts the cool-down
}

func (p *planner) status(m *api.MovePlan, events ...controller.Event) {
	p.changes = append(p.changes, controller.Change{Verb: controller.Status, Object: m, Events: events})
}

// backOff is until when no pod of the owner may move to the node again. Moves that never started tell nothing about it.
func (p *planner) backOff(owner, node string) time.Time {
	failures := 0
	var last time.Time
	for _, m := range p.s.Moves {
		if m.Status.Phase == Failed && m.Status.Started != nil && m.Labels[labelOwner] == owner && m.Spec.To == node {
			failures++
			if at := finishTime(m); at.After(last) {
				last = at
			}
		}
	}
	if failures == 0 {
		return time.Time{}
	}
	return last.Add(min(longestBackOff, p.BackOff<<min(failures-1, 10)))
}
