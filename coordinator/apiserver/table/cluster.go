package table

import (
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
)

const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

var nodeLayout = layout(nodeCells,
	name,
	text("Status", "The status of the node"),
	text("Roles", "The roles of the node"),
	age,
	text("Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kubeletVersion"]),
	wide(text("Internal-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"])),
	wide(text("External-IP", corev1.NodeStatus{}.SwaggerDoc()["addresses"])),
	wide(text("OS-Image", corev1.NodeSystemInfo{}.SwaggerDoc()["osImage"])),
	wide(text("Kernel-Version", corev1.NodeSystemInfo{}.SwaggerDoc()["kernelVersion"])),
	wide(text("Container-Runtime", corev1.NodeSystemInfo{}.SwaggerDoc()["containerRuntimeVersion"])),
)

func nodeCells(n *corev1.Node, now time.Time) []any {
	info := n.Status.NodeInfo
	kernel := or(info.KernelVersion, unknown)
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		n.Name, nodeStatus(n), nodeRoles(n), since(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		or(info.OSImage, unknown), kernel, or(info.ContainerRuntimeVersion, unknown),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		status = "NotReady"
		if c.Status == corev1.ConditionTrue {
			status = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

func nodeRoles(n *corev1.Node) string {
	var roles []string
	for k, v := range n.Labels {
		if role, ok := strings.CutPrefix(k, rolePrefix); ok && role != "" {
			roles = append(roles, role)
		} else if k == roleLabel && v != "" {
			roles = append(roles, v)
		}
	}
	slices.Sort(roles)
	return or(strings.Join(slices.Compact(roles), ","), none)
}

func nodeAddress(n *corev1.Node, t corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == t {
			return a.Address
		}
	}
	return none
}

var namespaceLayout = layout(func(n *corev1.Namespace, now time.Time) []any {
	return []any{n.Name, string(n.Status.Phase), since(n.CreationTimestamp, now)}
}, name, text("Status", "The status of the namespace"), age)

var configMapLayout = layout(func(c *corev1.ConfigMap, now time.Time) []any {
	return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), since(c.CreationTimestamp, now)}
}, name, number("Data", corev1.ConfigMap{}.SwaggerDoc()["data"]), age)

var secretLayout = layout(func(s *corev1.Secret, now time.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), since(s.CreationTimestamp, now)}
}, name, text("Type", corev1.Secret{}.SwaggerDoc()["type"]), number("Data", corev1.Secret{}.SwaggerDoc()["data"]), age)

var leaseLayout = layout(func(l *coordinationv1.Lease, now time.Time) []any {
	holder := ""
	if l.Spec.HolderIdentity != nil {
		holder = *l.Spec.HolderIdentity
	}
	return []any{l.Name, holder, since(l.CreationTimestamp, now)}
}, name, text("Holder", coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"]), age)

var eventLayout = layout(eventCells,
	text("Last Seen", corev1.Event{}.SwaggerDoc()["lastTimestamp"]),
	text("Type", corev1.Event{}.SwaggerDoc()["type"]),
	text("Reason", corev1.Event{}.SwaggerDoc()["reason"]),
	text("Object", corev1.Event{}.SwaggerDoc()["involvedObject"]),
	wide(text("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"])),
	wide(text("Source", corev1.Event{}.SwaggerDoc()["source"])),
	text("Message", corev1.Event{}.SwaggerDoc()["message"]),
	wide(text("First Seen", corev1.Event{}.SwaggerDoc()["firstTimestamp"])),
	wide(text("Count", corev1.Event{}.SwaggerDoc()["count"])),
	wide(name),
)

func eventCells(e *corev1.Event, now time.Time) []any {
	first, last, count := eventTimes(e, now)
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	return []any{
		last, e.Type, e.Reason, object, e.InvolvedObject.FieldPath, eventSource(e),
		strings.TrimSpace(e.Message), first, int64(count), e.Name,
	}
}

// eventTimes reads both ways of counting: the old fields and events.k8s.io's series.
func eventTimes(e *corev1.Event, now time.Time) (first, last string, count int32) {
	first, last, count = since(e.FirstTimestamp, now), since(e.LastTimestamp, now), e.Count
	if e.FirstTimestamp.IsZero() {
		first = sinceMicro(e.EventTime, now)
	}
	if e.LastTimestamp.IsZero() {
		last = first
	}
	if e.Series != nil {
		return first, sinceMicro(e.Series.LastObservedTime, now), e.Series.Count
	}
	return first, last, max(count, 1)
}

func eventSource(e *corev1.Event) string {
	component, host := or(e.Source.Component, e.ReportingController), or(e.Source.Host, e.ReportingInstance)
	if host == "" {
		return component
	}
	return fmt.Sprintf("%s, %s", component, host)
}
