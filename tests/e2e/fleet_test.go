package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/cluster"
)

// The tests of this file break the fleet and mend it again: they are not parallel.

// fleet is a workload of six that leaves a silent node after two seconds.
const fleet = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: six}
spec:
  replicas: 6
  selector: {matchLabels: {app: six}}
  template:
    metadata: {labels: {app: six}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: TOLERATE}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: TOLERATE}
      containers:
      - name: web
        image: IMAGE
        resources: {requests: {cpu: 10m, memory: 8Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
`

func fleetManifest(tolerate int) string {
	return strings.ReplaceAll(fleet, "TOLERATE", fmt.Sprint(tolerate))
}

// node does something to a node, and mends it when the test ends, however it ends.
func (s space) node(name, verb string) {
	s.Helper()
	if err := shared.Node(s.Context(), name, verb); err != nil {
		s.Fatal(err)
	}
	undo := map[string]string{up.VerbCut: up.VerbHeal, up.VerbStop: up.VerbStart}[verb]
	if undo == "" {
		return
	}
	s.Cleanup(func() {
		ctx := context.Background()
		if state, err := shared.State(ctx); err != nil {
			s.Error(err)
		} else if n, _ := state.Node(name); undo == up.VerbStart && n.Running || undo == up.VerbHeal && n.Linked {
			return // mended
		}
		if err := shared.Node(ctx, name, undo); err != nil {
			s.Error(err)
		}
	})
}

// nodes waits until a node is ready, or is not.
func (s space) nodeReady(name string, want corev1.ConditionStatus) {
	s.Helper()
	await(s, "node "+name+" "+string(want), "node "+name, func(n corev1.Node) bool {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				return (c.Status == corev1.ConditionTrue) == (want == corev1.ConditionTrue)
			}
		}
		return false
	})
}

func on(pods []corev1.Pod, node string) (there, elsewhere []corev1.Pod) {
	for _, p := range pods {
		if p.Spec.NodeName == node {
			there = append(there, p)
		} else {
			elsewhere = append(elsewhere, p)
		}
	}
	return there, elsewhere
}

// untouched checks that pods are there as they were: the same, and not restarted.
func (s space) untouched(before []corev1.Pod) {
	s.Helper()
	now := uids(get[corev1.PodList](s, "pods").Items)
	for _, p := range before {
		if n, ok := now[p.UID]; !ok || n != restarts(p) {
			s.Errorf("%s on %s did not stay as it was: there %v, restarts %d, were %d", p.Name, p.Spec.NodeName, ok, n, restarts(p))
		}
	}
}

// pids finds the processes of pods on this machine.
func (s space) pids(pods []corev1.Pod) map[string]int {
	s.Helper()
	out := map[string]int{}
	for _, p := range pods {
		out[p.Name] = s.pid(p)
	}
	return out
}

func (s space) samePids(what string, pods []corev1.Pod, before map[string]int) {
	s.Helper()
	for _, p := range pods {
		if got := s.pid(p); got != before[p.Name] {
			s.Errorf("%s: %s is process %d, was %d", what, p.Name, got, before[p.Name])
		}
	}
}

func TestKilledContainerIsRestarted(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(300))
	pods := s.readyPods("app=six", 6)
	s.killContainer(pods[0])
	p := await(s, "restarted", "pod "+pods[0].Name, func(p corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	if end := terminated(p); end.ExitCode != 137 {
		t.Errorf("it ended with %d %s", end.ExitCode, end.Reason)
	}
	s.untouched(pods[1:])
}

func TestKilledAgentLeavesContainersAlone(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(300))
	pods := s.readyPods("app=six", 6)
	before := s.pids(pods)
	state, err := shared.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range state.Nodes {
		if err := syscall.Kill(n.AgentPID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	s.samePids("agents dead", pods, before)
	s.poll("new agents", func() (bool, error) {
		now, err := shared.State(t.Context())
		for i, n := range now.Nodes {
			if n.AgentPID == 0 || n.AgentPID == state.Nodes[i].AgentPID {
				return false, fmt.Errorf("agent of %s is %d", n.Name, n.AgentPID)
			}
		}
		return true, err
	})
	// New orders are followed, and the exit of a container that died meanwhile is known.
	s.kubectl("scale deploy six --replicas=7")
	after := s.readyPods("app=six", 7)
	s.untouched(pods)
	s.samePids("agents back", pods, before)
	s.logs("serving on", after[0].Name)
}

// TestCutLink: work on a node that is cut off goes on and is replaced elsewhere; when the link is back the duplicates go
// and nothing else is touched.
func TestCutLink(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(2))
	stranded, _ := on(s.readyPods("app=six", 6), "n2")
	if len(stranded) == 0 {
		t.Fatal("no pod on n2: not spread")
	}
	before := s.pids(stranded)
	s.node("n2", up.VerbCut)
	s.nodeReady("n2", corev1.ConditionUnknown)
	s.wants(s.kubectl("get nodes"), "NotReady")
	elsewhere := await(s, "six elsewhere", "pods -l app=six", func(l corev1.PodList) bool {
		_, others := on(l.Items, "n2")
		return countReady(others) == 6
	})
	s.samePids("cut off", stranded, before)
	_, replaced := on(elsewhere.Items, "n2")

	s.node("n2", up.VerbHeal)
	s.nodeReady("n2", corev1.ConditionTrue)
	await(s, "duplicates gone", "pods -l app=six", func(l corev1.PodList) bool {
		now := uids(l.Items)
		for _, p := range stranded {
			if _, there := now[p.UID]; there {
				return false
			}
		}
		return countReady(l.Items) >= 6
	})
	s.poll("processes of duplicates gone", func() (bool, error) {
		for _, pid := range before {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return false, fmt.Errorf("process %d runs on: %w", pid, err)
			}
		}
		return true, nil
	})
	for _, p := range replaced {
		if n, ok := uids(get[corev1.PodList](s, "pods").Items)[p.UID]; ok && n != restarts(p) {
			t.Errorf("%s was restarted when the link came back", p.Name)
		}
	}
}

func countReady(pods []corev1.Pod) (n int) {
	for _, p := range pods {
		if isReady(p) {
			n++
		}
	}
	return n
}

// TestShortCut: a link that comes back within the toleration changes nothing at all.
func TestShortCut(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(600))
	pods := s.readyPods("app=six", 6)
	before := s.pids(pods)
	s.node("n1", up.VerbCut)
	s.nodeReady("n1", corev1.ConditionUnknown)
	s.node("n1", up.VerbHeal)
	s.nodeReady("n1", corev1.ConditionTrue)
	s.readyPods("app=six", 6)
	s.untouched(pods)
	s.samePids("healed", pods, before)
}

// TestPowerCut: the node's pods are replaced while it is off; when it is on again it takes work again.
func TestPowerCut(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(2))
	s.readyPods("app=six", 6)
	s.node("n3", up.VerbStop)
	s.nodeReady("n3", corev1.ConditionUnknown)
	await(s, "six elsewhere", "pods -l app=six", func(l corev1.PodList) bool {
		_, others := on(l.Items, "n3")
		return countReady(others) == 6
	})
	s.node("n3", up.VerbStart)
	s.nodeReady("n3", corev1.ConditionTrue)
	s.kubectl("scale deploy six --replicas=9")
	await(s, "work on n3", "pods -l app=six", func(l corev1.PodList) bool {
		there, _ := on(l.Items, "n3")
		return len(l.Items) == 9 && countReady(l.Items) == 9 && countReady(there) > 0
	})
}

// TestColdBootWithoutLink: a node that loses power while it is cut off starts its work again by itself, from what it has on
// disk; when the link is back nothing is restarted once more.
func TestColdBootWithoutLink(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create secret generic keys --from-literal=password=hunter2")
	manifest := strings.Replace(fleetManifest(600), "        image: IMAGE\n", "        image: IMAGE\n        env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: keys, key: password}}}]\n", 1)
	s.apply(manifest)
	pods := s.readyPods("app=six", 6)
	there, elsewhere := on(pods, "n2")
	s.node("n2", up.VerbCut)
	s.nodeReady("n2", corev1.ConditionUnknown)
	s.node("n2", up.VerbStop)
	s.node("n2", up.VerbStart)
	s.poll("pods answer on n2, cut off", func() (bool, error) {
		for _, p := range there {
			got, err := s.tryInside(p, "/env?name=PASSWORD")
			if err != nil || got != "hunter2" {
				return false, fmt.Errorf("%s: %q %w", p.Name, got, err)
			}
		}
		return true, nil
	})
	if state, err := shared.State(t.Context()); err != nil {
		t.Fatal(err)
	} else if n, _ := state.Node("n2"); n.Linked {
		t.Fatal("the link came back by itself")
	}
	booted := s.webPIDs("n2")
	s.node("n2", up.VerbHeal)
	s.nodeReady("n2", corev1.ConditionTrue)
	after := s.readyPods("app=six", 6)
	s.untouched(elsewhere)
	back, _ := on(after, "n2")
	if len(back) != len(there) {
		t.Errorf("%d pods on n2, were %d", len(back), len(there))
	}
	now := uids(after)
	for _, p := range there {
		if _, ok := now[p.UID]; !ok {
			t.Errorf("%s was replaced although nothing about it had changed", p.Name)
		}
	}
	if again := s.webPIDs("n2"); !maps.Equal(booted, again) {
		t.Errorf("processes were %v before the link came back, are %v", booted, again)
	}
}

// tryInside asks a pod on a node whose pods may have other addresses than before.
func (s space) tryInside(p corev1.Pod, path string) (string, error) {
	pids, err := cluster.ProcessesWithEnv("HOSTNAME=" + p.Name)
	if err != nil {
		return "", err
	}
	if len(pids) != 1 {
		return "", fmt.Errorf("processes %v", pids)
	}
	return cluster.FetchIn(s.Context(), pids[0], "http://127.0.0.1:8080"+path)
}

// webPIDs are the processes of the deployment on one node.
func (s space) webPIDs(node string) map[string]int {
	s.Helper()
	there, _ := on(get[corev1.PodList](s, "pods -l app=six").Items, node)
	out := map[string]int{}
	for _, p := range there {
		pids, err := cluster.ProcessesWithEnv("HOSTNAME=" + p.Name)
		if err != nil || len(pids) != 1 {
			s.Fatalf("processes of %s: %v %v", p.Name, pids, err)
		}
		out[p.Name] = pids[0]
	}
	return out
}

// TestKilledCoordinator: while writes come in, the coordinator is killed three times. What it acknowledged is there
// afterwards, and no container noticed.
func TestKilledCoordinator(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(300))
	pods := s.readyPods("app=six", 6)
	before := s.pids(pods)
	w := s.write()
	for kills := range 3 {
		w.await(10 * (kills + 1))
		state, err := shared.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(state.CoordinatorPID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.poll("coordinator back", func() (bool, error) {
			now, err := shared.State(t.Context())
			if err == nil && now.CoordinatorPID != 0 && now.CoordinatorPID != state.CoordinatorPID {
				_, err = shared.Kubectl(t.Context(), "", "get", "--raw", "/readyz")
				return err == nil, err
			}
			return false, err
		})
	}
	acknowledged := w.stop()
	have := map[string]bool{}
	for _, c := range get[corev1.ConfigMapList](s, "configmaps").Items {
		have[c.Name] = true
	}
	for _, name := range acknowledged {
		if !have[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	t.Logf("%d writes acknowledged, all there", len(acknowledged))
	for _, n := range shared.State0.Nodes {
		s.nodeReady(n.Name, corev1.ConditionTrue)
	}
	s.readyPods("app=six", 6)
	s.untouched(pods)
	s.samePids("coordinator back", pods, before)
}

// writer makes config maps as fast as it can and remembers those that were acknowledged.
type writer struct {
	space
	cancel context.CancelFunc
	done   chan struct{}

	mu           sync.Mutex
	acknowledged []string
}

func (s space) write() *writer {
	ctx, cancel := context.WithCancel(s.Context())
	w := &writer{space: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("w-%d", i)
			if _, err := shared.Kubectl(ctx, "", s.in([]string{"create", "configmap", name, "--from-literal=a=b"})...); err == nil {
				w.mu.Lock()
				w.acknowledged = append(w.acknowledged, name)
				w.mu.Unlock()
			}
		}
	}()
	return w
}

func (w *writer) await(n int) {
	w.Helper()
	w.poll(fmt.Sprintf("%d writes", n), func() (bool, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acknowledged) >= n, fmt.Errorf("%d so far", len(w.acknowledged))
	})
}

func (w *writer) stop() []string {
	w.cancel()
	<-w.done
	return w.acknowledged
}

// TestKubectlNodes: cordon, drain and taint decide where pods may be.
func TestKubectlNodes(t *testing.T) {
	s := newSpace(t)
	s.apply(fleetManifest(300))
	s.readyPods("app=six", 6)
	t.Cleanup(func() {
		for _, args := range [][]string{{"uncordon", "n1"}, {"taint", "node", "n2", "e2e-"}} {
			_, _ = shared.Kubectl(context.Background(), "", args...) // only needed where the test has failed
		}
	})
	s.steps(
		step{args: "cordon n1", want: []string{"node/n1 cordoned"}},
		step{args: "get node n1", want: []string{"Ready,SchedulingDisabled"}},
		step{args: "drain n1 --ignore-daemonsets --timeout=90s -l kubernetes.io/hostname=n1", fails: true, want: []string{"cannot specify both"}},
		step{args: "drain n1 --ignore-daemonsets --timeout=90s", want: []string{"evicting pod " + s.name + "/six-", "node/n1 drained"}},
	)
	there, _ := on(s.readyPods("app=six", 6), "n1")
	if len(there) > 0 {
		t.Errorf("%d pods on a drained node", len(there))
	}
	s.steps(
		step{args: "uncordon n1", want: []string{"node/n1 uncordoned"}},
		step{args: "taint node n2 e2e=yes:NoSchedule", want: []string{"node/n2 tainted"}},
		step{args: "describe node n2", want: []string{"Taints:", "e2e=yes:NoSchedule"}},
		step{args: "scale deploy six --replicas=9", want: []string{"scaled"}},
	)
	before, _ := on(get[corev1.PodList](s, "pods").Items, "n2")
	after, _ := on(s.readyPods("app=six", 9), "n2")
	if len(after) > len(before) {
		t.Errorf("%d pods on the tainted node, were %d", len(after), len(before))
	}
	s.steps(
		step{args: "taint node n2 e2e=yes:NoExecute", want: []string{"node/n2 tainted"}},
	)
	await(s, "n2 empty", "pods -l app=six", func(l corev1.PodList) bool {
		there, _ := on(l.Items, "n2")
		return len(there) == 0 && countReady(l.Items) == 9
	})
	s.steps(step{args: "taint node n2 e2e-", want: []string{"node/n2 untainted"}})
}

func TestRebalanceSaysWhatItWouldDo(t *testing.T) {
	s := newSpace(t)
	out, err := shared.Skerry(t.Context(), "rebalance", "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	s.wants(out, "n1", "n2", "n3")
}
