package deployment

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// bounds are maxSurge and maxUnavailable in pods: surge rounds up, unavailable down. Validation does not let both be
// zero, but rounding can; then one pod may be unavailable, since surge might not fit.
func (r *rollout) bounds() (surge, unavailable int32) {
	rolling := r.d.Spec.Strategy.RollingUpdate
	if r.recreates() || rolling == nil {
		return 0, 0
	}
	surge = scaled(rolling.MaxSurge, r.replicas(), true)
	unavailable = scaled(rolling.MaxUnavailable, r.replicas(), false)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// scaled resolves a count or percentage; nil and what validation would refuse are zero.
func scaled(v *intstr.IntOrString, of int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(v, intstr.FromInt32(0)), int(of), up)
	if err != nil {
		return 0
	}
	return int32(n)
}

func (r *rollout) maxSurge() int32 {
	surge, _ := r.bounds()
	return surge
}

func (r *rollout) maxUnavailable() int32 {
	_, unavailable := r.bounds()
	return min(unavailable, r.replicas())
}

func (r *rollout) minAvailable() int32 { return r.replicas() - r.maxUnavailable() }

// resize sets the size of a set and what it records about the deployment's size, and reports whether the size changed.
func (r *rollout) resize(s *set, size int32) bool {
	was := s.replicas()
	r.annotateReplicas(s)
	if was == size {
		return false
	}
	s.edit().Spec.Replicas = &size
	direction := "up"
	if size < was {
		direction = "down"
	}
	message := fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, s.Name, was, size)
	s.events = append(s.events, r.event(corev1.EventTypeNormal, "ScalingReplicaSet", message))
	return true
}

// scaled reports whether the deployment's size changed since its active sets were sized.
func (r *rollout) scaled() bool {
	for _, s := range active(r.all()) {
		if desired, ok := annotation(s, desiredAnnotation); ok && desired != r.replicas() {
			return true
		}
	}
	return false
}

// scale sizes the sets outside a rollout step: the only active one (or the latest) gets everything; amid a rollout the
// change is spread in proportion, so that a risky new version does not get more than its share.
func (r *rollout) scale() {
	if s := r.onlyActive(); s != nil {
		if s.replicas() != r.replicas() {
			r.resize(s, r.replicas())
		} else {
			r.annotateReplicas(s)
		}
		return
	}
	if r.saturated() {
		for _, s := range active(r.old) {
			r.resize(s, 0)
		}
		return
	}
	if !r.recreates() {
		r.proportion(active(r.all()))
	}
}

// onlyActive is the one set with replicas; when none has, the current or newest one; when several have, nil.
func (r *rollout) onlyActive() *set {
	all := active(r.all())
	switch {
	case len(all) == 1:
		return all[0]
	case len(all) > 1:
		return nil
	case r.current != nil:
		return r.current
	case len(r.old) > 0:
		return r.old[len(r.old)-1]
	}
	return nil
}

// saturated reports whether the current set holds all replicas, knows so, and they are all available.
func (r *rollout) saturated() bool {
	if r.current == nil {
		return false
	}
	desired, ok := annotation(r.current, desiredAnnotation)
	want := r.replicas()
	return ok && desired == want && r.current.replicas() == want && r.current.Status.AvailableReplicas == want
}

func (r *rollout) proportion(sets []*set) {
	var allowed int32
	if r.replicas() > 0 {
		allowed = r.replicas() + r.maxSurge()
	}
	toAdd := allowed - total(sets)
	if toAdd == 0 {
		for _, s := range sets {
			r.annotateReplicas(s)
		}
		return
	}
	slices.SortFunc(sets, bySize(toAdd > 0))
	sizes := make([]int32, len(sets))
	var added int32
	for i, s := range sets {
		share := r.share(s, toAdd, added)
		sizes[i] = s.replicas() + share
		added += share
	}
	sizes[0] = max(0, sizes[0]+toAdd-added)
	for i, s := range sets {
		r.resize(s, sizes[i])
	}
}

// bySize orders the biggest sets first; of equal ones the newer first when growing, the older first when shrinking.
func bySize(growing bool) func(a, b *set) int {
	return func(a, b *set) int {
		if c := cmp.Compare(b.replicas(), a.replicas()); c != 0 {
			return c
		}
		if growing {
			return older(b, a)
		}
		return older(a, b)
	}
}

// share is how many of toAdd replicas (negative to remove) go to s when added are given already.
func (r *rollout) share(s *set, toAdd, added int32) int32 {
	if s.replicas() == 0 || toAdd == added {
		return 0
	}
	fraction := r.fraction(s)
	if toAdd > 0 {
		return min(fraction, toAdd-added)
	}
	return max(fraction, toAdd-added)
}

func (r *rollout) fraction(s *set) int32 {
	if r.replicas() == 0 {
		return -s.replicas()
	}
	before, ok := annotation(s, maxAnnotation)
	if !ok || before == 0 {
		if before = r.d.Status.Replicas; before == 0 {
			return 0
		}
	}
	size := float64(s.replicas()) * float64(r.replicas()+r.maxSurge()) / float64(before)
	return int32(math.Floor(size+0.5)) - s.replicas()
}

func active(sets []*set) []*set {
	var found []*set
	for _, s := range sets {
		if s.replicas() > 0 {
			found = append(found, s)
		}
	}
	return found
}

func total(sets []*set) int32 {
	var n int32
	for _, s := range sets {
		n += s.replicas()
	}
	return n
}

// cleanUp deletes the oldest empty sets beyond revisionHistoryLimit.
func (r *rollout) cleanUp() {
	limit := r.d.Spec.RevisionHistoryLimit
	if limit == nil || *limit == math.MaxInt32 {
		return
	}
	var alive []*set
	for _, s := range r.old {
		if s.DeletionTimestamp == nil {
			alive = append(alive, s)
		}
	}
	slices.SortStableFunc(alive, func(a, b *set) int { return cmp.Compare(revision(a.ReplicaSet), revision(b.ReplicaSet)) })
	for _, s := range alive[:max(0, len(alive)-int(*limit))] {
		if s.Status.Replicas == 0 && s.replicas() == 0 && s.Generation <= s.Status.ObservedGeneration {
			r.deleted = append(r.deleted, s.stored)
		}
	}
}
