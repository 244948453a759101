package job

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// indexVariable tells a container of an Indexed Job which part of the work is its own.
const indexVariable = "JOB_COMPLETION_INDEX"

// newPod makes a pod of the Job under that name.
func (w *work) newPod(name string) *corev1.Pod {
	template := w.job.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.job.Namespace, Name: name, GenerateName: controller.NamePrefix(w.job.Name, "-"),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{reference(w.job)},
		},
		Spec: template.Spec,
	}
	if !slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer) {
		pod.Finalizers = append(pod.Finalizers, batchv1.JobTrackingFinalizer)
	}
	return pod
}

// newIndexedPod makes the pod for one index, with its predecessor's count of failures.
func (w *work) newIndexedPod(names *controller.Names, index int) *corev1.Pod {
	text := strconv.Itoa(index)
	prefix := controller.NamePrefix(w.job.Name, "-"+text+"-")
	pod := w.newPod(names.Next(prefix))
	pod.GenerateName = prefix
	pod.Spec.Hostname = w.job.Name + "-" + text
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Labels[batchv1.JobCompletionIndexAnnotation] = text
	pod.Annotations[batchv1.JobCompletionIndexAnnotation] = text
	w.carryFailures(pod, index)
	tellIndex(pod.Spec.InitContainers)
	tellIndex(pod.Spec.Containers)
	return pod
}

func (w *work) carryFailures(pod *corev1.Pod, index int) {
	if w.job.Spec.BackoffLimitPerIndex == nil {
		return
	}
	var failures, ignored int32
	if last := w.delayed[index]; last != nil {
		failures, ignored = failuresBefore(last), ignoredBefore(last)
		if w.counts(last) {
			failures++
		} else {
			ignored++
		}
	}
	pod.Annotations[batchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(failures))
	if ignored > 0 {
		pod.Annotations[batchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
	}
}

func tellIndex(containers []corev1.Container) {
	for i := range containers {
		c := &containers[i]
		if slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == indexVariable }) {
			continue
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: fmt.Sprintf("metadata.labels['%s']", batchv1.JobCompletionIndexAnnotation)},
		}})
	}
}
