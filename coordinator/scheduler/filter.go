package scheduler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Reasons, as kube-scheduler words them.
const (
	reasonUnschedulable = "node(s) were unschedulable"
	reasonNotReady      = "node(s) were not ready"
	reasonAffinity      = "node(s) didn't match Pod's node affinity/selector"
	reasonPorts         = "node(s) didn't have free ports for the requested pod ports"
	reasonTooMany       = "Too many pods"
)

// needs are the demands of a pod on a node that no placement changes.
type needs struct {
	tolerations []corev1.Toleration
	required    nodeaffinity.RequiredNodeAffinity
	preferred   *nodeaffinity.PreferredSchedulingTerms
	weight      int64 // sum of the preferred terms' weights
	demand      demand
}

func needsOf(pod *corev1.Pod, d demand) needs {
	n := needs{demand: d, tolerations: pod.Spec.Tolerations, required: nodeaffinity.GetRequiredNodeAffinity(pod)}
	if a := pod.Spec.Affinity; a == nil || a.NodeAffinity == nil {
		return n
	}
	terms := pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
	preferred, err := nodeaffinity.NewPreferredSchedulingTerms(terms)
	if err != nil {
		return n // validation refuses such terms; a preference that cannot be read is none
	}
	n.preferred = preferred
	for _, t := range terms {
		n.weight += int64(t.Weight)
	}
	return n
}

// refuse returns why the node is out of question whatever runs on it, empty when it is not.
func (n *needs) refuse(node *node) string {
	if n.cordoned(node) {
		return reasonUnschedulable
	}
	if taint := n.untolerated(node); taint != nil {
		return fmt.Sprintf("node(s) had untolerated taint {%s: %s}", taint.Key, taint.Value)
	}
	if !node.ready && !tolerates(n.tolerations, &corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}) {
		return reasonNotReady
	}
	if !n.attracted(node) {
		return reasonAffinity
	}
	for _, nodes := range n.demand.nodes {
		if !nodes.Match(node.Node) {
			return reasonVolumeNode
		}
	}
	return ""
}

// cordoned reports whether the node takes no new pods, and the pod does not ignore that.
func (n *needs) cordoned(node *node) bool {
	return (node.Spec.Unschedulable || node.DeletionTimestamp != nil) &&
		!tolerates(n.tolerations, &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
}

// repelled reports whether a taint keeps the pod away from the node, or its cordon, which upstream makes a taint.
func (n *needs) repelled(node *node) bool { return n.untolerated(node) != nil || n.cordoned(node) }

// untolerated is the first taint of the node that keeps the pod away; nil when none does.
func (n *needs) untolerated(node *node) *corev1.Taint {
	for i := range node.Spec.Taints {
		taint := &node.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(n.tolerations, taint) {
			return taint
		}
	}
	return nil
}

// attracted reports whether the node is one that the pod's node selector and required node affinity ask for.
func (n *needs) attracted(node *node) bool {
	match, err := n.required.Match(node.Node)
	return err == nil && match
}

// tolerates reports whether any toleration covers the taint.
func tolerates(tolerations []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range tolerations {
		if Tolerates(&tolerations[i], taint) {
			return true
		}
	}
	return false
}

// Tolerates reports whether the toleration covers the taint: an empty effect covers all effects, an empty key with
// operator Exists all keys.
func Tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return t.Key != "" && t.Value == taint.Value
	default:
		return false
	}
}

// shortages are the reasons for which r does not fit on the node, and whether it would fit if the node were empty.
func (n *node) shortages(r *request) (reasons []string, elsewise bool) {
	if !n.portsFree(r) {
		return []string{reasonPorts}, true
	}
	elsewise = true
	note := func(short bool, reason string, want, allocatable int64) {
		if short {
			reasons = append(reasons, reason)
			elsewise = elsewise && want <= allocatable
		}
	}
	note(n.count+1 > n.pods, reasonTooMany, 1, n.pods)
	note(over(r.cpu, n.used.cpu, n.allocatable.cpu), "Insufficient cpu", r.cpu, n.allocatable.cpu)
	note(over(r.memory, n.used.memory, n.allocatable.memory), "Insufficient memory", r.memory, n.allocatable.memory)
	note(over(r.storage, n.used.storage, n.allocatable.storage), "Insufficient ephemeral-storage", r.storage, n.allocatable.storage)
	for _, name := range r.names() {
		want, allocatable := r.named[name], n.allocatable.named[name]
		note(over(want, n.used.named[name], allocatable), "Insufficient "+string(name), want, allocatable)
	}
	return reasons, elsewise
}
