package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
)

// PodFinished reports whether the pod's containers have ended for good.
func PodFinished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// PodActive reports whether the pod works towards its owner's wanted number: neither finished nor being deleted.
func PodActive(p *corev1.Pod) bool { return !PodFinished(p) && p.DeletionTimestamp == nil }

// PodCondition returns the pod's condition of that type, nil when it has none.
func PodCondition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// PodReady reports whether the pod's Ready condition is True.
func PodReady(p *corev1.Pod) bool {
	c := PodCondition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// PodReadySince is when the pod became ready; zero when it is not or does not say.
func PodReadySince(p *corev1.Pod) time.Time {
	if c := PodCondition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// PodAvailable reports whether the pod has been ready for minReadySeconds. When it is ready but not yet for so long,
// wake is when it will be.
func PodAvailable(p *corev1.Pod, minReadySeconds int32, now time.Time) (available bool, wake time.Time) {
	if !PodReady(p) {
		return false, time.Time{}
	}
	since := PodReadySince(p)
	if minReadySeconds == 0 {
		return true, time.Time{}
	}
	if since.IsZero() {
		return false, time.Time{}
	}
	due := since.Add(time.Duration(minReadySeconds) * time.Second)
	if !due.After(now) {
		return true, time.Time{}
	}
	return false, due
}

// PodEnd is when a pod that has ended or is being deleted did so, as well as can be told.
func PodEnd(pod *corev1.Pod) time.Time {
	var last time.Time
	for i := range pod.Status.ContainerStatuses {
		t := pod.Status.ContainerStatuses[i].State.Terminated
		if t == nil || t.FinishedAt.IsZero() {
			last = time.Time{}
			break
		}
		if t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	if !last.IsZero() {
		return last
	}
	if c := PodCondition(pod, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if at := pod.DeletionTimestamp; at != nil {
		if grace := pod.DeletionGracePeriodSeconds; grace != nil {
			return at.Add(-time.Duration(*grace) * time.Second)
		}
		return at.Time
	}
	return pod.CreationTimestamp.Time
}

// SetPodCondition puts c into the status, keeping the transition time while the status of the condition stays, and
// reports whether anything changed. A zero LastTransitionTime becomes now.
func SetPodCondition(status *corev1.PodStatus, c corev1.PodCondition, now time.Time) bool {
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = metav1.NewTime(now)
	}
	for i := range status.Conditions {
		have := &status.Conditions[i]
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
			c.LastProbeTime = have.LastProbeTime
		}
		changed := *have != c
		*have = c
		return changed
	}
	status.Conditions = append(status.Conditions, c)
	return true
}

// PodsByOwner indexes pods by the UID of their controller; pods without one are under "".
func PodsByOwner(pods []*corev1.Pod) map[types.UID][]*corev1.Pod {
	index := make(map[types.UID][]*corev1.Pod)
	for _, p := range pods {
		var owner types.UID
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
			owner = ref.UID
		}
		index[owner] = append(index[owner], p)
	}
	return index
}

// Standby reports whether p was started to take over from an active pod of siblings (the pods of one owner) and so does
// not count yet.
func Standby(p *corev1.Pod, siblings []*corev1.Pod) bool {
	replaced := types.UID(p.Annotations[api.AnnotationReplaces])
	if replaced == "" {
		return false
	}
	for _, s := range siblings {
		if s.UID == replaced {
			return PodActive(s)
		}
	}
	return false
}

// PodReference names p for an event.
func PodReference(p *corev1.Pod) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion}
}
