package autoscaler

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// target is what an autoscaler scales.
type target struct {
	problem  string // why there is none; the rest is empty then
	replicas int32  // asked for
	selector labels.Selector
	scaled   func(replicas int32) runtime.Object // a copy with other replicas
}

// target finds what h points at.
func (l *survey) target(h *autoscalingv2.HorizontalPodAutoscaler) *target {
	if t := l.targets[h.UID]; t != nil {
		return t
	}
	t := l.find(h)
	l.targets[h.UID] = t
	return t
}

var controllerKind = schema.GroupKind{Kind: "ReplicationController"}

func (l *survey) find(h *autoscalingv2.HorizontalPodAutoscaler) *target {
	ref, s := h.Spec.ScaleTargetRef, l.snapshot
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return &target{problem: err.Error()}
	}
	gk := schema.GroupKind{Group: gv.Group, Kind: ref.Kind}
	var t *target
	switch gk {
	case controller.DeploymentKind:
		t = scalable(named(s.Deployments, h.Namespace, ref.Name), func(d *appsv1.Deployment) (**int32, *metav1.LabelSelector) {
			return &d.Spec.Replicas, d.Spec.Selector
		})
	case controller.ReplicaSetKind:
		t = scalable(named(s.ReplicaSets, h.Namespace, ref.Name), func(r *appsv1.ReplicaSet) (**int32, *metav1.LabelSelector) {
			return &r.Spec.Replicas, r.Spec.Selector
		})
	case controller.StatefulSetKind:
		t = scalable(named(s.StatefulSets, h.Namespace, ref.Name), func(r *appsv1.StatefulSet) (**int32, *metav1.LabelSelector) {
			return &r.Spec.Replicas, r.Spec.Selector
		})
	case controllerKind:
		rc, _ := named(s.Others[controllerKind], h.Namespace, ref.Name).(*corev1.ReplicationController)
		t = scalable(rc, func(r *corev1.ReplicationController) (**int32, *metav1.LabelSelector) {
			return &r.Spec.Replicas, &metav1.LabelSelector{MatchLabels: r.Spec.Selector}
		})
	default:
		return &target{problem: fmt.Sprintf("no matches for kind %q in group %q", gk.Kind, gk.Group)}
	}
	if t == nil {
		resource := schema.GroupResource{Group: gk.Group, Resource: plurals[gk.Kind]}
		return &target{problem: fmt.Sprintf("%s %q not found", resource.String(), ref.Name)}
	}
	return t
}

var plurals = map[string]string{
	"Deployment": "deployments", "ReplicaSet": "replicasets", "StatefulSet": "statefulsets", "ReplicationController": "replicationcontrollers",
}

// named finds an object; the zero T when there is none.
func named[T controller.Object](sorted []T, namespace, name string) (found T) {
	for _, o := range inNamespace(sorted, namespace) {
		if o.GetName() == name {
			return o
		}
	}
	return found
}

// pointer is an object that can be copied to one of its own type.
type pointer[T any] interface {
	*T
	runtime.Object
	DeepCopy() *T
}

// scalable makes a target of an object; nil for none. part finds its replicas and its selector.
func scalable[T any, PT pointer[T]](o PT, part func(PT) (**int32, *metav1.LabelSelector)) *target {
	if o == nil {
		return nil
	}
	replicas, selects := part(o)
	selector, err := metav1.LabelSelectorAsSelector(selects)
	if err != nil {
		return &target{problem: err.Error()}
	}
	t := &target{replicas: 1, selector: selector, scaled: func(n int32) runtime.Object {
		changed := PT(o.DeepCopy())
		field, _ := part(changed)
		*field = &n
		return changed
	}}
	if *replicas != nil {
		t.replicas = **replicas
	}
	return t
}
