package storm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/tests/cluster"
)

const (
	image    = "registry.skerry/hello:1"
	replicas = 6
)

// workload is two Deployments that are scaled while the storm blows.
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, soak: "yes"}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: %[3]d}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: %[3]d}
      containers:
      - name: hello
        image: ` + image + `
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: SOAK, value: "%[4]s"}
        resources: {requests: {cpu: 20m, memory: 16Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
`

// post builds and pushes the image, and posts the workload: one Deployment that moves at once, one that stays through a
// silence.
func (s *storm) post(ctx context.Context) error {
	store := filepath.Join(s.dir, "images")
	for _, args := range [][]string{
		{"image", "build", s.cluster.Bin("hello-1"), "-t", image, "--store", store}, {"image", "push", image, "--store", store},
	} {
		if _, err := s.cluster.Skerry(ctx, args...); err != nil {
			return err
		}
	}
	for name, toleration := range map[string]int{"quick": 2, "patient": 600} {
		if _, err := s.cluster.Kubectl(ctx, fmt.Sprintf(workload, name, replicas, toleration, s.dir), "apply", "-f", "-"); err != nil {
			return err
		}
	}
	_, err := s.cluster.Kubectl(ctx, "", "rollout", "status", "deployment/quick", "--timeout=60s")
	return err
}

// on returns those of our containers' processes that are on a node.
func (s *storm) on(node string, ours []int) []int {
	there, err := cluster.ProcessesWithEnv("NODE_NAME=" + node)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(there, func(pid int) bool { return !slices.Contains(ours, pid) })
}

// calm waits until everything posted is there.
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
		var pods corev1.PodList
		if err := s.cluster.Get(ctx, &pods, "pods", "-l", "soak=yes"); err != nil {
			return false, err
		}
		if len(pods.Items) == 2*replicas && allReady(pods.Items) {
			return true, nil
		}
		return false, fmt.Errorf("%d pods: %s", len(pods.Items), summary(pods.Items))
	})
}

func allReady(pods []corev1.Pod) bool {
	return !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !ready(p) })
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
	return errors.Join(w.verify(ctx), s.orphans(ctx), s.twins(ctx))
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
	for _, kind := range []string{"container", "agent", "coordinator", "node", "link", "missed"} {
		fmt.Fprintf(out, "%s\t%d\n", kind, s.counts[kind])
		if kind != "missed" {
			total += s.counts[kind]
		}
	}
	_ = out.Flush() // the same writer as all else we say
	s.say("\n%d kills, %s", total, w.summary())
	s.say("posted state reached %s after the last; no acknowledged write lost, no orphan, no twin", settled.Round(100*time.Millisecond))
}
