package autoscaler

import (
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcehelpers "k8s.io/component-helpers/resource"

	"skerry.dev/skerry/coordinator/controller"
)

// gauge is one metric of an autoscaler: what is measured, and the target.
type gauge struct {
	resource    corev1.ResourceName
	container   string // empty for the whole pod
	utilization int32  // target in percent of the request; zero when average is the target
	average     int64  // target in thousandths
}

// sample is what one pod uses, in thousandths of a core or of a byte.
type sample struct {
	value  int64
	at     time.Time
	window time.Duration
}

// tolerances is how far the ratio of use to target may be off before anything is done.
type tolerances struct{ down, up float64 }

func (t tolerances) allow(ratio float64) bool { return 1-t.down <= ratio && ratio <= 1+t.up }

// reading is what a gauge says.
type reading struct {
	replicas    int32
	utilization int32
	average     int64
}

// measure proposes replicas for one gauge: upstream's GetResourceReplicas and GetRawResourceReplicas.
func (g gauge) measure(s *controller.Snapshot, current int32, pods []*corev1.Pod, t tolerances, now time.Time) (reading, error) {
	samples := g.samples(s, pods)
	if len(samples) == 0 {
		return reading{}, fmt.Errorf("unable to get metrics for resource %s: no metrics returned from resource metrics API", g.resource)
	}
	if len(pods) == 0 {
		return reading{}, errors.New("no pods returned by selector while calculating replica count")
	}
	groups := g.group(pods, samples, now)
	values := groups.values(samples)
	if len(values) == 0 {
		return reading{}, errors.New("did not receive metrics for targeted pods (pods might be unready)")
	}
	var requests map[string]int64
	if g.utilization != 0 {
		var err error
		if requests, err = g.requests(pods); err != nil {
			return reading{}, err
		}
	}
	return g.propose(current, groups, values, requests, t)
}

func (g gauge) propose(current int32, groups groups, values, requests map[string]int64, t tolerances) (reading, error) {
	ratio, r, err := g.ratio(values, requests)
	if err != nil {
		return r, err
	}
	r.replicas = current
	rising := len(groups.unready) > 0 && ratio > 1
	if !rising && len(groups.missing) == 0 {
		if !t.allow(ratio) {
			r.replicas = ceil(ratio * float64(groups.ready))
		}
		return r, nil
	}
	g.assume(ratio, groups, values, requests, rising)
	again, _, err := g.ratio(values, requests)
	if err != nil {
		return r, err
	}
	if t.allow(again) || ratio < 1 && again > 1 || ratio > 1 && again < 1 {
		return r, nil
	}
	// What is assumed of pods that nobody knows of must not turn the direction.
	if n := ceil(again * float64(len(values))); !(again < 1 && n > current) && !(again > 1 && n < current) {
		r.replicas = n
	}
	return r, nil
}

// assume fills in what pods may use that were not measured, or are not ready, so that less is done rather than more: all
// of it on the way down, nothing on the way up.
func (g gauge) assume(ratio float64, groups groups, values, requests map[string]int64, rising bool) {
	for _, name := range groups.missing {
		switch {
		case ratio < 1 && g.utilization != 0:
			values[name] = requests[name] * int64(max(100, g.utilization)) / 100
		case ratio < 1:
			values[name] = g.average
		case ratio > 1:
			values[name] = 0
		}
	}
	if rising {
		for _, name := range groups.unready {
			values[name] = 0
		}
	}
}

// ratio is use to target.
func (g gauge) ratio(values, requests map[string]int64) (float64, reading, error) {
	var used, requested int64
	for name, v := range values {
		used += v
		requested += requests[name]
	}
	r := reading{average: used / int64(len(values))}
	if g.utilization == 0 {
		return float64(r.average) / float64(g.average), r, nil
	}
	if requested == 0 {
		return 0, r, errors.New("no metrics returned matched known pods")
	}
	r.utilization = int32(used * 100 / requested) //nolint:gosec // a percentage
	return float64(r.utilization) / float64(g.utilization), r, nil
}

func ceil(f float64) int32 { return int32(min(math.Ceil(f), math.MaxInt32)) }

// samples are what was measured, by pod name.
func (g gauge) samples(s *controller.Snapshot, pods []*corev1.Pod) map[string]sample {
	out := map[string]sample{}
	for _, p := range pods {
		containers, at, window := s.UsageOf(p)
		if p.Status.Phase != corev1.PodRunning || len(containers) == 0 {
			continue
		}
		found, sum := false, int64(0)
		for _, c := range containers {
			if g.container != "" && c.Name != g.container {
				continue
			}
			found = true
			if g.resource == corev1.ResourceCPU {
				sum += int64((c.CPUNanos + 1e6 - 1) / 1e6) //nolint:gosec // far below
			} else {
				sum += int64(c.MemoryBytes) * 1000 //nolint:gosec // far below
			}
		}
		if found {
			out[p.Name] = sample{sum, at, window}
		}
	}
	return out
}

// groups are the pods by what their figures are worth. Those that end are in none.
type groups struct {
	ready            int
	unready, missing []string
	ignored          []string
}

// values are the samples that count.
func (g groups) values(samples map[string]sample) map[string]int64 {
	out := make(map[string]int64, len(samples))
	for name, s := range samples {
		out[name] = s.value
	}
	for _, names := range [][]string{g.ignored, g.unready} {
		for _, name := range names {
			delete(out, name)
		}
	}
	return out
}

// group is upstream's groupPods.
func (g gauge) group(pods []*corev1.Pod, samples map[string]sample, now time.Time) groups {
	var out groups
	for _, p := range pods {
		s, measured := samples[p.Name]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodFailed:
			out.ignored = append(out.ignored, p.Name)
		case p.Status.Phase == corev1.PodPending:
			out.unready = append(out.unready, p.Name)
		case !measured:
			out.missing = append(out.missing, p.Name)
		case g.resource == corev1.ResourceCPU && starting(p, s, now):
			out.unready = append(out.unready, p.Name)
		default:
			out.ready++
		}
	}
	return out
}

// starting reports that the CPU a pod uses is for its start.
func starting(p *corev1.Pod, s sample, now time.Time) bool {
	ready := readiness(p)
	if ready == nil || p.Status.StartTime == nil {
		return true
	}
	unready, started := ready.Status == corev1.ConditionFalse, p.Status.StartTime.Time
	if started.Add(cpuInitialized).After(now) {
		return unready || s.at.Before(ready.LastTransitionTime.Add(s.window))
	}
	return unready && started.Add(readinessDelay).After(ready.LastTransitionTime.Time)
}

func readiness(p *corev1.Pod) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == corev1.PodReady {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// requests are what the pods ask for, in thousandths; a pod that asks for nothing makes a percentage meaningless.
func (g gauge) requests(pods []*corev1.Pod) (map[string]int64, error) {
	out := make(map[string]int64, len(pods))
	for _, p := range pods {
		var err error
		if g.container == "" && resourcehelpers.IsPodLevelRequestsSet(p) {
			q, ok := resourcehelpers.PodRequests(p, resourcehelpers.PodResourcesOptions{})[g.resource]
			if !ok {
				return nil, fmt.Errorf("missing pod-level request for %s in Pod %s", g.resource, p.Name)
			}
			out[p.Name] = q.MilliValue()
			continue
		}
		if out[p.Name], err = g.request(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// request sums what containers ask for, those that stay beside them included.
func (g gauge) request(p *corev1.Pod) (sum int64, err error) {
	containers := append([]corev1.Container{}, p.Spec.Containers...)
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	found := g.container == ""
	for _, c := range containers {
		if g.container != "" && c.Name != g.container {
			continue
		}
		found = true
		q, ok := c.Resources.Requests[g.resource]
		if !ok {
			return 0, fmt.Errorf("missing request for %s in container %s of Pod %s", g.resource, c.Name, p.Name)
		}
		sum += q.MilliValue()
	}
	if !found {
		return 0, fmt.Errorf("container %s not found in Pod %s", g.container, p.Name)
	}
	return sum, nil
}
