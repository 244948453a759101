package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/edgeagent/uplink"
)

func withHostPorts(host ...int32) *corev1.Pod {
	p := &corev1.Pod{}
	for i, port := range host {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Ports: []corev1.ContainerPort{{ContainerPort: 80 + int32(i), HostPort: port}, {ContainerPort: 9}}})
	}
	return p
}

// TestHostPorts: a new agent begins with what the last one had put into force, and puts all again when one pod changes.
func TestHostPorts(t *testing.T) {
	status := corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.42.1.2"}}}
	memory, err := status.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	status.Phase = corev1.PodSucceeded
	finished, err := status.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	held := uplink.Desired{Pods: map[string]uplink.Pod{
		"a": {Pod: withHostPorts(8000)}, "lost": {Pod: withHostPorts(8009)}, "none": {Pod: withHostPorts(0)}, "over": {Pod: withHostPorts(8008)},
	}}
	memories := map[string]checkpoint.Memory{"a": {Status: memory}, "none": {Status: memory}, "over": {Status: finished}}
	var puts []string
	var refuse error
	h := newHostPorts(func(_ context.Context, ports []proxy.HostPort) error {
		var all []string
		for _, p := range ports {
			all = append(all, fmt.Sprintf("%s %d %s", p.Protocol, p.Port, p.Pod))
		}
		puts = append(puts, strings.Join(all, ", "))
		return refuse
	}, held, memories, slog.New(slog.DiscardHandler))
	ctx := t.Context()
	h.restore(ctx)
	h.set(ctx, "a", portsOf(held.Pods["a"].Pod, "10.42.1.2")) // taken over: nothing changes
	refuse = errors.New("the kernel says no")
	h.set(ctx, "b", portsOf(withHostPorts(8001, 8002), "10.42.1.3"))
	h.set(ctx, "a", nil)
	h.set(ctx, "a", nil)
	want := []string{
		"TCP 8000 10.42.1.2:80",
		"TCP 8000 10.42.1.2:80, TCP 8001 10.42.1.3:80, TCP 8002 10.42.1.3:81",
		"TCP 8001 10.42.1.3:80, TCP 8002 10.42.1.3:81",
	}
	if strings.Join(puts, "\n") != strings.Join(want, "\n") {
		t.Errorf("put\n%s\nwant\n%s", strings.Join(puts, "\n"), strings.Join(want, "\n"))
	}
	first := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: withHostPorts(8000, 8001).Spec.Containers}}
	always := corev1.ContainerRestartPolicyAlways
	first.Spec.InitContainers[1].RestartPolicy = &always
	if got := portsOf(first, "10.42.1.2"); len(got) != 1 || got[0].Port != 8001 {
		t.Errorf("only sidecars have ports, as in the scheduler: %v", got)
	}
	host := withHostPorts(8000)
	host.Spec.HostNetwork = true
	if got := portsOf(host, "10.42.1.2"); got != nil {
		t.Errorf("a pod in the node's network: %v", got)
	}
}
