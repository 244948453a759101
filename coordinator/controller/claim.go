package controller

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Closing is the set of the namespaces that are being deleted: nothing new is made there.
func Closing(namespaces []*corev1.Namespace) map[string]bool {
	index := make(map[string]bool)
	for _, ns := range namespaces {
		if ns.DeletionTimestamp != nil {
			index[ns.Name] = true
		}
	}
	return index
}

// Herd is the pods of a snapshot by owner.
type Herd struct {
	owned map[types.UID][]*corev1.Pod
	free  map[string][]*corev1.Pod // without a controller and not being deleted, by namespace
}

// NewHerd sorts the pods.
func NewHerd(pods []*corev1.Pod) *Herd {
	h := &Herd{owned: PodsByOwner(pods), free: map[string][]*corev1.Pod{}}
	for _, pod := range h.owned[""] {
		if pod.DeletionTimestamp == nil {
			h.free[pod.Namespace] = append(h.free[pod.Namespace], pod)
		}
	}
	return h
}

// Owned are the pods whose controller has that UID, sorted by name.
func (h *Herd) Owned(uid types.UID) []*corev1.Pod { return h.owned[uid] }

// Claim is one owner's claim to pods.
type Claim struct {
	Owner     metav1.Object
	Reference metav1.OwnerReference
	Selector  labels.Selector
	Fits      func(*corev1.Pod) bool // beside the selector; nil means all do
	Finalizer string                 // put on pods that are adopted; empty for none
}

func (c *Claim) matches(pod *corev1.Pod) bool {
	return c.Selector.Matches(labels.Set(pod.Labels)) && (c.Fits == nil || c.Fits(pod))
}

// Claim returns the pods that are the owner's, with those that it adopts as they will be, and the changes that adopt them
// and let go those that match no longer. An owner that is being deleted does neither.
func (h *Herd) Claim(c Claim) (pods []*corev1.Pod, changes []Change) {
	going := c.Owner.GetDeletionTimestamp() != nil
	for _, pod := range h.owned[c.Owner.GetUID()] {
		switch {
		case going || c.matches(pod):
			pods = append(pods, pod)
		case pod.DeletionTimestamp == nil:
			changes = append(changes, Change{Verb: Update, Object: released(pod, c.Owner.GetUID(), c.Finalizer)})
		}
	}
	if going {
		return pods, nil
	}
	namespace := c.Owner.GetNamespace()
	h.free[namespace] = slices.DeleteFunc(h.free[namespace], func(pod *corev1.Pod) bool {
		if !c.matches(pod) {
			return false
		}
		pod = adopted(pod, c)
		pods = append(pods, pod)
		changes = append(changes, Change{Verb: Update, Object: pod})
		return true
	})
	return pods, changes
}

func adopted(pod *corev1.Pod, c Claim) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.OwnerReferences = append(pod.OwnerReferences, c.Reference)
	if c.Finalizer != "" && !slices.Contains(pod.Finalizers, c.Finalizer) {
		pod.Finalizers = append(pod.Finalizers, c.Finalizer)
	}
	return pod
}

func released(pod *corev1.Pod, owner types.UID, finalizer string) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.OwnerReferences = slices.DeleteFunc(pod.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == owner })
	pod.Finalizers = slices.DeleteFunc(pod.Finalizers, func(f string) bool { return f == finalizer })
	return pod
}
