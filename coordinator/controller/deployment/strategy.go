package deployment

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// recreates reports whether everything old stops before anything new starts: where the strategy says so, and where the
// pods may not run twice at once.
func (r *rollout) recreates() bool {
	return r.d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType || r.d.Spec.Template.Annotations[api.AnnotationSingleton] == "true"
}

// newReplicas is the size that the current set may have now.
func (r *rollout) newReplicas(s *set) int32 {
	if r.recreates() {
		return r.replicas()
	}
	sets := append([]*set{s}, r.old...)
	room := r.replicas() + r.maxSurge() - total(sets)
	if room <= 0 {
		return s.replicas()
	}
	return s.replicas() + min(room, r.replicas()-s.replicas())
}

// roll takes one step of a rolling update.
func (r *rollout) roll() {
	if r.current == nil {
		r.create()
		return
	}
	if r.growCurrent() || r.shrinkOld() {
		return
	}
	if r.complete(&r.d.Status) {
		r.cleanUp()
	}
}

func (r *rollout) growCurrent() bool {
	size := r.current.replicas()
	switch {
	case size == r.replicas():
		return false
	case size > r.replicas():
		return r.resize(r.current, r.replicas())
	}
	return r.resize(r.current, r.newReplicas(r.current))
}

// shrinkOld removes old replicas while enough stay available: first such as are not available anyway, which may be many
// when the old version is broken, then available ones. Replicas of the current set that are not available yet are held
// back for, so that a rollout that gets stuck stops.
func (r *rollout) shrinkOld() bool {
	old := active(r.old)
	if len(old) == 0 {
		return false
	}
	pending := r.current.replicas() - r.current.Status.AvailableReplicas
	room := total(r.all()) - r.minAvailable() - pending
	if room <= 0 {
		return false
	}
	unhealthy := r.shrink(old, room, func(s *set) int32 { return s.replicas() - s.Status.AvailableReplicas })
	healthy := r.shrink(old, available(r.all())-r.minAvailable(), (*set).replicas)
	return unhealthy || healthy
}

// shrink removes up to budget replicas from the sets in turn, from each as many as spare says.
func (r *rollout) shrink(sets []*set, budget int32, spare func(*set) int32) bool {
	shrunk := false
	for _, s := range sets {
		n := min(budget, spare(s), s.replicas())
		if n <= 0 {
			continue
		}
		budget -= n
		shrunk = r.resize(s, s.replicas()-n) || shrunk
	}
	return shrunk
}

func available(sets []*set) int32 {
	var n int32
	for _, s := range sets {
		n += s.Status.AvailableReplicas
	}
	return n
}

// recreate stops everything old before it starts anything new.
func (r *rollout) recreate() {
	stopped := false
	for _, s := range active(r.old) {
		stopped = r.resize(s, 0) || stopped
	}
	if stopped || r.oldPodsRun() {
		return
	}
	if r.current == nil {
		r.create()
		return
	}
	r.resizeIfNeeded(r.current, r.replicas())
	if r.complete(&r.d.Status) {
		r.cleanUp()
	}
}

func (r *rollout) resizeIfNeeded(s *set, size int32) {
	if s.replicas() != size {
		r.resize(s, size)
	}
}

// oldPodsRun reports whether any pod of an old set may still run; one that is being deleted may.
func (r *rollout) oldPodsRun() bool {
	if r.pods == nil {
		r.pods = controller.PodsByOwner(r.s.Pods)
	}
	for _, s := range r.old {
		if s.Status.Replicas > 0 {
			return true
		}
		for _, pod := range r.pods[s.UID] {
			if pod.Status.Phase != corev1.PodFailed && pod.Status.Phase != corev1.PodSucceeded {
				return true
			}
		}
	}
	return false
}
