package daemonset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// bounds are how many nodes may have one pod more, and how many one less, while the template changes.
func (w *work) bounds() (surge, unavailable int) {
	r := w.ds.Spec.UpdateStrategy.RollingUpdate
	if w.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType || r == nil {
		return 0, 1
	}
	surge, unavailable = scaled(r.MaxSurge, w.desired), scaled(r.MaxUnavailable, w.desired)
	if surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	return surge, unavailable
}

// scaled rounds up; what cannot be read is none, and validation lets it not through.
func scaled(v *intstr.IntOrString, of int) int {
	if v == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, of, true)
	if err != nil {
		return 0
	}
	return n
}

func (w *work) surges() bool {
	r := w.ds.Spec.UpdateStrategy.RollingUpdate
	return w.ds.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType && r != nil && scaled(r.MaxSurge, 1) > 0
}

func (w *work) update() {
	surge, unavailable := w.bounds()
	if surge == 0 {
		w.replace(unavailable)
		return
	}
	w.overlap(surge)
}

// replace deletes pods of an older template: all that are of no use, and as many others as may be missing. The places
// that it empties are filled by manage. Pods that are being deleted count as missing only where nothing replaces them
// yet.
func (w *work) replace(unavailable int) {
	missing := 0
	var useful []*corev1.Pod
	for _, at := range w.places {
		switch {
		case !at.run && len(at.pods) == 0:
		case at.crowded || (at.fresh == nil) == (at.stale == nil):
			missing++ // manage sees to it
		case at.fresh != nil:
			if !w.available(at.fresh) {
				missing++
			}
		case !w.available(at.stale):
			missing++
			w.remove(at.stale)
		default:
			useful = append(useful, at.stale)
		}
	}
	w.remove(useful[:max(0, min(unavailable-missing, len(useful)))]...)
}

// overlap starts pods of the new template beside the old ones, and deletes an old one when the new one is available. On a
// node that should run none any more the old one stays until as many others are available as should be.
func (w *work) overlap(surge int) {
	busy, available := 0, 0
	var candidates []string
	var misplaced []*corev1.Pod
	for _, at := range w.places {
		if at.crowded {
			busy++
			continue
		}
		good := at.stale != nil && w.available(at.stale) || at.stale == nil && at.fresh != nil && w.available(at.fresh)
		if good {
			available++
		}
		switch {
		case at.stale == nil:
		case at.fresh != nil && w.available(at.fresh):
			w.remove(at.stale)
		case at.fresh != nil:
			busy++
		case !at.run && good:
			misplaced = append(misplaced, at.stale)
		case !at.run:
			w.remove(at.stale)
		case !good:
			w.create(at.name)
		default:
			candidates = append(candidates, at.name)
		}
	}
	w.remove(misplaced[:max(0, min(available-w.desired, len(misplaced)))]...)
	for _, node := range candidates[:max(0, min(surge-busy, len(candidates)))] {
		w.create(node)
	}
}
