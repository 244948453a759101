package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Field returns one of the pod's own fields, as the downward API names them.
func (r Refs) Field(path string) (string, error) {
	p := r.Pod
	if value, ok, err := subscripted(p, path); ok || err != nil {
		return value, err
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return first(r.HostIPs), nil
	case "status.hostIPs":
		return strings.Join(r.HostIPs, ","), nil
	case "status.podIP":
		return first(r.PodIPs), nil
	case "status.podIPs":
		return strings.Join(r.PodIPs, ","), nil
	default:
		return "", fmt.Errorf("field %q is not one that a pod can refer to", path)
	}
}

// subscripted handles metadata.labels['key'] and metadata.annotations['key']; a missing key is the empty text.
func subscripted(p *corev1.Pod, path string) (string, bool, error) {
	field, rest, ok := strings.Cut(path, "['")
	if !ok {
		return "", false, nil
	}
	key, ok := strings.CutSuffix(rest, "']")
	if !ok {
		return "", false, fmt.Errorf("field %q: the subscript is not closed", path)
	}
	switch field {
	case "metadata.labels":
		return p.Labels[key], true, nil
	case "metadata.annotations":
		return p.Annotations[key], true, nil
	default:
		return "", false, fmt.Errorf("field %q has no keys", field)
	}
}

// formatMap is fieldpath.FormatMap of the kubelet: sorted lines of key="value".
func formatMap(m map[string]string) string {
	lines := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, fmt.Sprintf("%s=%q", key, m[key]))
	}
	return strings.Join(lines, "\n")
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// ResourceField returns a request or limit of a container, divided and rounded up.
func (r Refs) ResourceField(s *corev1.ResourceFieldSelector, c *corev1.Container) (string, error) {
	if s.ContainerName != "" && s.ContainerName != c.Name {
		if c = r.container(s.ContainerName); c == nil {
			return "", fmt.Errorf("resource field of container %q: the pod has no such container", s.ContainerName)
		}
	}
	kind, name, ok := strings.Cut(s.Resource, ".")
	if !ok || (kind != "limits" && kind != "requests") {
		return "", fmt.Errorf("resource field %q is neither limits.* nor requests.*", s.Resource)
	}
	return divide(r.quantity(c, kind, corev1.ResourceName(name)), s.Divisor, name), nil
}

func (r Refs) container(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{r.Pod.Spec.InitContainers, r.Pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// quantity: a container without a limit may use what the node has.
func (r Refs) quantity(c *corev1.Container, kind string, name corev1.ResourceName) resource.Quantity {
	if kind == "requests" {
		return c.Resources.Requests[name]
	}
	if limit, ok := c.Resources.Limits[name]; ok {
		return limit
	}
	return r.Allocatable[name]
}

func divide(q, divisor resource.Quantity, name string) string {
	value, by := q.Value(), divisor.Value()
	if name == string(corev1.ResourceCPU) && !divisor.IsZero() && divisor.MilliValue() < 1000 {
		value, by = q.MilliValue(), divisor.MilliValue()
	}
	if by <= 0 {
		by = 1
	}
	return strconv.FormatInt((value+by-1)/by, 10)
}
