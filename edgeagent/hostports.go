package edgeagent

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/edgeagent/uplink"
)

// hostPorts are the ports of this node that its pods have asked for. They are in force from the pod's sandbox on, whatever
// the state of its containers.
type hostPorts struct {
	put func(ctx context.Context, ports []proxy.HostPort) error // nil: nobody serves them
	log *slog.Logger

	mu   sync.Mutex // held while putting, so that the last word is the newest
	pods map[string][]proxy.HostPort
}

// newHostPorts starts with those of the pods that an earlier agent ran: they are in the kernel, and the first table of this
// agent must not end them. A pod whose memory is lost says them itself when it is taken over; one that has finished has none.
func newHostPorts(put func(context.Context, []proxy.HostPort) error, held uplink.Desired, memories map[string]checkpoint.Memory, log *slog.Logger) *hostPorts {
	h := &hostPorts{put: put, log: log, pods: map[string][]proxy.HostPort{}}
	for uid, p := range held.Pods {
		status := lastStatus(memories[uid])
		if finished(status.Phase) || len(status.PodIPs) == 0 {
			continue
		}
		if ports := portsOf(p.Pod, status.PodIPs[0].IP); len(ports) > 0 {
			h.pods[uid] = ports
		}
	}
	return h
}

// set says which ports a pod has now; none when its sandbox goes.
func (h *hostPorts) set(ctx context.Context, uid string, ports []proxy.HostPort) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if slices.Equal(h.pods[uid], ports) {
		return
	}
	h.pods[uid] = ports
	if len(ports) == 0 {
		delete(h.pods, uid)
	}
	h.apply(ctx)
}

// restore puts those of an earlier agent into force.
func (h *hostPorts) restore(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.apply(ctx)
}

// apply puts all into force. What the kernel refuses is logged; the next table or check tries again, and the pods run.
func (h *hostPorts) apply(ctx context.Context) {
	if h.put == nil {
		return
	}
	var all []proxy.HostPort
	for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
		all = append(all, h.pods[uid]...)
	}
	if err := h.put(ctx, all); err != nil {
		h.log.Error("host ports not in force", "err", err)
	}
}

// portsOf are the host ports of a pod at an address; in the node's network its ports are the node's already.
func portsOf(p *corev1.Pod, ip string) (ports []proxy.HostPort) {
	address, err := netip.ParseAddr(ip)
	if err != nil || p.Spec.HostNetwork {
		return nil
	}
	for _, port := range machinePorts(p) {
		host, _ := netip.ParseAddr(port.HostIP) // validated; empty means the node's own
		ports = append(ports, proxy.HostPort{
			Addr: host, Protocol: string(port.Protocol), Port: uint16(port.HostPort),
			Pod: netip.AddrPortFrom(address, uint16(port.ContainerPort)),
		})
	}
	return ports
}

// machinePorts are the ports of the machine that the pod's containers and sidecars are to have, as the scheduler counts them: each with its
// protocol, and without an address when it is on all of the machine's.
func machinePorts(p *corev1.Pod) (ports []corev1.ContainerPort) {
	add := func(c *corev1.Container) {
		for _, port := range c.Ports {
			if port.HostPort <= 0 {
				continue
			}
			port.Protocol = cmp.Or(port.Protocol, corev1.ProtocolTCP)
			if port.HostIP == "0.0.0.0" {
				port.HostIP = ""
			}
			ports = append(ports, port)
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; pod.Sidecar(c) {
			add(c)
		}
	}
	for i := range p.Spec.Containers {
		add(&p.Spec.Containers[i])
	}
	return ports
}
