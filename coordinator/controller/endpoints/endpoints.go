// Package endpoints says where each Service's pods are: in EndpointSlices and, for old clients, in Endpoints, and in the
// one table from which every node's proxy works. It looks at pods' readiness as reported and judges none itself.
package endpoints

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
)

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	reads := controller.Services | controller.Pods | controller.Endpoints | controller.EndpointSlices | controller.Namespaces | controller.Nodes
	return controller.Controller{Name: "endpoints", Reads: reads, Plan: Plan}
}

// Plan writes EndpointSlices and Endpoints for every Service with a selector, and deletes those of Services that are gone.
// For the others it copies Endpoints that somebody keeps into slices.
func Plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{s: s, now: now, pods: newIndex(s), zones: zones(s.Nodes), closing: map[string]bool{}}
	for _, ns := range s.Namespaces {
		p.closing[ns.Name] = ns.DeletionTimestamp != nil
	}
	p.indexStored()
	for _, svc := range s.Services {
		if managed(svc) {
			p.slices(svc)
			p.legacy(svc)
		}
	}
	p.sweep()
	p.mirror()
	return p.changes, time.Time{}
}

type planner struct {
	s       *controller.Snapshot
	now     time.Time
	pods    *index
	zones   map[string]string // by node
	closing map[string]bool
	stored  stored
	changes []controller.Change
}

// managed reports whether the service's endpoints follow from its selector.
func managed(svc *corev1.Service) bool {
	return len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName && svc.DeletionTimestamp == nil
}

func zones(nodes []*corev1.Node) map[string]string {
	zones := map[string]string{}
	for _, n := range nodes {
		if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
			zones[n.Name] = zone
		}
	}
	return zones
}

// index finds the pods of selectors. It knows pods by the labels that some service's selector starts with, so that a
// service costs as much as it has pods.
type index struct{ byLabel map[string][]*corev1.Pod }

func newIndex(s *controller.Snapshot) *index {
	i := &index{byLabel: map[string][]*corev1.Pod{}}
	for _, svc := range s.Services {
		if managed(svc) {
			i.byLabel[leading(svc.Namespace, svc.Spec.Selector)] = nil
		}
	}
	if len(i.byLabel) == 0 {
		return i
	}
	for _, pod := range s.Pods {
		if !listed(pod) {
			continue
		}
		for k, v := range pod.Labels {
			key := labelKey(pod.Namespace, k, v)
			if pods, asked := i.byLabel[key]; asked {
				i.byLabel[key] = append(pods, pod)
			}
		}
	}
	return i
}

// leading is the index key of a selector: that of its first label by name.
func leading(namespace string, selector map[string]string) string {
	first := slices.Min(slices.Collect(maps.Keys(selector)))
	return labelKey(namespace, first, selector[first])
}

func labelKey(namespace, k, v string) string { return namespace + "\x00" + k + "\x00" + v }

// listed reports whether a pod can be an endpoint: it has an address and its containers have not ended.
func listed(pod *corev1.Pod) bool { return pod.Status.PodIP != "" && !controller.PodFinished(pod) }

// of returns the service's pods.
func (i *index) of(svc *corev1.Service) []*corev1.Pod {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var found []*corev1.Pod
	for _, pod := range i.byLabel[leading(svc.Namespace, svc.Spec.Selector)] {
		if selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found
}

// targetPort resolves the port that a service's port means on a pod: a number, the port of that name in any container or
// sidecar, or the service's own. False when the pod has no port of that name.
func targetPort(pod *corev1.Pod, port *corev1.ServicePort) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		if n := port.TargetPort.IntVal; n != 0 {
			return n, true
		}
		return port.Port, true
	}
	for i := range pod.Spec.Containers {
		if n, ok := namedPort(&pod.Spec.Containers[i], port); ok {
			return n, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			if n, ok := namedPort(c, port); ok {
				return n, true
			}
		}
	}
	return 0, false
}

func namedPort(c *corev1.Container, port *corev1.ServicePort) (int32, bool) {
	for _, p := range c.Ports {
		if p.Name == port.TargetPort.StrVal && protocol(p.Protocol) == protocol(port.Protocol) {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// readiness of one endpoint. Serving tells a terminating pod that still answers from one that does not.
type readiness struct{ ready, serving, terminating bool }

func readinessOf(svc *corev1.Service, pod *corev1.Pod) readiness {
	r := readiness{serving: controller.PodReady(pod), terminating: pod.DeletionTimestamp != nil}
	r.ready = svc.Spec.PublishNotReadyAddresses || r.serving && !r.terminating
	return r
}

// ownLabels are the service's labels with those that tell its slices; headless services are marked as upstream does.
func ownLabels(svc *corev1.Service, extra map[string]string) map[string]string {
	own := maps.Clone(svc.Labels)
	if own == nil {
		own = map[string]string{}
	}
	delete(own, corev1.IsHeadlessService)
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		own[corev1.IsHeadlessService] = ""
	}
	maps.Copy(own, extra)
	return own
}

func reference(svc *corev1.Service) metav1.OwnerReference {
	return controller.Reference(svc, "v1", "Service")
}

func podTarget(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}

func nodeName(pod *corev1.Pod) *string {
	if pod.Spec.NodeName == "" {
		return nil
	}
	name := pod.Spec.NodeName
	return &name
}

// hostname is the name under which DNS knows the pod in its service; nil when it has none.
func hostname(svc *corev1.Service, pod *corev1.Pod) *string {
	if pod.Spec.Hostname == "" || pod.Spec.Subdomain != svc.Name || pod.Namespace != svc.Namespace {
		return nil
	}
	name := pod.Spec.Hostname
	return &name
}

func serviceKey(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// addressFamily is "IPv6" for an address with a colon.
func isIPv6(address string) bool { return strings.Contains(address, ":") }
