package deployment

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Annotations that upstream's controller and kubectl agree on.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	historyAnnotation  = "deployment.kubernetes.io/revision-history"
	desiredAnnotation  = "deployment.kubernetes.io/desired-replicas"
	maxAnnotation      = "deployment.kubernetes.io/max-replicas"

	historyLimit = 2000 // bytes of historyAnnotation
)

// private annotations are not copied from the deployment to its sets.
var private = map[string]bool{
	corev1.LastAppliedConfigAnnotation: true, revisionAnnotation: true, historyAnnotation: true, desiredAnnotation: true,
	maxAnnotation: true, appsv1.DeprecatedRollbackTo: true,
}

// syncRevision gives the current set the highest revision, and the deployment the revision of its current set. A set that
// a rollback made current again gets a new revision and remembers its old ones.
func (r *rollout) syncRevision() {
	s := r.current
	if s == nil {
		return
	}
	r.copyAnnotations(s)
	raiseRevision(s, r.nextRevision())
	if s.Spec.MinReadySeconds != r.d.Spec.MinReadySeconds {
		s.edit().Spec.MinReadySeconds = r.d.Spec.MinReadySeconds
	}
	if r.d.Annotations[revisionAnnotation] != s.Annotations[revisionAnnotation] {
		r.d.Annotations = maps.Clone(r.d.Annotations)
		if r.d.Annotations == nil {
			r.d.Annotations = map[string]string{}
		}
		r.d.Annotations[revisionAnnotation] = s.Annotations[revisionAnnotation]
		r.markFound(s)
	}
	r.markFirst(s)
}

// markFound notes in the Progressing condition that a set which this controller created is there.
func (r *rollout) markFound(s *set) {
	if hasDeadline(r.d) && s.Annotations[historyAnnotation] == "" {
		r.setCondition(progressing(corev1.ConditionTrue, reasonNewSet, fmt.Sprintf("Created new replica set %q", s.Name)))
	}
}

// markFirst starts the estimate of progress for a deployment that never had one.
func (r *rollout) markFirst(s *set) {
	if hasDeadline(r.d) && r.progress() == nil {
		r.setCondition(progressing(corev1.ConditionTrue, reasonFoundSet, fmt.Sprintf("Found new replica set %q", s.Name)))
	}
}

func (r *rollout) copyAnnotations(s *set) {
	for k, v := range r.d.Annotations {
		if have, set := s.Annotations[k]; private[k] || (set && have == v) {
			continue
		}
		s.annotate(k, v)
	}
}

func (s *set) annotate(k, v string) {
	rs := s.edit()
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	rs.Annotations[k] = v
}

func (r *rollout) nextRevision() int64 {
	var highest int64
	for _, s := range r.old {
		highest = max(highest, revision(s.ReplicaSet))
	}
	return highest + 1
}

// revision is zero for a set without one, or with one that is no number.
func revision(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func raiseRevision(s *set, next int64) {
	have, numbered := s.Annotations[revisionAnnotation]
	if numbered {
		if _, err := strconv.ParseInt(have, 10, 64); err != nil {
			return // somebody wrote nonsense: as upstream, it is left alone
		}
	}
	if revision(s.ReplicaSet) >= next {
		return
	}
	if numbered {
		s.annotate(historyAnnotation, appendHistory(s.Annotations[historyAnnotation], have))
	}
	s.annotate(revisionAnnotation, strconv.FormatInt(next, 10))
}

// appendHistory adds a revision and forgets the oldest ones beyond the limit.
func appendHistory(history, revision string) string {
	if history == "" {
		return revision
	}
	history += "," + revision
	for len(history) > historyLimit {
		_, rest, more := strings.Cut(history, ",")
		if !more {
			break
		}
		history = rest
	}
	return history
}

func (r *rollout) annotateReplicas(s *set) {
	for k, v := range r.replicaAnnotations() {
		if s.Annotations[k] != v {
			s.annotate(k, v)
		}
	}
}

func (r *rollout) replicaAnnotations() map[string]string {
	return map[string]string{
		desiredAnnotation: strconv.Itoa(int(r.replicas())),
		maxAnnotation:     strconv.Itoa(int(r.replicas() + r.maxSurge())),
	}
}

// annotation reads a count; false when it is missing or no count.
func annotation(s *set, name string) (int32, bool) {
	n, err := strconv.ParseInt(s.Annotations[name], 10, 32)
	if err != nil || n < 0 {
		return 0, false
	}
	return int32(n), true
}
