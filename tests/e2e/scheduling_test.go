package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// deploymentOf is a Deployment of pods that sleep, with extra lines of YAML in the pods' spec.
func deploymentOf(name string, replicas int, spec string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
%[3]s
      containers:
      - {name: c, image: IMAGE, args: [sleep], resources: {requests: {cpu: 1m, memory: 4Mi}}}
`, name, replicas, "      "+strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n      "))
}

// spread waits until n pods match and running of them are ready, and returns them by node; those without one under "".
func (s space) spread(selector string, n, running int) map[string][]corev1.Pod {
	s.Helper()
	list := await(s, fmt.Sprintf("%d of %d pods %s ready", running, n, selector), "pods -l "+selector, func(l corev1.PodList) bool {
		ready := 0
		for _, p := range l.Items {
			if isReady(p) {
				ready++
			}
		}
		return ready == running && len(l.Items) == n
	})
	out := map[string][]corev1.Pod{}
	for _, p := range list.Items {
		out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
	}
	return out
}

func TestAntiAffinity(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(deploymentOf("apart", 4, `
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}`))
	on := s.spread("app=apart", 4, 3)
	if len(on) != 4 || len(on[""]) != 1 {
		t.Fatalf("pods by node: %v", names(on))
	}
	waiting := on[""][0].Name
	want := "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
	await(s, "the words", "pod "+waiting, func(p corev1.Pod) bool { return condition(p, corev1.PodScheduled).Message == want })
	s.poll("the event", func() (bool, error) {
		out, err := shared.Kubectl(s.Context(), "", s.in([]string{"describe", "pod", waiting})...)
		return strings.Contains(out, "FailedScheduling") && strings.Contains(out, want), err
	})
	// A pod follows its neighbour, which is not there yet.
	s.apply(podManifest("beside", `affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: leader}}}`, "args: [sleep]") +
		podManifest("leader", "nodeSelector: {kubernetes.io/hostname: n2}", "args: [sleep]"))
	if p := s.ready("beside"); p.Spec.NodeName != "n2" {
		t.Errorf("the follower runs on %s", p.Spec.NodeName)
	}
	// The fourth pod gets the place of one that goes.
	s.kubectl("scale deployment apart --replicas 3")
	s.readyPods("app=apart", 3)
}

func names(on map[string][]corev1.Pod) string {
	var out strings.Builder
	for node, pods := range on {
		for _, p := range pods {
			fmt.Fprintf(&out, "%s on %q ", p.Name, node)
		}
	}
	return out.String()
}

func TestTopologySpread(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	// Node affinity pulls all pods to n1; the constraint holds against it.
	manifest := deploymentOf("wide", 6, `
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 100, preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}}
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: wide}}}`)
	s.apply(manifest)
	for node, pods := range s.spread("app=wide", 6, 6) {
		if node == "" || len(pods) != 2 {
			t.Errorf("%d pods on %q, want 2", len(pods), node)
		}
	}
	s.apply(deploymentOf("few", 4, `
topologySpreadConstraints:
- {maxSkew: 1, minDomains: 4, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: few}}}`))
	on := s.spread("app=few", 4, 3)
	if len(on[""]) != 1 {
		t.Fatalf("pods by node: %v", names(on))
	}
	await(s, "the words", "pod "+on[""][0].Name, func(p corev1.Pod) bool {
		return strings.HasPrefix(condition(p, corev1.PodScheduled).Message, "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints. ")
	})
}

// TestPreemption fights for a port of a node, so that no other test's pod has to go.
func TestPreemption(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	for name, value := range map[string]string{"e2e-low": "-10", "e2e-high": "1000"} {
		s.kubectl("create priorityclass " + name + " --value=" + value)
		t.Cleanup(func() {
			if out, err := shared.Kubectl(context.Background(), "", "delete", "priorityclass", name); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	s.wants(s.kubectl("get priorityclasses"), "PREEMPTIONPOLICY", "e2e-high", "1000", "PreemptLowerPriority", "system-node-critical", "2000001000")
	port := func(name, class, more string) string {
		return podManifest(name, "priorityClassName: "+class+"\nterminationGracePeriodSeconds: 2\nnodeSelector: {kubernetes.io/hostname: n3}\n"+more,
			`args: [serve, ":8080"]
ports: [{containerPort: 8080, hostPort: 34817}]`)
	}
	s.apply(port("low", "e2e-low", ""))
	low := s.ready("low")
	if low.Spec.Priority == nil || *low.Spec.Priority != -10 {
		t.Fatalf("priority of low is %v", low.Spec.Priority)
	}
	s.apply(port("high", "e2e-high", ""))
	high := s.ready("high")
	s.poll("the victim is gone", func() (bool, error) {
		out, err := shared.Kubectl(s.Context(), "", s.in([]string{"get", "pods", "-o", "name"})...)
		return err == nil && !strings.Contains(out, "pod/low"), err
	})
	s.poll("event Preempted", func() (bool, error) {
		out, err := shared.Kubectl(s.Context(), "", s.in([]string{"get", "events", "--field-selector", "reason=Preempted"})...)
		return strings.Contains(out, fmt.Sprintf("Preempted by pod %s on node n3", high.UID)), err
	})
	if high.Status.NominatedNodeName != "" || high.Spec.NodeName != "n3" {
		t.Errorf("on %q, still promised %q", high.Spec.NodeName, high.Status.NominatedNodeName)
	}
	// An equal has to wait, and says so; a class that does not exist, or a number of one's own, is refused.
	s.apply(port("equal", "e2e-high", ""))
	await(s, "the words", "pod equal", func(p corev1.Pod) bool {
		m := condition(p, corev1.PodScheduled).Message
		return strings.Contains(m, "1 node(s) didn't have free ports for the requested pod ports") && strings.Contains(m, "1 No preemption victims found for incoming pod")
	})
	s.wants(s.refused(manifestOf(port("x", "e2e-nope", "")), "apply", "-f", "-"), "no PriorityClass with name e2e-nope was found")
	s.wants(s.refused(manifestOf(port("x", "e2e-low", "priority: 7")), "apply", "-f", "-"), "the integer value of priority (7) must not be provided in pod spec")
}

func TestSchedulingGatesAndOtherSchedulers(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(podManifest("gated", "schedulingGates: [{name: example.com/wait}]", "args: [sleep]") +
		podManifest("foreign", "schedulerName: mine", "args: [sleep]") + podManifest("usual", "", "args: [sleep]"))
	s.ready("usual")
	s.wants(s.kubectl("get pods"), "SchedulingGated")
	if p := get[corev1.Pod](s, "pod gated"); p.Spec.NodeName != "" || condition(p, corev1.PodScheduled).Reason != corev1.PodReasonSchedulingGated {
		t.Errorf("gated pod on %q: %+v", p.Spec.NodeName, p.Status)
	}
	s.kubectlArgs("", "patch", "pod", "gated", "--type=json", `-p=[{"op":"remove","path":"/spec/schedulingGates"}]`)
	s.ready("gated")
	if p := get[corev1.Pod](s, "pod foreign"); p.Spec.NodeName != "" || len(p.Status.Conditions) != 0 {
		t.Errorf("another scheduler's pod on %q: %+v", p.Spec.NodeName, p.Status)
	}
	s.kubectlArgs(`{"apiVersion":"v1","kind":"Binding","metadata":{"name":"foreign"},"target":{"kind":"Node","name":"n1"}}`,
		"create", "--raw", "/api/v1/namespaces/"+s.name+"/pods/foreign/binding", "-f", "-")
	if p := s.ready("foreign"); p.Spec.NodeName != "n1" {
		t.Errorf("bound to n1, runs on %q", p.Spec.NodeName)
	}
}
