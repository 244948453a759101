package nodelifecycle

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// reasonNode is why a pod on a silent node is not ready. It also marks the pods whose readiness comes back with the node.
const reasonNode = "NodeNotReady"

// readiness takes pods on silent nodes out of their services and out of the count of available ones, and puts them back
// when their node is heard again, unless the node has said something else of them by then. During a mass failure nothing
// is taken out: if the link is to blame, the pods still serve each other.
func (p *planner) readiness() {
	heard, held := map[string]bool{}, map[string]bool{}
	for i, node := range p.s.Nodes {
		heard[node.Name] = p.fallen[i].IsZero()
		held[node.Name] = p.massFailure || p.heldUntil(node).After(p.now)
	}
	for _, pod := range p.s.Pods {
		silent := !heard[pod.Spec.NodeName] // also when there is no such node any more
		ready := controller.PodCondition(pod, corev1.PodReady)
		switch {
		case ready == nil || pod.Spec.NodeName == "":
		case silent && !held[pod.Spec.NodeName] && ready.Status == corev1.ConditionTrue:
			c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse, Reason: reasonNode, Message: fmt.Sprintf("node %s is not heard", pod.Spec.NodeName)}
			p.changes = append(p.changes, withReady(pod, c, p.now, "Node is not ready"))
		case !silent && ready.Status == corev1.ConditionFalse && ready.Reason == reasonNode:
			p.changes = append(p.changes, withReady(pod, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, p.now, ""))
		}
	}
}

func withReady(pod *corev1.Pod, c corev1.PodCondition, now time.Time, warning string) controller.Change {
	updated := pod.DeepCopy()
	controller.SetPodCondition(&updated.Status, c, now)
	change := controller.Change{Verb: controller.Status, Object: updated}
	if warning != "" {
		change.Events = []controller.Event{{
			Regarding: controller.PodReference(pod), Type: corev1.EventTypeWarning, Reason: reasonNode, Message: warning, Component: api.ComponentController,
		}}
	}
	return change
}
