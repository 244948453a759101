package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// busyPod has a CPU limit, so that a test's load stays what it says.
const busyPod = `args: [serve]
resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}`

func TestTop(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("busy", "", busyPod) + podManifest("idle", "", busyPod))
	busy := s.ready("busy")
	s.ready("idle")
	s.ask(busy, "/burn?seconds=120")
	// A tenth of a core is what the limit lets it have; a busy machine may give less.
	s.poll("busy pod measured busy", func() (bool, error) {
		m, err := podMetrics(s, "busy")
		if err != nil {
			return false, err
		}
		if cpu := use(m, "cpu"); cpu.Cmp(resource.MustParse("30m")) < 0 || cpu.Cmp(resource.MustParse("200m")) > 0 {
			return false, fmt.Errorf("it uses %s", cpu.String())
		}
		return true, nil
	})
	m, err := podMetrics(s, "idle")
	if err != nil {
		t.Fatal(err)
	}
	memory := use(m, "memory")
	if memory.Cmp(resource.MustParse("500Ki")) < 0 || memory.Cmp(resource.MustParse("64Mi")) > 0 || m.Window.Duration <= 0 || m.Labels["app"] != "idle" {
		t.Errorf("idle is measured %+v", m)
	}
	nodes := get[corev1.NodeList](s, "nodes").Items
	s.steps(
		step{args: "top pod", want: []string{"NAME", "CPU(cores)", "MEMORY(bytes)", "busy", "idle"}},
		step{args: "top pod --containers -l app=busy", want: []string{"POD", "busy", " c ", "!idle"}},
		step{args: "top pod --sort-by=cpu --no-headers", want: []string{"busy"}},
		step{args: "top pod idle", want: []string{"idle", "!busy"}},
		step{args: "top node", want: []string{"CPU(%)", "MEMORY(%)", nodes[0].Name, nodes[1].Name}},
		step{args: "top node " + nodes[0].Name, want: []string{nodes[0].Name, "!" + nodes[1].Name}},
		step{args: "get --raw /apis/metrics.k8s.io/v1beta1", want: []string{"NodeMetrics", "PodMetrics"}},
	)
	if out := s.kubectl("top pod --sort-by=cpu --no-headers"); !strings.HasPrefix(out, "busy") {
		t.Errorf("the busy pod is not first:\n%s", out)
	}
	s.wants(s.refused("", "top", "pod", "nobody"), `NotFound`, `"nobody" not found`)
}

func podMetrics(s space, pod string) (m metricsv1beta1.PodMetrics, err error) {
	out, err := shared.Kubectl(s.Context(), "", "get", "--raw", "/apis/metrics.k8s.io/v1beta1/namespaces/"+s.name+"/pods/"+pod)
	if err == nil {
		err = json.Unmarshal([]byte(out), &m)
	}
	return m, err
}

// use is what the pod's first container uses.
func use(m metricsv1beta1.PodMetrics, name string) (q resource.Quantity) {
	if len(m.Containers) > 0 {
		for n, v := range m.Containers[0].Usage {
			if string(n) == name {
				q = v
			}
		}
	}
	return q
}
