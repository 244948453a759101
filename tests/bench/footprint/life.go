package footprint

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/cluster"
)

// limit is for anything that must come to be, on a machine that is busy with other things.
const limit = 2 * time.Minute

func (b *bench) podClient() (typed.PodInterface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", b.cluster.State0.Kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // no limit
	client, err := typed.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return client.Pods(metav1.NamespaceDefault), nil
}

// pod has one container, found by its environment; an exec probe when asked for.
func pod(name string, probed bool) *corev1.Pod {
	c := corev1.Container{
		Name: "main", Image: image, ImagePullPolicy: corev1.PullIfNotPresent, Env: []corev1.EnvVar{{Name: "POD_NAME", Value: name}},
		Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}},
	}
	if probed {
		c.ReadinessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/idler", "check"}}},
			PeriodSeconds: 1, TimeoutSeconds: 10,
		}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
}

// lives are how long the steps in pods' lives took, as a watcher of the API sees it.
type lives struct{ running, restarted, gone, ready []time.Duration }

// latencies measures pods one after another, on nodes that have the image.
func (b *bench) latencies(ctx context.Context) error {
	pods, err := b.podClient()
	if err != nil {
		return err
	}
	var warm, l lives
	for n := range 6 { // the scheduler spreads them: each node gets the image
		if err := warm.live(ctx, pods, fmt.Sprintf("warm-%d", n)); err != nil {
			return err
		}
	}
	for n := range b.rounds {
		if err := l.live(ctx, pods, fmt.Sprintf("life-%d", n)); err != nil {
			return err
		}
		if err := l.probe(ctx, pods, fmt.Sprintf("probe-%d", n)); err != nil {
			return err
		}
	}
	t := section.NewTable("", "p50", "p90", "longest")
	row := func(what string, samples []time.Duration) {
		t.Row(what, section.Duration(section.Median(samples)), section.Duration(section.Quantile(samples, 0.9)), section.Duration(section.Quantile(samples, 1)))
	}
	row("POST of a pod to Running", l.running)
	row("kill -9 of its container to Running again", l.restarted)
	row("DELETE to gone; the program ends at once", l.gone)
	row("Running to Ready by an exec probe that succeeds", l.ready)
	fmt.Fprintf(&b.out, "### Pods and containers\n\nOne pod of one container at a time, image on the node, as a watcher of the API sees it; %d rounds.\n\n%s\n", b.rounds, t)
	return nil
}

// live makes a pod, kills its container once it runs, and deletes it once it runs again.
func (l *lives) live(ctx context.Context, pods typed.PodInterface, name string) error {
	w, err := follow(ctx, pods, name)
	if err != nil {
		return err
	}
	defer w.Stop()
	began := time.Now()
	if _, err := pods.Create(ctx, pod(name, false), metav1.CreateOptions{}); err != nil {
		return err
	}
	took, err := until(ctx, w, began, "running", func(p *corev1.Pod) bool { return running(p, 0) })
	if err != nil {
		return err
	}
	l.running = append(l.running, took)
	pid, err := processOf(ctx, name)
	if err != nil {
		return err
	}
	began = time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	if took, err = until(ctx, w, began, "restarted", func(p *corev1.Pod) bool { return running(p, 1) }); err != nil {
		return err
	}
	l.restarted = append(l.restarted, took)
	took, err = remove(ctx, pods, w, name)
	l.gone = append(l.gone, took)
	return err
}

// probe makes a pod with an exec probe and measures from when it was seen running to when it was seen ready.
func (l *lives) probe(ctx context.Context, pods typed.PodInterface, name string) error {
	w, err := follow(ctx, pods, name)
	if err != nil {
		return err
	}
	defer w.Stop()
	if _, err := pods.Create(ctx, pod(name, true), metav1.CreateOptions{}); err != nil {
		return err
	}
	// Both may come in one event: then the probe took no time that anybody could see.
	var seen time.Time
	_, err = until(ctx, w, time.Now(), "ready", func(p *corev1.Pod) bool {
		if seen.IsZero() && running(p, 0) {
			seen = time.Now()
		}
		return running(p, 0) && p.Status.ContainerStatuses[0].Ready
	})
	if err != nil {
		return err
	}
	l.ready = append(l.ready, time.Since(seen))
	_, err = remove(ctx, pods, w, name)
	return err
}

func follow(ctx context.Context, pods typed.PodInterface, name string) (watch.Interface, error) {
	return pods.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
}

func remove(ctx context.Context, pods typed.PodInterface, w watch.Interface, name string) (time.Duration, error) {
	began := time.Now()
	if err := pods.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return 0, err
	}
	return until(ctx, w, began, "gone", nil)
}

func running(p *corev1.Pod, restarts int32) bool {
	return p.Status.Phase == corev1.PodRunning && len(p.Status.ContainerStatuses) == 1 &&
		p.Status.ContainerStatuses[0].State.Running != nil && p.Status.ContainerStatuses[0].RestartCount == restarts
}

// processOf finds the one process of a pod. Its environment shows only once the container's program is executed.
func processOf(ctx context.Context, pod string) (pid int, err error) {
	err = cluster.Poll(ctx, limit, "the process of pod "+pod, func() (bool, error) {
		pids, err := cluster.ProcessesWithEnv("POD_NAME=" + pod)
		if err != nil || len(pids) != 1 {
			return false, errors.Join(err, fmt.Errorf("it has %d", len(pids)))
		}
		pid = pids[0]
		return true, nil
	})
	return pid, err
}

// until reads events until the pod is as wanted, or until its deletion when nothing is wanted, and returns the time since
// began.
func until(ctx context.Context, w watch.Interface, began time.Time, what string, wanted func(*corev1.Pod) bool) (time.Duration, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	var last *corev1.Pod
	for {
		select {
		case e, ok := <-w.ResultChan():
			p, isPod := e.Object.(*corev1.Pod)
			if !ok || !isPod {
				return 0, fmt.Errorf("watch for a pod %s ended: %v", what, e.Object)
			}
			last = p
			if wanted == nil && e.Type == watch.Deleted || wanted != nil && e.Type != watch.Deleted && wanted(p) {
				return time.Since(began), nil
			}
		case <-late.C:
			return 0, fmt.Errorf("pod not %s after %s: %+v", what, limit, last)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
