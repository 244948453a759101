package controllertest

import (
	"fmt"
	"sort"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Commands are the lines that every script may have:
//
//	step                one round of the plans
//	run [n]             rounds until the plans rest, at most n (20)
//	advance <duration>  moves the clock
//	ready|unready|fail|finish <pod>...|all   what a node would report; all means every pod that is not
//	delete <pod>...     a person deletes pods
//	gone <pod>...|all   the node reports that terminating pods have stopped: they are removed
//	pods                prints the pods
//	sets                prints the ReplicaSets
//	rollout             prints the Deployments' conditions
func (w *World) Commands(plans ...controller.Plan) map[string]Command {
	return map[string]Command{
		"step":    func([]string) ([]string, error) { return w.step(plans), nil },
		"run":     func(args []string) ([]string, error) { return w.rounds(plans, args) },
		"advance": w.advance,
		"ready":   func(args []string) ([]string, error) { return nil, w.report(args, running(corev1.ConditionTrue)) },
		"unready": func(args []string) ([]string, error) { return nil, w.report(args, running(corev1.ConditionFalse)) },
		"fail":    func(args []string) ([]string, error) { return nil, w.report(args, ended(corev1.PodFailed)) },
		"finish":  func(args []string) ([]string, error) { return nil, w.report(args, ended(corev1.PodSucceeded)) },
		"delete":  func(args []string) ([]string, error) { return nil, w.deletePods(args) },
		"gone":    func(args []string) ([]string, error) { return nil, w.gone(args) },
		"pods":    func([]string) ([]string, error) { return w.Table(), nil },
		"sets":    func([]string) ([]string, error) { return w.sets(), nil },
		"rollout": func([]string) ([]string, error) { return w.rollouts(), nil },
	}
}

func (w *World) step(plans []controller.Plan) []string {
	var changes []controller.Change
	s := w.Snapshot()
	for _, plan := range plans {
		more, _ := plan(s, w.Now)
		changes = append(changes, more...)
	}
	return w.Perform(changes)
}

func (w *World) rounds(plans []controller.Plan, args []string) ([]string, error) {
	limit := 20
	if len(args) > 0 {
		if _, err := fmt.Sscan(args[0], &limit); err != nil {
			return nil, err
		}
	}
	lines, wake, err := w.Rounds(plans, limit)
	if !wake.IsZero() {
		lines = append(lines, "wake in "+wake.Sub(w.Now).String())
	}
	return lines, err
}

func (w *World) advance(args []string) ([]string, error) {
	d, err := time.ParseDuration(strings.Join(args, ""))
	w.Now = w.Now.Add(d)
	return nil, err
}

func running(ready corev1.ConditionStatus) func(*corev1.Pod, time.Time) bool {
	return func(p *corev1.Pod, now time.Time) bool {
		if p.Spec.NodeName == "" || controller.PodFinished(p) {
			return false
		}
		p.Status.Phase = corev1.PodRunning
		return controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: ready}, now)
	}
}

func ended(phase corev1.PodPhase) func(*corev1.Pod, time.Time) bool {
	return func(p *corev1.Pod, now time.Time) bool {
		p.Status.Phase = phase
		controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionFalse}, now)
		return true
	}
}

// Report edits the named pods' status as their node would.
func (w *World) report(names []string, edit func(*corev1.Pod, time.Time) bool) error {
	pods, err := w.choose(names)
	if err != nil {
		return err
	}
	for _, p := range pods {
		p = p.DeepCopy()
		if edit(p, w.Now) {
			w.Put(p)
		}
	}
	return nil
}

func (w *World) deletePods(names []string) error {
	pods, err := w.choose(names)
	for _, p := range pods {
		w.Perform([]controller.Change{{Verb: controller.Delete, Object: p}})
	}
	return err
}

func (w *World) gone(names []string) error {
	pods, err := w.choose(names)
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			w.Stop(p)
		}
	}
	return err
}

// Stop does what the node's last report of a terminating pod does: it is removed, or waits as failed for its finalizers.
func (w *World) Stop(p *corev1.Pod) {
	if len(p.Finalizers) == 0 {
		w.Remove(p)
		return
	}
	p = p.DeepCopy()
	var none int64
	p.DeletionGracePeriodSeconds = &none
	if !controller.PodFinished(p) {
		ended(corev1.PodFailed)(p, w.Now)
	}
	w.Put(p)
}

func (w *World) choose(names []string) ([]*corev1.Pod, error) {
	if len(names) == 1 && names[0] == "all" {
		return w.Snapshot().Pods, nil
	}
	var pods []*corev1.Pod
	for _, name := range names {
		p := w.Pod(name)
		if p == nil {
			return nil, fmt.Errorf("no pod %q", name)
		}
		pods = append(pods, p)
	}
	return pods, nil
}

func (w *World) sets() []string {
	var lines []string
	for _, rs := range w.Snapshot().ReplicaSets {
		lines = append(lines, fmt.Sprintf("%s wants %d has %d ready %d available %d revision %s%s", rs.Name, *rs.Spec.Replicas, rs.Status.Replicas,
			rs.Status.ReadyReplicas, rs.Status.AvailableReplicas, rs.Annotations["deployment.kubernetes.io/revision"], history(rs)))
	}
	sort.Strings(lines)
	return lines
}

func history(rs *appsv1.ReplicaSet) string {
	if h := rs.Annotations["deployment.kubernetes.io/revision-history"]; h != "" {
		return " (was " + h + ")"
	}
	return ""
}

func (w *World) rollouts() []string {
	var lines []string
	for _, d := range w.Snapshot().Deployments {
		s := d.Status
		lines = append(lines, fmt.Sprintf("%s revision %s replicas %d updated %d ready %d available %d unavailable %d observed %d/%d", d.Name,
			d.Annotations["deployment.kubernetes.io/revision"], s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas, s.ObservedGeneration, d.Generation))
		for _, c := range s.Conditions {
			lines = append(lines, fmt.Sprintf("  %s=%s %s: %s (%s)", c.Type, c.Status, c.Reason, c.Message, c.LastUpdateTime.Sub(Start)))
		}
	}
	return lines
}

// Time is a pointer to t as the API has it.
func Time(t time.Time) *metav1.Time {
	m := metav1.NewTime(t)
	return &m
}
