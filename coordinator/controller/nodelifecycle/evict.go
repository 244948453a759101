package nodelifecycle

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/scheduler"
)

// evict deletes the pods whose toleration of a NoExecute taint has ended.
func (p *planner) evict() {
	tainted := map[string]danger{}
	for i, node := range p.s.Nodes {
		if d := p.danger(node, p.fallen[i]); len(d.taints) > 0 {
			tainted[node.Name] = d
		}
	}
	if len(tainted) == 0 {
		return
	}
	for _, pod := range p.s.Pods {
		d := tainted[pod.Spec.NodeName]
		if len(d.taints) == 0 || !controller.PodActive(pod) {
			continue
		}
		end, ends := p.tolerated(pod, d)
		switch {
		case !ends:
		case end.After(p.now):
			p.wake = controller.Sooner(p.wake, end)
		default:
			p.changes = append(p.changes, eviction(pod))
		}
	}
}

// danger is what threatens the pods of a node.
type danger struct {
	taints []corev1.Taint
	held   time.Time // no pod goes because of silence before
}

// danger collects the node's NoExecute taints. That of a node which is heard again is about to go and threatens nobody.
func (p *planner) danger(node *corev1.Node, fallen time.Time) danger {
	d := danger{held: p.heldUntil(node)}
	if p.massFailure && d.held.IsZero() {
		d.held = p.now.Add(p.Hold) // the condition that says so is being written
	}
	for _, t := range node.Spec.Taints {
		if t.Effect == corev1.TaintEffectNoExecute && (t.Key != corev1.TaintNodeUnreachable || !fallen.IsZero()) {
			d.taints = append(d.taints, t)
		}
	}
	return d
}

// tolerated is until when the pod may stay; ends is false when it may stay for ever. Time counts from when each taint was
// added, so that neither a restart of the coordinator nor anything else begins it anew. Unreachable taints evict no sooner
// than the brake allows, and in a fleet where the brake can work not before one heartbeat has shown whether others are
// silent too.
func (p *planner) tolerated(pod *corev1.Pod, d danger) (end time.Time, ends bool) {
	for i := range d.taints {
		taint := &d.taints[i]
		until, limited := toleratedOne(pod.Spec.Tolerations, taint)
		if !limited {
			continue
		}
		if taint.Key == corev1.TaintNodeUnreachable {
			until = latest(until, d.held, p.settled(taint))
		}
		if !ends || until.Before(end) {
			end, ends = until, true
		}
	}
	return end, ends
}

func (p *planner) settled(taint *corev1.Taint) time.Time {
	if len(p.fallen) < leastNodes || taint.TimeAdded == nil {
		return time.Time{}
	}
	return taint.TimeAdded.Add(p.Heartbeat)
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// toleratedOne is until when one taint is tolerated, by the first toleration that matches, as upstream.
func toleratedOne(tolerations []corev1.Toleration, taint *corev1.Taint) (until time.Time, limited bool) {
	var added time.Time
	if taint.TimeAdded != nil {
		added = taint.TimeAdded.Time
	}
	for i := range tolerations {
		t := &tolerations[i]
		if !scheduler.Tolerates(t, taint) {
			continue
		}
		if t.TolerationSeconds == nil {
			return time.Time{}, false
		}
		return added.Add(time.Duration(max(0, *t.TolerationSeconds)) * time.Second), true
	}
	return added, true
}

func eviction(pod *corev1.Pod) controller.Change {
	return controller.Change{
		Verb: controller.Delete, Object: pod,
		Events: []controller.Event{{
			Regarding: controller.PodReference(pod), Type: corev1.EventTypeNormal, Reason: "TaintManagerEviction",
			Message: fmt.Sprintf("Marking for deletion Pod %s/%s", pod.Namespace, pod.Name), Component: api.ComponentController,
		}},
	}
}
