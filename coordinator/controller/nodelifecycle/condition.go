package nodelifecycle

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Conditions and reasons that this package writes, beside Ready.
const (
	// Reported keeps what the node last said of its readiness while Ready is Unknown, so that Ready can go back to it
	// when the node is heard again.
	Reported corev1.NodeConditionType = "ReportedReady"
	// EvictionsHeld is True while the mass-failure brake keeps the node's pods where they are.
	EvictionsHeld corev1.NodeConditionType = "EvictionsHeld"

	reasonUnknown = "NodeStatusUnknown"
	reasonNever   = "NodeStatusNeverUpdated"
	reasonMass    = "MassFailure"
)

// conditions returns the status write that the node needs.
func (p *planner) conditions(node *corev1.Node, fallen time.Time) (controller.Change, bool) {
	have := node.Status.Conditions
	if fallen.IsZero() && find(have, Reported) < 0 && find(have, EvictionsHeld) < 0 {
		return controller.Change{}, false
	}
	want := slices.Clone(have)
	var events []controller.Event
	if fallen.IsZero() {
		want = restored(want, p.now)
		if isUnknown(have) && !isUnknown(want) {
			events = append(events, event(node, corev1.EventTypeNormal, "NodeHeard", fmt.Sprintf("Node %s is heard again", node.Name)))
		}
	} else if want = silenced(want, p.now); !isUnknown(have) {
		events = append(events, event(node, corev1.EventTypeNormal, "NodeNotReady", fmt.Sprintf("Node %s status is now: NodeNotReady", node.Name)))
	}
	want, news := p.withBrake(want, !fallen.IsZero(), node)
	events = append(events, news...)
	if slices.Equal(have, want) {
		return controller.Change{}, false
	}
	updated := node.DeepCopy()
	updated.Status.Conditions = want
	return controller.Change{Verb: controller.Status, Object: updated, Events: events}, true
}

// silenced makes Ready Unknown and keeps what the node said last.
func silenced(conditions []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	i := find(conditions, corev1.NodeReady)
	at := metav1.NewTime(now)
	if i < 0 {
		return append(conditions, corev1.NodeCondition{
			Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: reasonNever, Message: "Agent never posted node status.", LastTransitionTime: at,
		})
	}
	ready := conditions[i]
	if ready.Status == corev1.ConditionUnknown {
		return conditions
	}
	conditions[i] = corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: reasonUnknown, Message: "Agent stopped posting node status.",
		LastHeartbeatTime: ready.LastHeartbeatTime, LastTransitionTime: at,
	}
	ready.Type = Reported
	return append(drop(conditions, Reported), ready)
}

// restored puts back what the node said last, unless it has said something newer.
func restored(conditions []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	kept := find(conditions, Reported)
	if kept < 0 {
		return conditions
	}
	ready := conditions[kept]
	conditions = drop(conditions, Reported)
	if i := find(conditions, corev1.NodeReady); i >= 0 && conditions[i].Status == corev1.ConditionUnknown {
		ready.Type = corev1.NodeReady
		ready.LastTransitionTime = metav1.NewTime(now)
		conditions[i] = ready
	}
	return conditions
}

func isUnknown(conditions []corev1.NodeCondition) bool {
	i := find(conditions, corev1.NodeReady)
	return i >= 0 && conditions[i].Status == corev1.ConditionUnknown
}

// withBrake says on a silent node that, why and until when its pods stay. What was said stays so for the whole time, even
// when half of the lost nodes are back or another coordinator leads.
func (p *planner) withBrake(conditions []corev1.NodeCondition, silent bool, node *corev1.Node) ([]corev1.NodeCondition, []controller.Event) {
	switch {
	case !silent:
		return drop(conditions, EvictionsHeld), nil
	case p.heldUntil(node).After(p.now):
		p.wake = controller.Sooner(p.wake, p.heldUntil(node))
		return conditions, nil
	case !p.massFailure:
		return drop(conditions, EvictionsHeld), nil
	}
	end := p.now.Add(p.Hold)
	p.wake = controller.Sooner(p.wake, end)
	message := fmt.Sprintf("%d of %d nodes fell silent: the link is suspected, no pod is evicted from them before %s", p.lost, len(p.fallen), end.UTC().Format(time.RFC3339))
	held := corev1.NodeCondition{Type: EvictionsHeld, Status: corev1.ConditionTrue, Reason: reasonMass, Message: message, LastTransitionTime: metav1.NewTime(p.now)}
	return append(drop(conditions, EvictionsHeld), held), []controller.Event{event(node, corev1.EventTypeWarning, "EvictionsHeld", message)}
}

// heldUntil is until when the brake keeps the node's pods; zero when it does not.
func (p *planner) heldUntil(node *corev1.Node) time.Time {
	if i := find(node.Status.Conditions, EvictionsHeld); i >= 0 {
		return node.Status.Conditions[i].LastTransitionTime.Add(p.Hold)
	}
	return time.Time{}
}

func find(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) int {
	return slices.IndexFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
}

func drop(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) []corev1.NodeCondition {
	return slices.DeleteFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
}

func event(node *corev1.Node, kind, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID},
		Type:      kind, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
