package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is what the coordinator is told. It starts from what others wrote into the pod's status, conditions
// left out, and replaces what is the node's.
func (p *planner) status() corev1.PodStatus {
	s := *p.pod.Status.DeepCopy()
	s.Phase, s.Reason, s.Message = p.verdict()
	s.ObservedGeneration = p.pod.Generation
	s.QOSClass = QOS(p.pod)
	s.StartTime = p.startTime()
	s.HostIP, s.HostIPs = hostIPs(p.obs.HostIPs)
	s.PodIP, s.PodIPs = podIPs(p.obs.PodIPs)
	s.InitContainerStatuses = p.containerStatuses(p.pod.Spec.InitContainers)
	s.EphemeralContainerStatuses = p.ephemeralStatuses()
	s.ContainerStatuses = p.containerStatuses(p.pod.Spec.Containers)
	s.Conditions = p.conditions(s.Phase)
	return s
}

// verdict is the pod's phase. A finished pod stays as it finished.
func (p *planner) verdict() (phase corev1.PodPhase, reason, message string) {
	previous := p.obs.Previous
	switch {
	case over(previous.Phase):
		return previous.Phase, previous.Reason, previous.Message
	case p.failed != "":
		return corev1.PodFailed, p.failed, p.message
	case p.obs.Paused != "":
		return p.phase(), "Paused", p.obs.Paused
	default:
		return p.phase(), "", ""
	}
}

// reason is why the pod has failed as a whole; empty when it has not.
func (p *planner) reason() string {
	_, reason, _ := p.verdict()
	return reason
}

func (p *planner) startTime() *metav1.Time {
	if t := p.obs.Previous.StartTime; t != nil {
		return t
	}
	t := metav1.NewTime(p.now)
	return &t
}

func hostIPs(ips []string) (string, []corev1.HostIP) {
	var list []corev1.HostIP
	for _, ip := range ips {
		list = append(list, corev1.HostIP{IP: ip})
	}
	if len(ips) == 0 {
		return "", nil
	}
	return ips[0], list
}

func podIPs(ips []string) (string, []corev1.PodIP) {
	var list []corev1.PodIP
	for _, ip := range ips {
		list = append(list, corev1.PodIP{IP: ip})
	}
	if len(ips) == 0 {
		return "", nil
	}
	return ips[0], list
}

// census counts the regular containers as getPhase of the kubelet does.
type census struct{ waiting, running, stopped, succeeded int }

func (p *planner) census() census {
	var n census
	for i := range p.pod.Spec.Containers {
		o := p.obs.Containers[p.pod.Spec.Containers[i].Name]
		switch {
		case o.State == Running:
			n.running++
		case o.State == Exited || (o.Ran && !o.Finished.IsZero()):
			n.stopped++
			if o.ExitCode == 0 {
				n.succeeded++
			}
		default:
			n.waiting++
		}
	}
	return n
}

func (p *planner) phase() corev1.PodPhase {
	if p.initFailed() {
		return corev1.PodFailed
	}
	n := p.census()
	switch {
	case !p.initialized() || n.waiting > 0:
		return corev1.PodPending
	case n.running > 0 || n.stopped == 0 || !p.workDone() || p.sidecarsRun():
		return corev1.PodRunning
	case n.stopped == n.succeeded:
		return corev1.PodSucceeded
	default:
		return corev1.PodFailed
	}
}

// initFailed says whether an init container has failed for good.
func (p *planner) initFailed() bool {
	for i := range p.pod.Spec.InitContainers {
		c := &p.pod.Spec.InitContainers[i]
		o := p.obs.Containers[c.Name]
		if !Sidecar(c) && o.State == Exited && o.ExitCode != 0 && !p.restarts(c, o) {
			return true
		}
	}
	return false
}

func (p *planner) sidecarsRun() bool {
	running := false
	p.eachSidecar(func(c *corev1.Container) {
		running = running || p.obs.Containers[c.Name].State == Running
	})
	return running
}

// conditions are the node's own, with transition times kept from the last round. Those of others are the coordinator's to keep: what this node knows
// of them may be old.
func (p *planner) conditions(phase corev1.PodPhase) []corev1.PodCondition {
	own := []corev1.PodCondition{
		p.sandboxReady(),
		p.initializedCondition(phase),
		p.readyCondition(phase),
		p.containersReady(phase),
	}
	if c, disrupted := p.disrupted(); disrupted {
		own = append(own, c)
	}
	out := make([]corev1.PodCondition, 0, len(own))
	for _, c := range own {
		out = append(out, p.dated(c))
	}
	return out
}

// disrupted is the condition of a pod that this node has evicted, as it was when it did.
func (p *planner) disrupted() (corev1.PodCondition, bool) {
	for _, c := range p.obs.Previous.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Reason == corev1.PodReasonTerminationByKubelet {
			return c, true
		}
	}
	if v := p.obs.Ruling; v == nil || !v.Disrupted || p.failed != v.Reason {
		return corev1.PodCondition{}, false
	}
	return corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet, Message: p.message,
	}, true
}

// dated gives a condition the time of its last change.
func (p *planner) dated(c corev1.PodCondition) corev1.PodCondition {
	c.ObservedGeneration = p.pod.Generation
	c.LastTransitionTime = metav1.NewTime(p.now)
	for _, old := range p.obs.Previous.Conditions {
		if old.Type == c.Type && old.Status == c.Status && !old.LastTransitionTime.IsZero() {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}

func condition(t corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	if ok {
		return corev1.PodCondition{Type: t, Status: corev1.ConditionTrue}
	}
	return corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

func (p *planner) sandboxReady() corev1.PodCondition {
	return condition(corev1.PodReadyToStartContainers, p.obs.Sandbox.State == Done, "", p.obs.Sandbox.Message)
}

func (p *planner) initializedCondition(phase corev1.PodPhase) corev1.PodCondition {
	c := condition(corev1.PodInitialized, p.initialized(), "ContainersNotInitialized",
		fmt.Sprintf("containers with incomplete status: [%s]", strings.Join(p.incompleteInit(), " ")))
	if phase == corev1.PodSucceeded {
		return corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, Reason: "PodCompleted"}
	}
	return c
}

func (p *planner) incompleteInit() []string {
	var names []string
	for i := range p.pod.Spec.InitContainers {
		if c := &p.pod.Spec.InitContainers[i]; !p.initDone(c) {
			names = append(names, c.Name)
		}
	}
	return names
}

func (p *planner) containersReady(phase corev1.PodPhase) corev1.PodCondition {
	return p.readiness(corev1.ContainersReady, phase)
}

// readyCondition is ContainersReady and every readiness gate.
func (p *planner) readyCondition(phase corev1.PodPhase) corev1.PodCondition {
	c := p.readiness(corev1.PodReady, phase)
	if c.Status != corev1.ConditionTrue {
		return c
	}
	if missing := p.closedGates(); len(missing) > 0 {
		return condition(corev1.PodReady, false, "ReadinessGatesNotReady", strings.Join(missing, ", "))
	}
	return c
}

func (p *planner) readiness(t corev1.PodConditionType, phase corev1.PodPhase) corev1.PodCondition {
	switch phase {
	case corev1.PodSucceeded:
		return condition(t, false, "PodCompleted", "")
	case corev1.PodFailed:
		return condition(t, false, "PodFailed", "")
	default:
	}
	unready := p.unready()
	return condition(t, len(unready) == 0, "ContainersNotReady",
		fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " ")))
}

func (p *planner) unready() []string {
	var names []string
	add := func(c *corev1.Container) {
		if !p.obs.Containers[c.Name].ready(c) {
			names = append(names, c.Name)
		}
	}
	p.eachSidecar(add)
	for i := range p.pod.Spec.Containers {
		add(&p.pod.Spec.Containers[i])
	}
	return names
}

func (p *planner) closedGates() []string {
	var out []string
	for _, g := range p.pod.Spec.ReadinessGates {
		status, found := corev1.ConditionFalse, false
		for _, c := range p.pod.Status.Conditions {
			if c.Type == g.ConditionType {
				status, found = c.Status, true
			}
		}
		switch {
		case !found:
			out = append(out, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType))
		case status != corev1.ConditionTrue:
			out = append(out, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, status))
		}
	}
	return out
}
