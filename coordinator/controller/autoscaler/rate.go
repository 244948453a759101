package autoscaler

import (
	"fmt"
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// limits are between what replicas may move: upstream's normalizeDesiredReplicas and normalizeDesiredReplicasWithBehaviors.
type limits struct {
	least, most, current int32
	behavior             *autoscalingv2.HorizontalPodAutoscalerBehavior // nil for upstream's older rules
}

// verdict is replicas with the reason of the condition that says why they are not others.
type verdict struct {
	replicas        int32
	reason, message string
}

// stabilize remembers a recommendation and returns what the recent ones allow.
func (l limits) stabilize(m *memory, wanted int32, now time.Time) verdict {
	up, down := l.windows()
	upCutoff, downCutoff := now.Add(-up), now.Add(-down)
	lowest, highest := wanted, wanted
	for _, r := range m.recommendations {
		if r.at.After(upCutoff) {
			lowest = min(lowest, r.replicas)
		}
		if r.at.After(downCutoff) || l.behavior == nil && r.at.Equal(downCutoff) {
			highest = max(highest, r.replicas)
		}
	}
	m.recommendations = slices.DeleteFunc(m.recommendations, func(r recommendation) bool {
		return r.at.Before(upCutoff) && r.at.Before(downCutoff)
	})
	m.recommendations = append(m.recommendations, recommendation{now, wanted})
	stable := min(max(l.current, lowest), highest)
	if l.behavior == nil {
		stable = highest
	}
	switch {
	case stable == wanted:
		return verdict{stable, "ReadyForNewScale", "recommended size matches current size"}
	case l.behavior != nil && wanted >= l.current:
		return verdict{stable, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation"}
	}
	return verdict{stable, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation"}
}

// windows are how far back recommendations count on the way up and down.
func (l limits) windows() (up, down time.Duration) {
	down = downStabilized
	if l.behavior == nil {
		return 0, down
	}
	if r := l.behavior.ScaleUp; r != nil && r.StabilizationWindowSeconds != nil {
		up = time.Duration(*r.StabilizationWindowSeconds) * time.Second
	}
	if r := l.behavior.ScaleDown; r != nil && r.StabilizationWindowSeconds != nil {
		down = time.Duration(*r.StabilizationWindowSeconds) * time.Second
	}
	return up, down
}

// bound keeps wanted replicas within bounds and rates.
func (l limits) bound(m *memory, wanted int32, now time.Time) verdict {
	switch {
	case l.behavior == nil:
		return l.between(wanted, l.least, max(upLimitFactor*l.current, upLimitMinimum))
	case wanted > l.current:
		return l.between(wanted, math.MinInt32, max(l.current, rated(l.behavior.ScaleUp, 1, l.current, m, now)))
	case wanted < l.current:
		return l.atLeast(wanted, min(l.current, rated(l.behavior.ScaleDown, -1, l.current, m, now)))
	}
	return within(wanted)
}

func within(replicas int32) verdict {
	return verdict{replicas, "DesiredWithinRange", "the desired count is within the acceptable range"}
}

// between bounds from below by least, from above by the smaller of rate and the most replicas.
func (l limits) between(wanted, least, rate int32) verdict {
	switch {
	case wanted < least:
		return verdict{least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"}
	case wanted > l.most && l.most <= rate:
		return verdict{l.most, "TooManyReplicas", "the desired replica count is more than the maximum replica count"}
	case wanted > rate:
		return verdict{rate, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"}
	}
	return within(wanted)
}

func (l limits) atLeast(wanted, rate int32) verdict {
	switch {
	case wanted < rate && rate > l.least:
		return verdict{rate, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"}
	case wanted < l.least:
		return verdict{l.least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"}
	}
	return within(wanted)
}

// rated is how far the policies let the replicas go in a direction, which is 1 for up and -1 for down.
func rated(r *autoscalingv2.HPAScalingRules, direction, current int32, m *memory, now time.Time) int32 {
	widest := r == nil || r.SelectPolicy == nil || *r.SelectPolicy == autoscalingv2.MaxChangePolicySelect
	if r == nil || len(r.Policies) == 0 {
		return direction * math.MaxInt32
	}
	if !widest && *r.SelectPolicy == autoscalingv2.DisabledPolicySelect {
		return current
	}
	var far int32
	for i, p := range r.Policies {
		limit := direction * allowed(p, direction, current, m, now) // larger is farther
		if i == 0 || widest == (limit > far) {
			far = limit
		}
	}
	return direction * far
}

// allowed is how many replicas one policy lets there be, counted from those at the start of its period.
func allowed(p autoscalingv2.HPAScalingPolicy, direction, current int32, m *memory, now time.Time) int32 {
	since := now.Add(-time.Duration(p.PeriodSeconds) * time.Second)
	start := current - sum(m.ups, since) + sum(m.downs, since)
	switch {
	case p.Type == autoscalingv2.PodsScalingPolicy:
		return start + direction*p.Value
	case direction > 0:
		return ceil(float64(start) * (1 + float64(p.Value)/100))
	}
	return int32(float64(start) * (1 - float64(p.Value)/100))
}

func sum(scalings []scaling, since time.Time) (n int32) {
	for _, s := range scalings {
		if s.at.After(since) {
			n += s.change
		}
	}
	return n
}

// note remembers a change of scale that was made.
func (m *memory) note(a *asked) {
	old := func(s scaling) bool { return s.at.Before(a.at.Add(-rememberAtLeast)) }
	m.ups, m.downs = slices.DeleteFunc(m.ups, old), slices.DeleteFunc(m.downs, old)
	if a.to > a.from {
		m.ups = append(m.ups, scaling{a.at, a.to - a.from})
	} else {
		m.downs = append(m.downs, scaling{a.at, a.from - a.to})
	}
}

// reasonOf says why replicas change, for the event.
func reasonOf(current, wanted int32, metric string) string {
	if wanted > current {
		return fmt.Sprintf("%s above target", metric)
	}
	return "All metrics below target"
}
