package validation

import (
	"bytes"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
)

// SamePodSpec reports whether two specs mean the same. Most are the same to the last byte, which their encodings say at a
// third of the cost of a comparison by reflection.
func SamePodSpec(a, b *corev1.PodSpec) bool {
	if a.Size() == b.Size() {
		one, err := a.Marshal()
		other, otherErr := b.Marshal()
		if err == nil && otherErr == nil && bytes.Equal(one, other) {
			return true
		}
	}
	return equality.Semantic.DeepEqual(a, b)
}

// podMarked reports whether a change of a pod is of nothing that upstream's rules for pods judge: what it is to run has
// been judged when it was created, and metadata is judged for all kinds alike. That is what labels, annotations, owners and
// finalizers change, most of all.
func podMarked(obj, old runtime.Object) bool {
	pod, ok := obj.(*corev1.Pod)
	before, both := old.(*corev1.Pod)
	return ok && both && !upstreamsDiffer(pod.Annotations, before.Annotations) && SamePodSpec(&pod.Spec, &before.Spec)
}

// upstreamsDiffer reports whether annotations differ in one of those that upstream's rules know: all have its domain.
func upstreamsDiffer(now, before map[string]string) bool {
	differs := func(a, b map[string]string) bool {
		for key, value := range a {
			if other, there := b[key]; (!there || other != value) && strings.Contains(key, "kubernetes.io/") {
				return true
			}
		}
		return false
	}
	return differs(now, before) || differs(before, now)
}
