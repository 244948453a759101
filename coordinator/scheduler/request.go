package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// amount is a vector of resources: thousandths of a CPU, bytes, bytes, and what else was asked for by name.
type amount struct {
	cpu, memory, storage int64
	named                map[corev1.ResourceName]int64 // extended resources and huge pages; nil when there are none
}

// Requests that scoring assumes for a container that asks for nothing, as upstream does, so that such pods spread too.
const (
	assumedCPU    = 100
	assumedMemory = 200 << 20
)

// request is what one pod needs of a node.
type request struct {
	amount
	scoreCPU, scoreMemory int64 // with the assumed values
	ports                 []port
}

// port is a host port in use. An empty address means all addresses.
type port struct {
	protocol corev1.Protocol
	address  string
	number   int32
}

// requestOf follows Kubernetes' rules: the larger of (all containers and sidecars) and (each init container in turn with
// the sidecars started before it), or what the pod asks for as a whole, plus the runtime's overhead.
func requestOf(pod *corev1.Pod) request {
	var r request
	r.amount = podAmount(pod, containerAmount)
	assumed := podAmount(pod, assumedAmount)
	r.scoreCPU, r.scoreMemory = assumed.cpu, assumed.memory
	r.ports = hostPorts(pod)
	return r
}

func podAmount(pod *corev1.Pod, of func(*corev1.Container) amount) amount {
	total := containersAmount(pod, of)
	if pod.Spec.Resources != nil {
		total.replace(pod.Spec.Resources.Requests)
	}
	total.add(amountOf(pod.Spec.Overhead))
	return total
}

func containersAmount(pod *corev1.Pod, of func(*corev1.Container) amount) amount {
	var total amount
	for i := range pod.Spec.Containers {
		total.add(of(&pod.Spec.Containers[i]))
	}
	if len(pod.Spec.InitContainers) == 0 {
		return total
	}
	var sidecars, peak amount
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		need := of(c)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars.add(need)
			peak.raise(sidecars)
			continue
		}
		need.add(sidecars)
		peak.raise(need)
	}
	total.add(sidecars)
	total.raise(peak)
	return total
}

func assumedAmount(c *corev1.Container) amount {
	a := amount{cpu: assumedCPU, memory: assumedMemory}
	if q, set := asked(c, corev1.ResourceCPU); set {
		a.cpu = q.MilliValue()
	}
	if q, set := asked(c, corev1.ResourceMemory); set {
		a.memory = q.Value()
	}
	return a
}

// containerAmount is what a container asks for. A limit without a request is one: the API makes it so of every pod, but a
// controller's pod is placed before it is stored.
func containerAmount(c *corev1.Container) amount {
	a := amountOf(c.Resources.Requests)
	for name, q := range c.Resources.Limits {
		if _, set := c.Resources.Requests[name]; !set {
			a.set(name, q)
		}
	}
	return a
}

func asked(c *corev1.Container, name corev1.ResourceName) (resource.Quantity, bool) {
	if q, set := c.Resources.Requests[name]; set {
		return q, true
	}
	q, set := c.Resources.Limits[name]
	return q, set
}

func amountOf(list corev1.ResourceList) amount {
	var a amount
	for name, q := range list {
		a.set(name, q)
	}
	return a
}

func (a *amount) set(name corev1.ResourceName, q resource.Quantity) {
	switch name {
	case corev1.ResourceCPU:
		a.cpu = q.MilliValue()
	case corev1.ResourceMemory:
		a.memory = q.Value()
	case corev1.ResourceEphemeralStorage:
		a.storage = q.Value()
	case corev1.ResourcePods:
	default:
		if a.named == nil {
			a.named = map[corev1.ResourceName]int64{}
		}
		a.named[name] = q.Value()
	}
}

// replace takes over what a pod asks for as a whole, for the resources that may be asked for so.
func (a *amount) replace(list corev1.ResourceList) {
	for name, q := range list {
		if name == corev1.ResourceCPU || name == corev1.ResourceMemory || isHugePages(name) {
			a.set(name, q)
		}
	}
}

func isHugePages(name corev1.ResourceName) bool {
	prefix := corev1.ResourceHugePagesPrefix
	return len(name) >= len(prefix) && name[:len(prefix)] == corev1.ResourceName(prefix)
}

func (a *amount) add(b amount) {
	a.cpu += b.cpu
	a.memory += b.memory
	a.storage += b.storage
	for name, v := range b.named {
		if a.named == nil {
			a.named = map[corev1.ResourceName]int64{}
		}
		a.named[name] += v
	}
}

func (a *amount) subtract(b amount) {
	a.cpu -= b.cpu
	a.memory -= b.memory
	a.storage -= b.storage
	for name, v := range b.named {
		a.named[name] -= v
	}
}

func (a *amount) raise(b amount) {
	a.cpu = max(a.cpu, b.cpu)
	a.memory = max(a.memory, b.memory)
	a.storage = max(a.storage, b.storage)
	for name, v := range b.named {
		if a.named == nil {
			a.named = map[corev1.ResourceName]int64{}
		}
		a.named[name] = max(a.named[name], v)
	}
}

// names of the named resources that are asked for, sorted.
func (a *amount) names() []corev1.ResourceName {
	if a.named == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(a.named))
}

// hostPorts are the ports of the machine that the pod's containers and sidecars take.
func hostPorts(pod *corev1.Pod) []port {
	var ports []port
	for i := range pod.Spec.Containers {
		ports = appendPorts(ports, &pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			ports = appendPorts(ports, c)
		}
	}
	return ports
}

func appendPorts(ports []port, c *corev1.Container) []port {
	for _, p := range c.Ports {
		if p.HostPort <= 0 {
			continue
		}
		protocol := p.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		address := p.HostIP
		if address == "0.0.0.0" {
			address = ""
		}
		ports = append(ports, port{protocol, address, p.HostPort})
	}
	return ports
}

func (p port) collides(q port) bool {
	return p.protocol == q.protocol && p.number == q.number && (p.address == q.address || p.address == "" || q.address == "")
}
