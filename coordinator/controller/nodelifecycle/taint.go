package nodelifecycle

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// pressures are the conditions that keep new pods away.
var pressures = []struct {
	condition corev1.NodeConditionType
	taint     string
	on, off   string // reasons of the events when it comes and goes, the kubelet's; empty for none
}{
	{corev1.NodeMemoryPressure, corev1.TaintNodeMemoryPressure, "NodeHasInsufficientMemory", "NodeHasSufficientMemory"},
	{corev1.NodeDiskPressure, corev1.TaintNodeDiskPressure, "NodeHasDiskPressure", "NodeHasNoDiskPressure"},
	{corev1.NodePIDPressure, corev1.TaintNodePIDPressure, "NodeHasInsufficientPID", "NodeHasSufficientPID"},
	{corev1.NodeNetworkUnavailable, corev1.TaintNodeNetworkUnavailable, "", ""},
}

// ours are the keys of the taints that this package sets and removes.
var ours = map[string]bool{
	corev1.TaintNodeUnreachable: true, corev1.TaintNodeNotReady: true, corev1.TaintNodeUnschedulable: true, corev1.TaintNodeMemoryPressure: true,
	corev1.TaintNodeDiskPressure: true, corev1.TaintNodePIDPressure: true, corev1.TaintNodeNetworkUnavailable: true,
}

// taints returns the write that brings the node's taints in line with its conditions. Taints that stay keep their time,
// from which tolerations count.
func (p *planner) taints(node *corev1.Node) (controller.Change, bool) {
	want := wantedTaints(node)
	var taints []corev1.Taint
	changed := false
	for _, have := range node.Spec.Taints {
		i := slices.IndexFunc(want, func(t corev1.Taint) bool { return t.MatchTaint(&have) })
		if ours[have.Key] && i < 0 {
			changed = true
			continue
		}
		if i >= 0 {
			want = slices.Delete(want, i, i+1)
		}
		taints = append(taints, have)
	}
	for _, t := range want {
		at := metav1.NewTime(p.now)
		t.TimeAdded = &at
		taints = append(taints, t)
		changed = true
	}
	if !changed {
		return controller.Change{}, false
	}
	updated := node.DeepCopy()
	updated.Spec.Taints = taints
	return controller.Change{Verb: controller.Update, Object: updated, Events: news(node, taints)}, true
}

// news are the events of pressures that come or go with the node's new taints.
func news(node *corev1.Node, taints []corev1.Taint) []controller.Event {
	var out []controller.Event
	for _, p := range pressures {
		had := func(t corev1.Taint) bool { return t.Key == p.taint }
		before, now := slices.ContainsFunc(node.Spec.Taints, had), slices.ContainsFunc(taints, had)
		if reason := p.off; before != now && reason != "" {
			if now {
				reason = p.on
			}
			out = append(out, event(node, corev1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", node.Name, reason)))
		}
	}
	return out
}

func wantedTaints(node *corev1.Node) []corev1.Taint {
	var want []corev1.Taint
	status := func(kind corev1.NodeConditionType) corev1.ConditionStatus {
		if i := find(node.Status.Conditions, kind); i >= 0 {
			return node.Status.Conditions[i].Status
		}
		return ""
	}
	switch status(corev1.NodeReady) {
	case corev1.ConditionUnknown:
		want = both(corev1.TaintNodeUnreachable)
	case corev1.ConditionFalse:
		want = both(corev1.TaintNodeNotReady)
	case corev1.ConditionTrue, "":
	}
	for _, p := range pressures {
		if status(p.condition) == corev1.ConditionTrue {
			want = append(want, corev1.Taint{Key: p.taint, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	if node.Spec.Unschedulable {
		want = append(want, corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	return want
}

func both(key string) []corev1.Taint {
	return []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}, {Key: key, Effect: corev1.TaintEffectNoExecute}}
}
