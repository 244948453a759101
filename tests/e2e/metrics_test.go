package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
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
	var m metricsv1beta1.PodMetrics // its node may have been asked later
	s.poll("idle pod measured", func() (ok bool, err error) {
		m, err = podMetrics(s, "idle")
		return err == nil, err
	})
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
		step{args: "get --raw /api/v1/nodes/" + nodes[0].Name + "/proxy/metrics/resource", want: []string{"node_cpu_usage_seconds_total ", "resource_scrape_error 0"}},
		step{args: "get --raw /api/v1/nodes/" + nodes[0].Name + "/proxy/metrics", want: []string{"kubelet_running_pods "}},
		step{args: "get --raw /metrics", want: []string{`apiserver_request_total{code="201"`, "process_resident_memory_bytes", `skerry_nodes{state="ready"}`}},
	)
	if out := s.kubectl("top pod --sort-by=cpu --no-headers"); !strings.HasPrefix(out, "busy") {
		t.Errorf("the busy pod is not first:\n%s", out)
	}
	s.wants(s.kubectl("get --raw /api/v1/nodes/"+busy.Spec.NodeName+"/proxy/metrics/cadvisor"),
		fmt.Sprintf(`container_memory_working_set_bytes{container="c",namespace=%q,pod="busy",`, s.name))
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

const scaledWeb = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: IMAGE
        args: [serve]
        resources: {requests: {cpu: 20m, memory: 16Mi}, limits: {cpu: 100m, memory: 64Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 3
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 1, policies: [{type: Percent, value: 100, periodSeconds: 15}]}}
`

// The load is one busy pod: it uses up to five times what it asked for, so two more come; when it rests they go.
func TestAutoscaler(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(scaledWeb)
	pods := s.readyPods("app=web", 1)
	s.ask(pods[0], "/burn?seconds=600")
	// Figures count once they were taken while the pod was ready, so this takes two readings.
	await(s, "metrics used", "hpa web", func(h autoscalingv2.HorizontalPodAutoscaler) bool {
		return len(h.Status.CurrentMetrics) > 0 && h.Status.CurrentMetrics[0].Resource != nil
	})
	h := await(s, "scaled up", "hpa web", func(h autoscalingv2.HorizontalPodAutoscaler) bool { return h.Status.DesiredReplicas > 1 })
	if h.Status.LastScaleTime == nil {
		t.Errorf("status %s", brief(h))
	}
	await(s, "more pods", "deployment web", func(d appsv1.Deployment) bool { return d.Status.ReadyReplicas > 1 })
	s.steps(
		step{args: "get hpa web", want: []string{"REFERENCE", "Deployment/web", "cpu: ", "%/60%"}},
		step{args: "describe hpa web", want: []string{"SuccessfulRescale", "cpu resource utilization (percentage of request) above target", "AbleToScale", "ScalingActive", "ValidMetricFound"}},
		step{args: "get horizontalpodautoscalers.v1.autoscaling web -o yaml", want: []string{"apiVersion: autoscaling/v1", "targetCPUUtilizationPercentage: 60"}},
	)
	s.ask(pods[0], "/burn?seconds=0")
	await(s, "scaled down", "hpa web", func(h autoscalingv2.HorizontalPodAutoscaler) bool {
		return h.Status.DesiredReplicas == 1 && h.Status.CurrentReplicas == 1
	})
	s.readyPods("app=web", 1)
	s.wants(s.kubectl("describe hpa web"), "All metrics below target")
}

func TestAutoscalerManifests(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create deployment web --replicas=1 --image=" + imageV1)
	s.steps(
		step{args: "autoscale deployment web --min=1 --max=3 --cpu=50%", want: []string{"horizontalpodautoscaler.autoscaling/web autoscaled"}},
		step{args: "get hpa web -o jsonpath={.spec.metrics[0].resource.target.averageUtilization}", want: []string{"50"}},
		step{args: "autoscale deployment web --name=bad --min=4 --max=3", fails: true, want: []string{"max"}},
		step{
			args: "apply -f -", fails: true,
			input: `{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: bad}, spec: {maxReplicas: 0, minReplicas: 2, scaleTargetRef: {kind: Deployment, name: web}, metrics: [{type: Resource}]}}`,
			want: []string{
				"spec.maxReplicas: Required value: must be set and greater than 0", "spec.scaleTargetRef.apiVersion", "apiVersion must specify API group",
				"spec.metrics[0].resource: Required value: must populate information for the given metric source",
			},
		},
		step{
			args: "apply -f -", want: []string{"created"},
			input: `{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: old}, spec: {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: nowhere}}}`,
		},
		step{args: "get hpa old", want: []string{"Deployment/nowhere", "<unknown>/80%", "1", "2"}},
	)
	await(s, "a target that is not there is named", "hpa old", func(h autoscalingv2.HorizontalPodAutoscaler) bool {
		for _, c := range h.Status.Conditions {
			if c.Reason == "FailedGetScale" && strings.Contains(c.Message, `deployments.apps "nowhere" not found`) {
				return true
			}
		}
		return false
	})
}
