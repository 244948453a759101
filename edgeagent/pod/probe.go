package pod

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ProbeKind is which of a container's three probes.
type ProbeKind string

// The probes.
const (
	Startup   ProbeKind = "startup"
	Liveness  ProbeKind = "liveness"
	Readiness ProbeKind = "readiness"
)

// Verdict is what the probes run so far say, thresholds considered.
type Verdict int

// The verdicts. A probe is Undecided until a threshold is reached for the first time.
const (
	Undecided Verdict = iota
	Success
	Failed
)

// Probe is the history of one probe of the current instance.
type Probe struct {
	Running bool
	Last    time.Time // when the last run began
	Passed  int       // in a row
	Failed  int       // in a row
	Runs    int
	Verdict Verdict
	Output  string // of the last run that did not pass
}

// quickFirst is the wait after a container's first readiness run that did not pass. It doubles up to the period while
// the container has not been ready yet, so that a program which needs 50 ms to listen is ready after 100 ms instead of
// after a period. Runs in this time cannot do harm: the container is not ready anyhow.
const quickFirst = 20 * time.Millisecond

// ProbeOf returns the container's probe of that kind, or nil.
func ProbeOf(c *corev1.Container, kind ProbeKind) *corev1.Probe {
	switch kind {
	case Startup:
		return c.StartupProbe
	case Liveness:
		return c.LivenessProbe
	case Readiness:
		return c.ReadinessProbe
	}
	return nil
}

func probeSpec(pod *corev1.Pod, a Action) *corev1.Probe {
	if c := Spec(pod, a.Container); c != nil {
		return ProbeOf(c, a.Probe)
	}
	return nil
}

func (c *Container) probe(kind ProbeKind, f func(*Probe)) {
	if c.Probes == nil {
		c.Probes = map[ProbeKind]Probe{}
	}
	p := c.Probes[kind]
	f(&p)
	c.Probes[kind] = p
}

// record counts a run. A run that could not be made (the keeper was away) says nothing about the container.
func (p *Probe) record(r Result, spec *corev1.Probe) {
	p.Running = false
	if r.Err != nil || spec == nil {
		return
	}
	p.Runs++
	if r.Passed {
		p.Passed, p.Failed, p.Output = p.Passed+1, 0, ""
	} else {
		p.Passed, p.Failed, p.Output = 0, p.Failed+1, r.Output
	}
	switch {
	case p.Passed >= atLeast(spec.SuccessThreshold, 1):
		p.Verdict = Success
	case p.Failed >= atLeast(spec.FailureThreshold, 3):
		p.Verdict = Failed
	}
}

// due is when the probe runs next.
func (p Probe) due(kind ProbeKind, spec *corev1.Probe, started time.Time) time.Time {
	period := seconds(spec.PeriodSeconds, 10)
	if p.Last.IsZero() {
		return started.Add(seconds(spec.InitialDelaySeconds, 0))
	}
	if kind == Readiness && p.Verdict != Success && p.Runs > 0 && p.Runs < 12 {
		period = min(period, quickFirst<<(p.Runs-1))
	}
	return p.Last.Add(period)
}

func seconds(n, otherwise int32) time.Duration {
	if n <= 0 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

func atLeast(n int32, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return int(n)
}

// passedStartup says whether the container counts as started.
func (c Container) passedStartup(spec *corev1.Container) bool {
	return c.State == Running && (spec.StartupProbe == nil || c.Probes[Startup].Verdict == Success)
}

// ready says whether the container counts as ready.
func (c Container) ready(spec *corev1.Container) bool {
	return c.passedStartup(spec) && (spec.ReadinessProbe == nil || c.Probes[Readiness].Verdict == Success)
}
