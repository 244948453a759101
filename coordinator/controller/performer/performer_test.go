package performer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/cronjob"
	"skerry.dev/skerry/coordinator/controller/daemonset"
	"skerry.dev/skerry/coordinator/controller/deployment"
	"skerry.dev/skerry/coordinator/controller/endpoints"
	"skerry.dev/skerry/coordinator/controller/garbage"
	"skerry.dev/skerry/coordinator/controller/job"
	"skerry.dev/skerry/coordinator/controller/nodelifecycle"
	"skerry.dev/skerry/coordinator/controller/performer"
	"skerry.dev/skerry/coordinator/controller/rebalance"
	"skerry.dev/skerry/coordinator/controller/replicaset"
	"skerry.dev/skerry/coordinator/controller/statefulset"
	"skerry.dev/skerry/coordinator/objects"
	kinds "skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/scheduler"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// cluster is a view, a write path and all controllers over a real JetStream store, with nodes that always say yes.
type cluster struct {
	t       testing.TB
	view    *view.View
	objects *objects.Store
	started time.Time

	mu   sync.Mutex
	lost map[string]time.Time // nodes that were last heard then
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	n := natstest.Server(t)
	state, err := store.Open(t.Context(), n.JetStream(), store.Options{Storage: n.Storage})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	c := &cluster{t: t, view: view.New(state, log), started: time.Now(), lost: map[string]time.Time{}}
	c.run(c.view.Run)
	<-c.view.Synced()
	if c.objects, err = objects.New(c.view, state, objects.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := c.objects.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	writer := performer.New(c.objects, "test")
	events := controller.NewEvents(writer, log)
	shell, err := controller.New(controller.Config{
		Source: c, Writer: writer, Recorder: events, Finish: scheduler.Finish, Logger: log,
		Controllers: append([]controller.Controller{
			nodelifecycle.Controller(nodelifecycle.Options{}), deployment.Controller(), rebalance.Controller(rebalance.Options{}), replicaset.Controller(), endpoints.Controller(), job.Controller(),
			cronjob.Controller(), daemonset.Controller(), statefulset.Controller(),
		}, garbage.Controller(garbage.Options{})...),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.run(shell.Run)
	c.run(events.Run)
	c.run(c.nodes)
	return c
}

// run runs f until the test ends.
func (c *cluster) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background()) // it must outlive t.Context, which ends before clean-ups
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			c.t.Error(err)
		}
	})
}

// Snapshot implements controller.Source; every node that is not lost was heard just now.
func (c *cluster) Snapshot() *controller.Snapshot {
	s := c.view.Snapshot(map[string]controller.Liveness{}, c.started)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range s.Nodes {
		heard, lost := c.lost[n.Name]
		if !lost {
			heard = time.Now()
		}
		s.Liveness[n.Name] = controller.Liveness{Heard: heard}
	}
	return s
}

// Changed implements controller.Source.
func (c *cluster) Changed() (<-chan struct{}, func()) { return c.view.Changed() }

// nodes does what nodes do: bound pods become ready at once, deleted ones are gone at once.
func (c *cluster) nodes(ctx context.Context) error {
	changes, stop := c.view.Changed()
	defer stop()
	for {
		for _, pod := range c.Snapshot().Pods {
			if err := c.node(ctx, pod); err != nil && ctx.Err() == nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes:
		}
	}
}

func (c *cluster) node(ctx context.Context, pod *corev1.Pod) error {
	c.mu.Lock()
	_, lost := c.lost[pod.Spec.NodeName]
	c.mu.Unlock()
	switch {
	case lost || pod.Spec.NodeName == "":
		return nil
	case pod.DeletionTimestamp != nil:
		return c.objects.FinishPod(ctx, pod.Namespace, pod.Name, pod.UID, false)
	case controller.PodReady(pod) || controller.PodFinished(pod):
		return nil
	}
	_, err := c.objects.MutateStatus(ctx, kinds.ForObject(pod), pod.Namespace, pod.Name, func(o runtime.Object) bool {
		p, ok := o.(*corev1.Pod)
		if !ok || p.UID != pod.UID {
			return false
		}
		if p.Spec.RestartPolicy == corev1.RestartPolicyNever { // of a Job: done at once
			p.Status.Phase = corev1.PodSucceeded
			return true
		}
		p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = corev1.PodRunning, "10.42.0.9", []corev1.PodIP{{IP: "10.42.0.9"}}
		return controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue}, time.Now())
	})
	if err != nil && c.has(pod) {
		return err
	}
	return nil
}

func (c *cluster) has(o controller.Object) bool {
	item, ok := c.view.Get(kinds.ForObject(o), o.GetNamespace(), o.GetName())
	return ok && item.Meta.GetUID() == o.GetUID()
}

func (c *cluster) create(o runtime.Object) {
	c.t.Helper()
	if _, err := c.objects.Create(c.t.Context(), o, objects.WriteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// wait polls until done says nothing.
func (c *cluster) wait(what string, done func(*controller.Snapshot) string) {
	c.t.Helper()
	why := ""
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if why = done(c.Snapshot()); why == "" {
			return
		}
	}
	c.t.Fatalf("%s: %s after 20 s", what, why)
}

// rest fails when anything is written once everything is reached: a plan and the write path would disagree for ever.
func (c *cluster) rest(when string) {
	c.t.Helper()
	still, last := 0, c.view.Revision()
	for range 200 {
		time.Sleep(10 * time.Millisecond)
		now := c.view.Revision()
		if still++; now != last {
			still, last = 0, now
		}
		if still == 50 {
			return
		}
	}
	c.t.Errorf("%s: something is written all the time", when)
}

func (c *cluster) node3() {
	for i := range 3 {
		c.create(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i+1)},
			Status: corev1.NodeStatus{
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("2Gi"), corev1.ResourcePods: resource.MustParse("20")},
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "AgentReady"}},
			},
		})
	}
}

func newDeployment(namespace string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "main", Image: "web:1", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}},
			}}}},
		},
	}
}

// rolledOut is what kubectl rollout status waits for.
func rolledOut(replicas int32) func(*controller.Snapshot) string {
	return func(s *controller.Snapshot) string {
		if len(s.Deployments) != 1 {
			return "no deployment"
		}
		d := s.Deployments[0]
		if d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas != replicas || d.Status.Replicas != replicas || d.Status.AvailableReplicas != replicas {
			return fmt.Sprintf("generation %d, status %+v", d.Generation, d.Status)
		}
		return ""
	}
}

// TestRealWritePath takes a Deployment through its life over the real defaults, validation and strategies: what a plan
// writes must be taken as it is, or the plan would write it again for ever.
func TestRealWritePath(t *testing.T) {
	c := newCluster(t)
	c.node3()
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	c.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}}}})
	posted := time.Now()
	c.create(newDeployment("team", 6))
	c.wait("first version", rolledOut(6))
	t.Logf("6 of 6 available %v after the post", time.Since(posted))
	c.rest("after the first version")
	bound(t, c)

	_, err := c.objects.Mutate(t.Context(), kinds.ForObject(&appsv1.Deployment{}), "team", "web", func(o runtime.Object) bool {
		d, ok := o.(*appsv1.Deployment)
		if ok {
			d.Spec.Template.Spec.Containers[0].Image = "web:2"
		}
		return ok
	})
	if err != nil {
		t.Fatal(err)
	}
	c.wait("second version", rolledOut(6))
	c.rest("after the second version")
	if got := c.Snapshot().Deployments[0].Annotations["deployment.kubernetes.io/revision"]; got != "2" {
		t.Errorf("revision %q, want 2", got)
	}

	if _, _, err := c.objects.Delete(t.Context(), kinds.ForObject(&corev1.Namespace{}), "", "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.wait("namespace gone", func(s *controller.Snapshot) string {
		for _, ns := range s.Namespaces {
			if ns.Name == "team" {
				return fmt.Sprintf("conditions %+v, %d pods", ns.Status.Conditions, len(s.Pods))
			}
		}
		return ""
	})
	s := c.Snapshot()
	slices := len(s.EndpointSlices) - 1 // the API's own stays
	if len(s.Pods)+len(s.ReplicaSets)+len(s.Deployments)+slices != 0 {
		t.Errorf("left behind: %d pods, %d replica sets, %d deployments, %d slices", len(s.Pods), len(s.ReplicaSets), len(s.Deployments), slices)
	}
}

// bound checks that pods were made on their nodes, spread, and say so.
func bound(t *testing.T, c *cluster) {
	t.Helper()
	on := map[string]int{}
	for _, p := range c.Snapshot().Pods {
		on[p.Spec.NodeName]++
		if s := controller.PodCondition(p, corev1.PodScheduled); s == nil || s.Status != corev1.ConditionTrue {
			t.Errorf("pod %s does not say that it is scheduled", p.Name)
		}
	}
	if len(on) != 3 || on["n1"] != 2 || on["n2"] != 2 {
		t.Errorf("pods on nodes: %v, want two on each", on)
	}
}

// TestRefusedPodsSayWhy: a pod that no node can hold stays pending with the reason and one event.
func TestRefusedPodsSayWhy(t *testing.T) {
	c := newCluster(t)
	c.node3()
	d := newDeployment("default", 1)
	d.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("64")
	c.create(d)
	want := "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
	c.wait("reason", func(s *controller.Snapshot) string {
		if len(s.Pods) != 1 {
			return fmt.Sprintf("%d pods", len(s.Pods))
		}
		if cond := controller.PodCondition(s.Pods[0], corev1.PodScheduled); cond == nil || cond.Message != want {
			return fmt.Sprintf("condition %+v", cond)
		}
		return ""
	})
	c.rest("with a pod that does not fit")
}
