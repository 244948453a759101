package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	kinds "skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging"
)

// forEver tolerates a node's absence without limit.
const forEver = -1

// deployment makes a Deployment whose pods stay on an unreachable node for seconds, or for ever.
func deployment(name string, replicas int32, seconds int64) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	var tolerations []corev1.Toleration
	for _, key := range []string{corev1.TaintNodeUnreachable, corev1.TaintNodeNotReady} {
		t := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
		if seconds != forEver {
			t.TolerationSeconds = &seconds
		}
		tolerations = append(tolerations, t)
	}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Tolerations: tolerations,
					Containers: []corev1.Container{{Name: "app", Image: "web:1", Resources: corev1.ResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("16Mi")},
					}}},
				},
			},
		},
	}
}

// scale changes a Deployment's replicas.
func (c *cluster) scale(name string, replicas int32) {
	c.t.Helper()
	c.eventually("scale "+name, time.Minute, func() error { return c.tryScale(name, replicas) })
}

func (c *cluster) tryScale(name string, replicas int32) error {
	_, err := c.core.Objects().Mutate(c.t.Context(), kinds.ForObject(&appsv1.Deployment{}), "default", name, func(o runtime.Object) bool {
		d, ok := o.(*appsv1.Deployment)
		if ok {
			d.Spec.Replicas = &replicas
		}
		return ok
	})
	return err
}

// runs complains of another number of running pods.
func (n *node) runs(want int) error {
	if have := len(n.machine.running()); have != want {
		return fmt.Errorf("%s runs %d pods, want %d", n.name, have, want)
	}
	return nil
}

// pods are the pods of a Deployment.
func (c *cluster) pods(name string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range c.snapshot().Pods {
		if p.Labels["app"] == name {
			out = append(out, p)
		}
	}
	return out
}

// converged says what is missing until the posted state is reached on every machine: of each Deployment exactly the wanted
// pods, ready, each run once by the node it is bound to, and nothing else run by any.
func (c *cluster) converged() error {
	if err := c.posted(); err != nil {
		return err
	}
	bound := map[string]string{}
	for _, p := range c.snapshot().Pods {
		bound[string(p.UID)] = p.Spec.NodeName
	}
	for _, n := range c.nodes {
		running := n.machine.running()
		for uid := range running {
			if bound[uid] != n.name {
				return fmt.Errorf("%s runs pod %s, which is bound to %q", n.name, uid, bound[uid])
			}
		}
		for uid, name := range bound {
			if _, runs := running[uid]; name == n.name && !runs {
				return fmt.Errorf("%s does not run pod %s", n.name, uid)
			}
		}
	}
	return nil
}

// posted is what of it the API can tell.
func (c *cluster) posted() error {
	for _, d := range c.snapshot().Deployments {
		pods := c.pods(d.Name)
		if len(pods) != int(*d.Spec.Replicas) {
			return fmt.Errorf("deployment %s has %d pods, wants %d", d.Name, len(pods), *d.Spec.Replicas)
		}
		for _, p := range pods {
			if !ready(p) {
				return fmt.Errorf("pod %s on %q is not ready: %s", p.Name, p.Spec.NodeName, p.Status.Phase)
			}
		}
	}
	return nil
}

func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// instances are the running containers of all machines, by pod UID.
func (c *cluster) instances() map[string]string {
	out := map[string]string{}
	for _, n := range c.nodes {
		for uid, id := range n.machine.running() {
			out[uid] = n.name + "/" + id
		}
	}
	return out
}

// unchanged complains of pods that still exist and do not run as they did before.
func (c *cluster) unchanged(before map[string]string) error {
	var errs []error
	now := c.instances()
	for _, p := range c.snapshot().Pods {
		was, ran := before[string(p.UID)]
		if ran && now[string(p.UID)] != was {
			errs = append(errs, fmt.Errorf("pod %s ran as %s, and now as %q", p.Name, was, now[string(p.UID)]))
		}
	}
	return errors.Join(errs...)
}

// noTwins complains of containers that ever ran twice at once on a machine.
func (c *cluster) noTwins() error {
	var errs []error
	for _, n := range c.nodes {
		for _, id := range n.machine.twinned() {
			errs = append(errs, fmt.Errorf("%s started %s beside another instance of it", n.name, id))
		}
	}
	return errors.Join(errs...)
}

// nodeReady says whether the API holds a node for ready.
func (c *cluster) nodeReady(name string) bool {
	for _, n := range c.snapshot().Nodes {
		if n.Name == name {
			return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			})
		}
	}
	return false
}

// allReady says which nodes are not.
func (c *cluster) allReady() error {
	for _, n := range c.nodes {
		if !c.nodeReady(n.name) {
			return fmt.Errorf("node %s is not ready", n.name)
		}
	}
	return nil
}

// heartbeatOf is the next heartbeat of a node.
func (c *cluster) heartbeatOf(name string) messaging.Heartbeat {
	c.t.Helper()
	conn := c.tester()
	defer conn.Close()
	sub, err := conn.SubscribeSync(messaging.HeartbeatSubject(name))
	must(c.t, err)
	m, err := sub.NextMsg(10 * c.config.Nodes.Heartbeat)
	must(c.t, err)
	var beat messaging.Heartbeat
	must(c.t, json.Unmarshal(m.Data, &beat))
	return beat
}
