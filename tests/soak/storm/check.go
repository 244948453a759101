package storm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

// on returns those of our containers' processes that are on a node.
func (s *storm) on(node string, ours []int) []int {
	there, err := cluster.ProcessesWithEnv("NODE_NAME=" + node)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(there, func(pid int) bool { return !slices.Contains(ours, pid) })
}

// calm waits until everything posted is there: all nodes ready, and of each Deployment exactly the wanted pods, ready.
func (s *storm) calm(ctx context.Context) error {
	return cluster.Poll(ctx, settleTime, "posted state reached", func() (bool, error) {
		var nodes corev1.NodeList
		if err := s.cluster.Get(ctx, &nodes, "nodes"); err != nil {
			return false, err
		}
		for _, n := range nodes.Items {
			for _, c := range n.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
					return false, fmt.Errorf("node %s is not ready: %s", n.Name, c.Message)
				}
			}
		}
		var deployments appsv1.DeploymentList
		if err := s.cluster.Get(ctx, &deployments, "deployments", "-l", "soak=yes"); err != nil {
			return false, err
		}
		var pods corev1.PodList
		if err := s.cluster.Get(ctx, &pods, "pods", "-l", "soak=yes"); err != nil {
			return false, err
		}
		err := reached(deployments.Items, pods.Items)
		return err == nil, err
	})
}

func reached(deployments []appsv1.Deployment, pods []corev1.Pod) error {
	have := map[string]int{}
	for _, p := range pods {
		if !ready(p) {
			return fmt.Errorf("%d pods: %s", len(pods), summary(pods))
		}
		have[p.Labels["app"]]++
	}
	for _, d := range deployments {
		if want := int(*d.Spec.Replicas); have[d.Name] != want || int(d.Status.ReadyReplicas) != want {
			return fmt.Errorf("deployment %s wants %d pods, says that %d are ready, and has %d", d.Name, want, d.Status.ReadyReplicas, have[d.Name])
		}
		delete(have, d.Name)
	}
	if len(have) > 0 {
		return fmt.Errorf("pods of Deployments that do not exist: %v", have)
	}
	return nil
}

func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func summary(pods []corev1.Pod) string {
	var out []string
	for _, p := range pods {
		if !ready(p) {
			out = append(out, fmt.Sprintf("%s on %s %s deleting=%t", p.Name, p.Spec.NodeName, p.Status.Phase, p.DeletionTimestamp != nil))
		}
	}
	return strings.Join(out, "; ")
}

// check looks at everything that must hold after the storm.
func (s *storm) check(ctx context.Context, w *writer) error {
	return errors.Join(w.verify(ctx), s.orphans(ctx), s.twins(ctx), s.restarts(ctx), s.served(ctx))
}

// orphans are container processes of pods that the API does not have.
func (s *storm) orphans(ctx context.Context) error {
	return cluster.Poll(ctx, settleTime, "no orphan containers", func() (bool, error) {
		uids, err := s.uids(ctx)
		if err != nil {
			return false, err
		}
		pids, err := cluster.ProcessesWithEnv("SOAK=" + s.dir)
		if err != nil {
			return false, err
		}
		for _, pid := range pids {
			uid, err := podOf(pid)
			if err == nil && !uids[uid] {
				return false, fmt.Errorf("process %d belongs to pod %s, which nobody asked for", pid, uid)
			}
		}
		return true, nil
	})
}

// twins are pods with more than one process, or none.
func (s *storm) twins(ctx context.Context) error {
	uids, err := s.uids(ctx)
	if err != nil {
		return err
	}
	pids, err := cluster.ProcessesWithEnv("SOAK=" + s.dir)
	if err != nil {
		return err
	}
	counts := map[string]int{}
	for _, pid := range pids {
		if uid, err := podOf(pid); err == nil {
			counts[uid]++
		}
	}
	var errs []error
	for uid := range uids {
		if counts[uid] != 1 {
			errs = append(errs, fmt.Errorf("pod %s has %d processes", uid, counts[uid]))
		}
	}
	return errors.Join(errs...)
}

// restarts are pods whose containers were restarted more often than something ended them.
func (s *storm) restarts(ctx context.Context) error {
	var pods corev1.PodList
	if err := s.cluster.Get(ctx, &pods, "pods", "-l", "soak=yes"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			if most := s.killed[string(p.UID)] + s.excused[p.Spec.NodeName]; int(c.RestartCount) > most {
				errs = append(errs, fmt.Errorf("pod %s on %s was restarted %d times, ended %d times", p.Name, p.Spec.NodeName, c.RestartCount, most))
			}
		}
	}
	return errors.Join(errs...)
}

// served are the nodes from which the service does not answer, by each of its pods: routes, rules and pods must all be there.
func (s *storm) served(ctx context.Context) error {
	var svc corev1.Service
	if err := s.cluster.Get(ctx, &svc, "service", "patient"); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := s.cluster.Get(ctx, &pods, "pods", "-l", "app=patient"); err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return nil // it was scaled to none
	}
	urls := []string{"http://" + svc.Spec.ClusterIP}
	for _, p := range pods.Items {
		urls = append(urls, "http://"+p.Status.PodIP+":8080")
	}
	var errs []error
	for _, node := range s.cluster.State0.Nodes {
		for _, url := range urls {
			_, err := s.cluster.FetchFrom(ctx, node.Name, url)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s *storm) uids(ctx context.Context) (map[string]bool, error) {
	var pods corev1.PodList
	if err := s.cluster.Get(ctx, &pods, "pods", "-l", "soak=yes"); err != nil {
		return nil, err
	}
	uids := map[string]bool{}
	for _, p := range pods.Items {
		uids[string(p.UID)] = true
	}
	return uids, nil
}

func podOf(pid int) (string, error) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", err
	}
	for v := range strings.SplitSeq(string(env), "\x00") {
		if uid, ok := strings.CutPrefix(v, "POD_UID="); ok {
			return uid, nil
		}
	}
	return "", fmt.Errorf("process %d names no pod", pid)
}

func (s *storm) report(w *writer, settled time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	out := tabwriter.NewWriter(s.Out, 0, 4, 3, ' ', 0)
	fmt.Fprintln(out, "\nkilled\ttimes")
	for _, kind := range []string{"container", "agent", "keeper", "coordinator", "node", "link", "missed"} {
		fmt.Fprintf(out, "%s\t%d\n", kind, s.counts[kind])
		if kind != "missed" {
			total += s.counts[kind]
		}
	}
	_ = out.Flush() // the same writer as all else we say
	s.say("\n%d kills, %s", total, w.summary())
	s.say("posted state reached %s after the last; no acknowledged write lost, no orphan, no twin", settled.Round(100*time.Millisecond))
}
