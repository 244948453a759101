package replicaset

import (
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// NewPod makes the pod that rs asks for, under that name.
func NewPod(rs *appsv1.ReplicaSet, name string) *corev1.Pod {
	return newPod(rs, name, controller.Reference(rs, "apps/v1", "ReplicaSet"))
}

func newPod(rs *appsv1.ReplicaSet, name string, owner metav1.OwnerReference) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, Name: name, GenerateName: prefix(rs),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{owner},
		},
		Spec: template.Spec,
	}
}

func prefix(rs *appsv1.ReplicaSet) string { return controller.NamePrefix(rs.Name, "-") }

// NewName is the name of a further pod of rs, decided at that revision of the state.
func NewName(rs *appsv1.ReplicaSet, revision uint64, taken []*corev1.Pod) string {
	return controller.NewNames(rs, revision, taken).Next(prefix(rs))
}
