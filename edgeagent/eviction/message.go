package eviction

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Reason is a pod's reason when it was evicted or refused.
const Reason = "Evicted"

// message says why p was chosen, as evictionMessage of the kubelet.
func (d *decision) message(p Pod, r corev1.ResourceName) string {
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %s. ", r)
	for _, t := range d.is.met {
		if have, known := d.s.Signals[t.Signal]; known && signals[t.Signal].resource == r {
			fmt.Fprintf(&b, "Threshold quantity: %s, available: %s. ", quantity(t.Value.of(have.Capacity), r), quantity(have.Available, r))
			break
		}
	}
	if q, whole := podLevel(p.Pod, func(n *corev1.ResourceRequirements) corev1.ResourceList { return n.Requests })[r]; whole && r == corev1.ResourceMemory {
		fmt.Fprintf(&b, "Pod %s was using %s, request is %s, has larger consumption of %s. ", p.Name, quantity(p.use(r), r), q.String(), r)
	}
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for i := range list {
			b.WriteString(p.blame(&list[i], r))
		}
	}
	return b.String()
}

// blame says how much more a container uses than it asked for; empty when it does not.
func (p Pod) blame(c *corev1.Container, r corev1.ResourceName) string {
	use, running := p.Containers[c.Name]
	request := c.Resources.Requests[r]
	var n int64
	switch r {
	case corev1.ResourceMemory:
		n = use.MemoryBytes
	case corev1.ResourceEphemeralStorage:
		n = use.Rootfs.plus(use.Logs).Bytes
	default:
		return ""
	}
	if !running || n <= request.Value() {
		return ""
	}
	return fmt.Sprintf("Container %s was using %s, request is %s, has larger consumption of %s. ", c.Name, quantity(n, r), request.String(), r)
}

func quantity(n int64, r corev1.ResourceName) string {
	format := resource.BinarySI
	if r == inodes || r == pids {
		format = resource.DecimalSI
	}
	return resource.NewQuantity(n, format).String()
}

// Refuse says why a node with these conditions does not take a new pod; empty when it does. Under memory pressure only
// pods that ask for nothing are refused, unless they tolerate its taint.
func Refuse(p *corev1.Pod, qos corev1.PodQOSClass, conditions []corev1.NodeConditionType) string {
	if len(conditions) == 0 || Critical(p) {
		return ""
	}
	if len(conditions) == 1 && conditions[0] == corev1.NodeMemoryPressure && (qos != corev1.PodQOSBestEffort || toleratesMemory(p)) {
		return ""
	}
	return fmt.Sprintf("The node had condition: %v. ", conditions)
}

func toleratesMemory(p *corev1.Pod) bool {
	taint := corev1.Taint{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}
	for i := range p.Spec.Tolerations {
		t := &p.Spec.Tolerations[i]
		if (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
			(t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value && (t.Operator == "" || t.Operator == corev1.TolerationOpEqual)) {
			return true
		}
	}
	return false
}
