package objects

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
)

// runtimeClass is the one that a pod asks for; nil when it asks for none, or there is none such.
func (s *Store) runtimeClass(pod *corev1.Pod) *nodev1.RuntimeClass {
	if pod.Spec.RuntimeClassName == nil {
		return nil
	}
	item, ok := s.view.Get(runtimeClasses, "", *pod.Spec.RuntimeClassName)
	if !ok {
		return nil
	}
	class, _ := item.Object.(*nodev1.RuntimeClass)
	return class
}

// admitRuntime gives a new pod what its RuntimeClass says of it, and tells its node which runtime it wants. What
// contradicts the class stays for refuseRuntime to see.
func (s *Store) admitRuntime(pod *corev1.Pod) {
	delete(pod.Annotations, api.AnnotationRuntime)
	class := s.runtimeClass(pod)
	if class == nil {
		return
	}
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, api.AnnotationRuntime, class.Handler)
	if class.Overhead != nil && len(pod.Spec.Overhead) == 0 {
		pod.Spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class.Scheduling == nil {
		return
	}
	for key, value := range class.Scheduling.NodeSelector {
		if _, set := pod.Spec.NodeSelector[key]; !set {
			if pod.Spec.NodeSelector == nil {
				pod.Spec.NodeSelector = map[string]string{}
			}
			pod.Spec.NodeSelector[key] = value
		}
	}
	for _, t := range class.Scheduling.Tolerations {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(have corev1.Toleration) bool { return equality.Semantic.DeepEqual(have, t) }) {
			pod.Spec.Tolerations = append(pod.Spec.Tolerations, t)
		}
	}
}

// refuseRuntime is upstream's RuntimeClass admission, after admitRuntime.
func (s *Store) refuseRuntime(pod *corev1.Pod) error {
	forbidden := func(format string, args ...any) error {
		return apierrors.NewForbidden(pods.GroupResource(), pod.Name, fmt.Errorf(format, args...))
	}
	class := s.runtimeClass(pod)
	if class == nil && pod.Spec.RuntimeClassName != nil {
		return forbidden("pod rejected: RuntimeClass %q not found", *pod.Spec.RuntimeClassName)
	}
	if class == nil || class.Overhead == nil {
		if pod.Spec.Overhead != nil {
			return forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	} else if !equality.Semantic.DeepEqual(class.Overhead.PodFixed, pod.Spec.Overhead) {
		return forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
	}
	if class == nil || class.Scheduling == nil {
		return nil
	}
	for key, value := range class.Scheduling.NodeSelector {
		if have := pod.Spec.NodeSelector[key]; have != value {
			return forbidden("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, have)
		}
	}
	return nil
}
