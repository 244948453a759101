package daemonset

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// labelGeneration is upstream's older mark of a pod's template; clients still read it.
const labelGeneration = "pod-template-generation"

// create makes a pod for a node.
func (w *work) create(node string) {
	if w.made == burst {
		return // the next pass goes on
	}
	w.made++
	template := w.ds.Spec.Template.DeepCopy()
	prefix := controller.NamePrefix(w.ds.Name, "-")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.ds.Namespace, Name: w.names.Next(prefix), GenerateName: prefix,
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{reference(w.ds)},
		},
		Spec: template.Spec,
	}
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[appsv1.ControllerRevisionHashLabelKey] = w.hash
	pod.Labels[labelGeneration] = w.ds.Annotations[appsv1.DeprecatedTemplateGeneration]
	pod.Spec.Affinity = pinned(pod.Spec.Affinity, node)
	pod.Spec.Tolerations = tolerations(&pod.Spec)
	w.changes = append(w.changes, controller.Change{
		Verb: controller.Create, Object: pod,
		Events: []controller.Event{event(w.ds, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+pod.Name)},
	})
}
