package pod

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// advance moves a container that should run.
func (p *planner) advance(c *corev1.Container) {
	o := p.obs.Containers[c.Name]
	switch o.State {
	case Absent:
		p.start(c, o)
	case Exited:
		if p.restarts(c, o) && p.due(after(o.Noticed, p.crashWait(c, o), p.now)) {
			p.start(c, o)
		}
	case Running:
		p.watch(c, o)
	case Starting:
	}
}

// crashWait is how long a restart is put off. A changed spec starts afresh, and a container that ended with its node has
// not failed.
func (p *planner) crashWait(c *corev1.Container, o Container) time.Duration {
	if outdated(c, o) || o.Lost {
		return 0
	}
	return backOff(o.Crashes)
}

func outdated(c *corev1.Container, o Container) bool { return o.Hash != "" && o.Hash != Hash(c) }

func (p *planner) start(c *corev1.Container, o Container) {
	if !p.image(c) || !p.due(after(o.Create.At, setUpBackOff(o.Create.Fails), p.now)) {
		return
	}
	attempt := o.Attempt
	if o.Ran {
		attempt++
	}
	p.do(Action{Verb: StartContainer, Container: c.Name, Attempt: attempt})
}

// restarts says whether an instance that has ended is to be followed by another.
func (p *planner) restarts(c *corev1.Container, o Container) bool {
	if p.isEphemeral(c) {
		return false
	}
	if outdated(c, o) {
		return true
	}
	if decided, restart := byRule(c, o.ExitCode); decided {
		return restart
	}
	policy := p.pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch {
	case p.isInit(c) && !Sidecar(c):
		return o.ExitCode != 0 && policy != corev1.RestartPolicyNever
	case policy == corev1.RestartPolicyNever:
		return false
	case policy == corev1.RestartPolicyOnFailure:
		return o.ExitCode != 0
	default:
		return true
	}
}

// byRule applies the container's own restart rules.
func byRule(c *corev1.Container, code int32) (decided, restart bool) {
	for _, r := range c.RestartPolicyRules {
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, code)
		if in == (r.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true, r.Action == corev1.ContainerRestartRuleActionRestart
		}
	}
	return false, false
}

func (p *planner) isInit(c *corev1.Container) bool {
	return slices.ContainsFunc(p.pod.Spec.InitContainers, func(i corev1.Container) bool { return i.Name == c.Name })
}

func (p *planner) isEphemeral(c *corev1.Container) bool { return ephemeral(p.pod, c.Name) != nil }

func (p *planner) eachEphemeral(f func(*corev1.Container)) {
	for i := range p.pod.Spec.EphemeralContainers {
		f(Ephemeral(p.pod, i))
	}
}

// watch looks after a running instance: out of date, unhealthy, due for a probe, or being stopped already.
func (p *planner) watch(c *corev1.Container, o Container) {
	switch {
	case !o.Signalled.IsZero():
		p.stopping(c.Name, o)
	case outdated(c, o):
		p.signal(c.Name, o, p.grace(), fmt.Sprintf("Container %s definition changed, will be restarted", c.Name))
	case o.Probes[Startup].Verdict == Failed:
		p.signal(c.Name, o, p.probeGrace(c.StartupProbe), fmt.Sprintf("Container %s failed startup probe, will be restarted", c.Name))
	case o.Probes[Liveness].Verdict == Failed:
		p.signal(c.Name, o, p.probeGrace(c.LivenessProbe), fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.Name))
	default:
		p.probes(c, o)
	}
}

func (p *planner) probeGrace(probe *corev1.Probe) time.Duration {
	if probe != nil && probe.TerminationGracePeriodSeconds != nil {
		return time.Duration(*probe.TerminationGracePeriodSeconds) * time.Second
	}
	return p.grace()
}

func (p *planner) probes(c *corev1.Container, o Container) {
	if !o.passedStartup(c) {
		p.probe(c, o, Startup)
		return
	}
	p.probe(c, o, Liveness)
	p.probe(c, o, Readiness)
}

func (p *planner) probe(c *corev1.Container, o Container, kind ProbeKind) {
	spec, state := ProbeOf(c, kind), o.Probes[kind]
	if spec == nil || state.Running {
		return
	}
	if p.due(state.due(kind, spec, o.Started)) {
		p.do(Action{Verb: RunProbe, Container: c.Name, ID: o.ID, Probe: kind})
	}
}

// stopAll ends every container, sidecars after the others and in reverse order, and says whether none is left running.
func (p *planner) stopAll(why string, grace time.Duration) bool {
	stopped := true
	p.eachEphemeral(func(c *corev1.Container) { stopped = p.stop(c.Name, why, grace) && stopped })
	for i := range p.pod.Spec.Containers {
		stopped = p.stop(p.pod.Spec.Containers[i].Name, why, grace) && stopped
	}
	for i := range p.pod.Spec.InitContainers {
		if c := &p.pod.Spec.InitContainers[i]; !Sidecar(c) {
			stopped = p.stop(c.Name, why, grace) && stopped
		}
	}
	return stopped && p.stopSidecars(why, grace)
}

func (p *planner) stopSidecars(why string, grace time.Duration) bool {
	for i := len(p.pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &p.pod.Spec.InitContainers[i]
		if Sidecar(c) && !p.stop(c.Name, why, p.remaining(grace)) {
			return false
		}
	}
	return true
}

// remaining is what is left of a pod's grace period for those that are stopped last; at least 2 s, as in the kubelet.
func (p *planner) remaining(grace time.Duration) time.Duration {
	if p.obs.StopSince.IsZero() || grace == 0 {
		return grace
	}
	return max(p.obs.StopSince.Add(grace).Sub(p.now), min(grace, 2*time.Second))
}

// stop ends one container and says whether it has ended.
func (p *planner) stop(name, why string, grace time.Duration) bool {
	o := p.obs.Containers[name]
	switch {
	case o.State == Starting:
		return false // its result wakes us
	case o.State != Running:
		return true
	case o.Signalled.IsZero():
		p.signal(name, o, grace, why)
	default:
		o.Grace = min(o.Grace, grace)
		p.stopping(name, o)
	}
	return false
}

func (p *planner) signal(name string, o Container, grace time.Duration, why string) {
	if !p.due(after(o.Create.At, setUpBackOff(o.Create.Fails), p.now)) {
		return
	}
	if grace <= 0 {
		p.kill(name, o)
		return
	}
	p.do(Action{Verb: SignalContainer, Container: name, ID: o.ID, Grace: grace, Message: why})
	p.at(p.now.Add(grace))
}

// stopping kills an instance whose grace period is over.
func (p *planner) stopping(name string, o Container) {
	if p.due(after(o.Signalled, o.Grace, p.now)) {
		p.kill(name, o)
	}
}

func (p *planner) kill(name string, o Container) {
	if !o.Killed && p.due(after(o.Create.At, setUpBackOff(o.Create.Fails), p.now)) {
		p.do(Action{Verb: KillContainer, Container: name, ID: o.ID})
	}
}

func sortActions(list []Action) {
	slices.SortStableFunc(list, func(a, b Action) int { return strings.Compare(a.Container, b.Container) })
}
