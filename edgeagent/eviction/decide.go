package eviction

import (
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Times. A hard eviction is immediate, which the kubelet takes for one second; it waits as long for an evicted pod to have
// freed what it had before it evicts another.
const (
	immediate   = time.Second
	patience    = 30 * time.Second
	settling    = 3 * time.Second  // until what a pod had shows as free
	atRest      = 10 * time.Second // between measurements, as the kubelet
	whenShort   = time.Second
	nearPercent = 125 // of a threshold, below which it may be met soon
)

// Decide looks at a snapshot. A nil map in it is an empty one.
func Decide(c Config, was State, s Snapshot, now time.Time) (State, Plan) {
	d := &decision{Config: c, was: was, s: s, now: now}
	d.observe()
	d.waitFor()
	d.plan.Wake = now.Add(d.pace())
	if d.plan.Evict = d.overLimits(); len(d.plan.Evict) == 0 {
		d.relieve()
	}
	for _, v := range d.plan.Evict {
		d.is.evicted[v.UID] = now
	}
	return d.is, d.plan
}

type decision struct {
	Config
	was, is State
	s       Snapshot
	now     time.Time
	plan    Plan
	waiting bool // for a pod that was evicted
}

// observe finds which thresholds are met and which conditions that makes.
func (d *decision) observe() {
	d.is = State{since: map[Threshold]time.Time{}, seen: maps.Clone(d.was.seen), evicted: map[string]time.Time{}}
	if d.is.seen == nil {
		d.is.seen = map[corev1.NodeConditionType]time.Time{}
	}
	for _, t := range d.Thresholds {
		if !met(t, d.s.Signals, false) && (!slices.Contains(d.was.met, t) || !met(t, d.s.Signals, true)) {
			continue
		}
		since, known := d.was.since[t]
		if !known {
			since = d.now
		}
		d.is.since[t] = since
		d.is.seen[signals[t.Signal].condition] = d.now
		if d.now.Sub(since) >= t.Grace {
			d.is.met = append(d.is.met, t)
		}
	}
	for condition, at := range d.is.seen {
		if at.Equal(d.now) || d.now.Sub(at) < d.Transition {
			d.plan.Conditions = append(d.plan.Conditions, condition)
		} else {
			delete(d.is.seen, condition)
		}
	}
	slices.Sort(d.plan.Conditions)
}

// met says whether less is available than t asks for; with reclaim, whether less is than would settle it.
func met(t Threshold, signals map[Signal]Amount, reclaim bool) bool {
	have, known := signals[t.Signal]
	want := t.Value.of(have.Capacity)
	if reclaim {
		want += t.Reclaim.of(have.Capacity)
	}
	return known && have.Available < want
}

// pace is how long the node may look away: not long when something is short, or nearly so.
func (d *decision) pace() time.Duration {
	if d.waiting {
		return whenShort
	}
	for _, t := range d.Thresholds {
		have, known := d.s.Signals[t.Signal]
		if known && have.Available*100 < t.Value.of(have.Capacity)*nearPercent {
			return whenShort
		}
	}
	return atRest
}

// waitFor keeps in mind the pods that were evicted: those that are still there, and those whose end may not show yet.
func (d *decision) waitFor() {
	for uid, at := range d.was.evicted {
		limit := settling
		if slices.ContainsFunc(d.s.Pods, func(p Pod) bool { return string(p.UID) == uid }) {
			limit = patience
		}
		if d.now.Sub(at) < limit {
			d.is.evicted[uid] = at
			d.waiting = true
		}
	}
}

// relieve acts on the first threshold that is met.
func (d *decision) relieve() {
	if len(d.is.met) == 0 {
		return
	}
	first := slices.MinFunc(d.is.met, before)
	d.plan.Resource = signals[first.Signal].resource
	if d.waiting {
		return
	}
	if first.Signal.onDisk() && !d.s.Reclaimed {
		d.plan.Reclaim = true
		return
	}
	for _, p := range d.ranked(d.plan.Resource) {
		if Critical(p.Pod) {
			continue
		}
		d.plan.Evict = []Verdict{{
			UID: string(p.UID), Message: d.message(p, d.plan.Resource), Grace: d.grace(first, p.Pod), Pressure: true,
		}}
		return
	}
}

func (d *decision) grace(t Threshold, p *corev1.Pod) time.Duration {
	if t.Grace == 0 {
		return immediate
	}
	if own := p.Spec.TerminationGracePeriodSeconds; own != nil {
		return min(d.MaxGrace, time.Duration(*own)*time.Second)
	}
	return d.MaxGrace
}
