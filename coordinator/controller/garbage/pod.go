package garbage

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Words of the condition that marks a pod whose node is gone.
const (
	reasonPodGC   = "DeletionByPodGC"
	messageNoNode = "PodGC: node no longer exists"
)

func (o Options) planPods(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &podPlanner{Options: o, now: now, nodes: map[string]*corev1.Node{}}
	for _, n := range s.Nodes {
		p.nodes[n.Name] = n
	}
	var finished []*corev1.Pod
	for _, pod := range s.Pods {
		p.judge(pod)
		if controller.PodFinished(pod) && pod.DeletionTimestamp == nil {
			finished = append(finished, pod)
		}
	}
	p.trim(finished)
	return p.changes, p.wake
}

type podPlanner struct {
	Options
	now     time.Time
	nodes   map[string]*corev1.Node
	changes []controller.Change
	wake    time.Time
}

// judge removes a pod that no node will ever say is gone.
func (p *podPlanner) judge(pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		if pod.DeletionTimestamp != nil {
			p.remove(pod)
		}
		return
	}
	node := p.nodes[pod.Spec.NodeName]
	switch {
	case node == nil:
		p.quarantine(pod)
	case pod.DeletionTimestamp != nil && outOfService(node):
		p.remove(pod)
	default:
		p.absolve(pod)
	}
}

// quarantine marks the pod, and removes it when the mark is old enough. The mark survives the coordinator.
func (p *podPlanner) quarantine(pod *corev1.Pod) {
	c := controller.PodCondition(pod, corev1.DisruptionTarget)
	if c == nil || c.Reason != reasonPodGC || c.Status != corev1.ConditionTrue {
		updated := pod.DeepCopy()
		mark := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reasonPodGC, Message: messageNoNode}
		controller.SetPodCondition(&updated.Status, mark, p.now)
		p.changes = append(p.changes, controller.Change{Verb: controller.Status, Object: updated})
		return
	}
	if due := c.LastTransitionTime.Add(p.Quarantine); due.After(p.now) {
		p.wake = controller.Sooner(p.wake, due)
		return
	}
	p.remove(pod)
}

// absolve takes the mark back when the node is there again.
func (p *podPlanner) absolve(pod *corev1.Pod) {
	c := controller.PodCondition(pod, corev1.DisruptionTarget)
	if c == nil || c.Reason != reasonPodGC {
		return
	}
	updated := pod.DeepCopy()
	updated.Status.Conditions = slices.DeleteFunc(updated.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	p.changes = append(p.changes, controller.Change{Verb: controller.Status, Object: updated})
}

// remove deletes without asking a node. A pod that was deleted so already waits for its finalizers only.
func (p *podPlanner) remove(pod *corev1.Pod) {
	var now int64
	if grace := pod.DeletionGracePeriodSeconds; pod.DeletionTimestamp != nil && grace != nil && *grace == 0 {
		return
	}
	p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: pod, Grace: &now})
}

// outOfService reports that a person has vouched for the node being off, by upstream's taint.
func outOfService(node *corev1.Node) bool {
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			return !ready(node)
		}
	}
	return false
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// trim deletes the oldest finished pods beyond the number that is kept.
func (p *podPlanner) trim(finished []*corev1.Pod) {
	surplus := len(finished) - p.Finished
	if surplus <= 0 {
		return
	}
	slices.SortFunc(finished, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, pod := range finished[:surplus] {
		p.changes = append(p.changes, controller.Change{Verb: controller.Delete, Object: pod})
	}
}
