package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/cluster"
)

func (d *demo) story() []scene {
	return []scene{
		{"build an image from a static binary, twice, and push it", d.image},
		{"kubectl apply: six pods spread over three nodes", d.apply},
		{"fetch pages through the Service from every node", d.fetch},
		{"kill -9 a container: its node restarts it", d.killContainer},
		{"kill -9 an agent: its containers run on and are adopted", d.killAgent},
		{"pull a node's cable: its work goes on, and is replaced elsewhere", d.cut},
		{"put the cable back: duplicates go, nothing else is touched", d.heal},
		{"cut a node's power", d.stop},
		{"give it its power back: load comes back, started before stopped", d.start},
		{"scale to nine", d.scale},
		{"roll out version 2 under fire", d.roll},
		{"roll back under fire", d.rollBack},
		{"delete everything", d.remove},
	}
}

const (
	limit    = 60 * time.Second // for anything that must come to be
	selector = "app=hello"
)

func (d *demo) kubectl(ctx context.Context, args ...string) (string, error) {
	fmt.Printf("    $ kubectl %s\n", strings.Join(args, " "))
	return d.cluster.Kubectl(ctx, "", args...)
}

func (d *demo) image(ctx context.Context) error {
	for version := 1; version <= 2; version++ {
		binary := d.cluster.Bin(fmt.Sprintf("hello-%d", version))
		tag := fmt.Sprintf("registry.skerry/hello:%d", version)
		out, err := d.cluster.Skerry(ctx, "image", "build", binary, "-t", tag, "--store", filepath.Join(d.cluster.DataDir, "images"))
		if err != nil {
			return err
		}
		d.say("%s %s", tag, strings.TrimSpace(lastLine(out)))
		if _, err := d.cluster.Skerry(ctx, "image", "push", tag, "--store", filepath.Join(d.cluster.DataDir, "images")); err != nil {
			return err
		}
	}
	return nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func (d *demo) apply(ctx context.Context) error {
	began := time.Now()
	if _, err := d.kubectl(ctx, "apply", "-f", filepath.Join(d.cluster.Root, "configs", "demo", "hello.yaml")); err != nil {
		return err
	}
	if err := d.await(ctx, "6/6 ready", func(pods []corev1.Pod) bool { return len(pods) == 6 && len(ready(pods)) == 6 }); err != nil {
		return err
	}
	d.measure("apply to 6/6 ready, image not yet on the nodes", time.Since(began))
	if err := d.show(ctx); err != nil {
		return err
	}
	return d.again(ctx)
}

// again measures the same with the image on the nodes: all pods are deleted and come back.
func (d *demo) again(ctx context.Context) error {
	old, err := d.pods(ctx)
	if err != nil {
		return err
	}
	gone, began := names(old), time.Now()
	if _, err := d.kubectl(ctx, "delete", "pods", "-l", selector, "--wait=false", "--grace-period=1"); err != nil {
		return err
	}
	err = d.await(ctx, "six new pods ready", func(pods []corev1.Pod) bool {
		return len(ready(pods)) == 6 && len(pods) == 6 && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return gone[p.Name] })
	})
	if err != nil {
		return err
	}
	d.measure("six pods deleted to six new ones ready, image cached", time.Since(began))
	nodes := map[string]int{}
	pods, err := d.pods(ctx)
	for _, p := range pods {
		nodes[p.Spec.NodeName]++
	}
	if len(nodes) != 3 {
		return fmt.Errorf("pods are on %v, not on three nodes", nodes)
	}
	return err
}

func names(pods []corev1.Pod) map[string]bool {
	out := map[string]bool{}
	for _, p := range pods {
		out[p.Name] = true
	}
	return out
}

func (d *demo) pods(ctx context.Context) ([]corev1.Pod, error) {
	var list corev1.PodList
	err := d.cluster.Get(ctx, &list, "pods", "-l", selector)
	return list.Items, err
}

func ready(pods []corev1.Pod) []corev1.Pod {
	var out []corev1.Pod
	for _, p := range pods {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

func (d *demo) await(ctx context.Context, what string, ok func([]corev1.Pod) bool) error {
	return cluster.Poll(ctx, limit, what, func() (bool, error) {
		pods, err := d.pods(ctx)
		if err != nil {
			return false, err
		}
		if ok(pods) {
			return true, nil
		}
		return false, fmt.Errorf("pods are %s", summary(pods))
	})
}

func summary(pods []corev1.Pod) string {
	var out []string
	for _, p := range pods {
		state := string(p.Status.Phase)
		switch {
		case p.DeletionTimestamp != nil:
			state = "Terminating"
		case len(ready([]corev1.Pod{p})) == 1:
			state = "Ready"
		}
		out = append(out, p.Name+"@"+p.Spec.NodeName+"="+state)
	}
	return strings.Join(out, " ")
}

func (d *demo) show(ctx context.Context) error {
	out, err := d.kubectl(ctx, "get", "pods", "-o", "wide", "-l", selector)
	for line := range strings.Lines(out) {
		d.say("%s", strings.TrimRight(line, "\n"))
	}
	return err
}

func (d *demo) serviceURL(ctx context.Context) (string, error) {
	var s corev1.Service
	if err := d.cluster.Get(ctx, &s, "service", "hello"); err != nil {
		return "", err
	}
	return fmt.Sprintf("http://%s:%d/", s.Spec.ClusterIP, s.Spec.Ports[0].Port), nil
}

// fetch asks from each node until every pod has answered there.
func (d *demo) fetch(ctx context.Context) error {
	url, err := d.serviceURL(ctx)
	if err != nil {
		return err
	}
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	for _, n := range d.cluster.State0.Nodes {
		answered, requests := map[string]bool{}, 0
		for ; len(answered) < len(pods) && requests < 500; requests++ {
			page, err := d.cluster.FetchFrom(ctx, n.Name, url)
			if err != nil {
				return fmt.Errorf("from %s, request %d: %w", n.Name, requests+1, err)
			}
			for _, p := range pods {
				if strings.Contains(page, p.Name) {
					answered[p.Name] = true
				}
			}
		}
		if len(answered) < len(pods) {
			return fmt.Errorf("from %s only %d of %d pods answered %d requests: %v", n.Name, len(answered), len(pods), requests, slices.Sorted(maps.Keys(answered)))
		}
		d.say("%s -> %s: all %d pods answered within %d requests", n.Name, url, len(pods), requests)
	}
	return nil
}

func (d *demo) killContainer(ctx context.Context) error {
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	victim := pods[0]
	pid, err := d.containerPID(ctx, victim)
	if err != nil {
		return err
	}
	began := time.Now()
	d.say("kill -9 %d, the container of %s on %s", pid, victim.Name, victim.Spec.NodeName)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	before := restarts(victim)
	err = d.await(ctx, "container restarted", func(pods []corev1.Pod) bool {
		for _, p := range pods {
			if p.UID == victim.UID {
				return restarts(p) > before && len(ready([]corev1.Pod{p})) == 1
			}
		}
		return false
	})
	if err == nil {
		d.measure("container killed to running and ready again", time.Since(began))
	}
	return err
}

func restarts(p corev1.Pod) int32 {
	var n int32
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// containerPID finds the container's process on the host by the pod's name in its environment.
func (d *demo) containerPID(ctx context.Context, p corev1.Pod) (int, error) {
	pids, err := cluster.ProcessesWithEnv("POD_NAME=" + p.Name)
	if err == nil && len(pids) == 0 {
		err = fmt.Errorf("no process of pod %s found", p.Name)
	}
	if err != nil {
		return 0, err
	}
	return pids[0], ctx.Err()
}

func (d *demo) killAgent(ctx context.Context) error {
	s, err := d.cluster.State(ctx)
	if err != nil {
		return err
	}
	n := s.Nodes[1]
	before, err := d.on(ctx, n.Name)
	if err != nil {
		return err
	}
	began := time.Now()
	d.say("kill -9 %d, the agent of %s", n.AgentPID, n.Name)
	if err := syscall.Kill(n.AgentPID, syscall.SIGKILL); err != nil {
		return err
	}
	for _, p := range before {
		pid, err := d.containerPID(ctx, p)
		if err != nil {
			return fmt.Errorf("agent dead: %w", err)
		}
		d.say("%s runs on as process %d", p.Name, pid)
	}
	err = cluster.Poll(ctx, limit, "agent back", func() (bool, error) {
		s, err := d.cluster.State(ctx)
		now, _ := s.Node(n.Name)
		return now.AgentPID != 0 && now.AgentPID != n.AgentPID, err
	})
	if err != nil {
		return err
	}
	d.measure("agent killed to agent back", time.Since(began))
	after, err := d.on(ctx, n.Name)
	if err != nil {
		return err
	}
	for i, p := range after {
		if i >= len(before) || p.UID != before[i].UID || restarts(p) != restarts(before[i]) {
			return fmt.Errorf("pods of %s changed: %s, were %s", n.Name, summary(after), summary(before))
		}
	}
	d.say("the same pods, no restarts")
	return nil
}

// on lists the pods of a node, by name.
func (d *demo) on(ctx context.Context, node string) ([]corev1.Pod, error) {
	pods, err := d.pods(ctx)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName != node }), err
}

const cutNode, powerNode = "n2", "n3"

func (d *demo) cut(ctx context.Context) error {
	began := time.Now()
	d.say("skerry local cut %s", cutNode)
	if err := d.cluster.Node(ctx, cutNode, up.VerbCut); err != nil {
		return err
	}
	elsewhere := func(pods []corev1.Pod) bool { return len(ready(notOn(pods, cutNode))) == 6 }
	if err := d.await(ctx, "six ready on the other nodes", elsewhere); err != nil {
		return err
	}
	d.measure("link cut to replacements ready (5 s toleration)", time.Since(began))
	stranded, err := d.on(ctx, cutNode)
	if err != nil {
		return err
	}
	for _, p := range stranded {
		pid, err := d.containerPID(ctx, p)
		if err != nil {
			return fmt.Errorf("cut off: %w", err)
		}
		d.say("%s on %s still runs as process %d", p.Name, cutNode, pid)
	}
	return nil
}

func notOn(pods []corev1.Pod, node string) []corev1.Pod {
	var out []corev1.Pod
	for _, p := range pods {
		if p.Spec.NodeName != node {
			out = append(out, p)
		}
	}
	return out
}

func (d *demo) heal(ctx context.Context) error {
	pods, err := d.pods(ctx)
	if err != nil {
		return err
	}
	others, stranded := notOn(pods, cutNode), names(pods)
	for _, p := range others {
		delete(stranded, p.Name)
	}
	began := time.Now()
	if err := d.cluster.Node(ctx, cutNode, up.VerbHeal); err != nil {
		return err
	}
	err = d.await(ctx, "duplicates gone", func(pods []corev1.Pod) bool {
		return !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return stranded[p.Name] }) && len(ready(pods)) >= 6
	})
	if err != nil {
		return err
	}
	d.measure("link back to duplicates gone", time.Since(began))
	if err := d.untouched(ctx, others); err != nil {
		return err
	}
	return d.balanced(ctx, cutNode)
}

// balanced waits until a node that is back has its share, and checks that no pod was missed on the way.
func (d *demo) balanced(ctx context.Context, node string) error {
	least := 6
	err := d.await(ctx, "load back on "+node, func(pods []corev1.Pod) bool {
		least = min(least, len(ready(pods)))
		return len(pods) == 6 && len(ready(pods)) == 6 && len(pods)-len(notOn(pods, node)) == 2
	})
	if err == nil && least < 6 {
		err = fmt.Errorf("only %d pods were ready during the rebalance: stopped before started", least)
	}
	if err == nil {
		d.say("rebalanced: 2 pods are on %s again, never fewer than 6 were ready", node)
	}
	return err
}

// untouched checks that pods which had no part in what happened are the same as before.
func (d *demo) untouched(ctx context.Context, before []corev1.Pod) error {
	now, err := d.pods(ctx)
	if err != nil {
		return err
	}
	var moves api.MovePlanList
	if err := d.cluster.Get(ctx, &moves, "moveplans"); err != nil {
		return err
	}
	have := map[string]int32{}
	for _, p := range now {
		have[string(p.UID)] = restarts(p)
	}
	for _, p := range before {
		if slices.ContainsFunc(moves.Items, func(m api.MovePlan) bool { return m.Spec.Pod.UID == p.UID }) {
			continue // the rebalancer has begun to give the node its share back
		}
		if n, ok := have[string(p.UID)]; !ok || n != restarts(p) {
			return fmt.Errorf("pod %s on %s did not stay as it was", p.Name, p.Spec.NodeName)
		}
	}
	d.say("the other %d pods are the same, no restarts", len(before))
	return nil
}

func (d *demo) stop(ctx context.Context) error {
	began := time.Now()
	d.say("skerry local stop %s", powerNode)
	if err := d.cluster.Node(ctx, powerNode, up.VerbStop); err != nil {
		return err
	}
	elsewhere := func(pods []corev1.Pod) bool { return len(ready(notOn(pods, powerNode))) == 6 }
	if err := d.await(ctx, "six ready on the other nodes", elsewhere); err != nil {
		return err
	}
	d.measure("node stopped to replacements ready (5 s toleration)", time.Since(began))
	return nil
}

func (d *demo) start(ctx context.Context) error {
	began := time.Now()
	if err := d.cluster.Node(ctx, powerNode, up.VerbStart); err != nil {
		return err
	}
	if err := d.balanced(ctx, powerNode); err != nil {
		return err
	}
	d.measure("power back to load rebalanced", time.Since(began))
	out, err := d.kubectl(ctx, "get", "moveplans")
	for line := range strings.Lines(out) {
		d.say("%s", strings.TrimRight(line, "\n"))
	}
	return err
}

func (d *demo) scale(ctx context.Context) error {
	began := time.Now()
	if _, err := d.kubectl(ctx, "scale", "deployment/hello", "--replicas=9"); err != nil {
		return err
	}
	err := d.await(ctx, "nine ready", func(pods []corev1.Pod) bool { return len(ready(pods)) == 9 })
	if err == nil {
		d.measure("scaled to nine ready", time.Since(began))
	}
	return err
}

func (d *demo) roll(ctx context.Context) error {
	return d.rollout(ctx, "2", "set", "image", "deployment/hello", "hello=registry.skerry/hello:2")
}

func (d *demo) rollBack(ctx context.Context) error {
	return d.rollout(ctx, "1", "rollout", "undo", "deployment/hello")
}

func (d *demo) rollout(ctx context.Context, version string, args ...string) error {
	url, err := d.serviceURL(ctx)
	if err != nil {
		return err
	}
	client := ask(ctx, d.cluster.State0.Nodes[0].InitPID, url)
	began := time.Now()
	if _, err := d.kubectl(ctx, args...); err != nil {
		client.stop()
		return err
	}
	if _, err := d.kubectl(ctx, "rollout", "status", "deployment/hello", "--timeout=60s"); err != nil {
		client.stop()
		return err
	}
	d.measure("rollout to version "+version+" of nine pods", time.Since(began))
	// The old pods leave after the rollout counts as done; a request lost to one of them would still be a lost one.
	if err := d.await(ctx, "old pods gone", func(pods []corev1.Pod) bool { return len(pods) == 9 }); err != nil {
		client.stop()
		return err
	}
	asked, unanswered, last := client.stop()
	d.say("a client on n1 asked %d times meanwhile, unanswered: %d", asked, len(unanswered))
	d.note("unanswered requests during rollout to version "+version, fmt.Sprintf("%d of %d", len(unanswered), asked))
	if len(unanswered) > 0 {
		return fmt.Errorf("%d of %d requests were not answered, the first: %w", len(unanswered), asked, unanswered[0])
	}
	if !strings.Contains(last, "version "+version) {
		return fmt.Errorf("the last page is not of version %s: %q", version, last)
	}
	return nil
}

func (d *demo) remove(ctx context.Context) error {
	s, err := d.cluster.State(ctx)
	if err != nil {
		return err
	}
	if err := d.memory(s); err != nil {
		return err
	}
	began := time.Now()
	if _, err := d.kubectl(ctx, "delete", "-f", filepath.Join(d.cluster.Root, "configs", "demo", "hello.yaml")); err != nil {
		return err
	}
	err = d.await(ctx, "no pods", func(pods []corev1.Pod) bool { return len(pods) == 0 })
	if err == nil {
		d.measure("delete to no pods", time.Since(began))
	}
	return err
}

func (d *demo) memory(s up.State) error {
	for name, pid := range map[string]int{"coordinator": s.CoordinatorPID, "agent": s.Nodes[0].AgentPID, "keeper": s.Nodes[0].KeeperPID} {
		kb, err := cluster.ResidentKB(pid)
		if err != nil {
			return err
		}
		d.note("resident memory of "+name, fmt.Sprintf("%.1f MB", float64(kb)/1000))
	}
	return nil
}
