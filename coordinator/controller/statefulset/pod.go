package statefulset

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/history"
)

// create makes the pod at that place: below the partition from the template that the pods there have.
func (w *work) create(place int) {
	revision, template := w.update, &w.set.Spec.Template
	if w.set.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType && place < w.partition() {
		old, err := history.Template(w.current)
		if err == nil { // a revision that cannot be read is one of another program's making
			revision, template = w.current, old
		}
	}
	template = template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.set.Namespace, Name: w.set.Name + "-" + strconv.Itoa(start(w.set)+place), GenerateName: w.set.Name + "-",
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{reference(w.set)},
		},
		Spec: template.Spec,
	}
	identify(pod, start(w.set)+place)
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = revision.Name
	pod.Spec.Hostname, pod.Spec.Subdomain = pod.Name, w.set.Spec.ServiceName
	mountClaims(pod, w.set, start(w.set)+place)
	message := "create Pod " + pod.Name + " in StatefulSet " + w.set.Name + " successful"
	w.changes = append(w.changes, controller.Change{
		Verb: controller.Create, Object: pod, Events: []controller.Event{event(w.set, "SuccessfulCreate", message)},
	})
}

// identify labels a pod by what it alone is.
func identify(pod *corev1.Pod, number int) {
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.StatefulSetPodNameLabel] = pod.Name
	pod.Labels[appsv1.PodIndexLabel] = strconv.Itoa(number)
}

func labelled(pod *corev1.Pod) bool {
	return pod.Labels[appsv1.StatefulSetPodNameLabel] == pod.Name && pod.Labels[appsv1.PodIndexLabel] != ""
}

// label puts back what somebody has taken off, or what an adopted pod never had.
func (w *work) label(pod *corev1.Pod) {
	if pod.DeletionTimestamp != nil {
		return
	}
	updated := pod.DeepCopy()
	identify(updated, ordinal(w.set, pod))
	w.changes = append(w.changes, controller.Change{Verb: controller.Update, Object: updated})
}

func revisionOf(pod *corev1.Pod) string {
	return pod.Labels[appsv1.ControllerRevisionHashLabelKey]
}

// partition is the first place that an update reaches.
func (w *work) partition() int {
	r := w.set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.Partition == nil {
		return 0
	}
	return int(*r.Partition)
}

// maxUnavailable is how many pods may be missing during an update, at least one.
func (w *work) maxUnavailable() int {
	r := w.set.Spec.UpdateStrategy.RollingUpdate
	if r == nil || r.MaxUnavailable == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, replicas(w.set), false)
	if err != nil {
		return 1
	}
	return max(1, n)
}
