package disruption

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/resource"
)

// demand is how many pods the budget counts on, and how many of them must be healthy.
func (p *planner) demand(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod) (expected, healthy int32, err error) {
	if least := b.Spec.MinAvailable; b.Spec.MaxUnavailable == nil {
		if least == nil {
			return 0, 0, nil
		}
		if least.Type == intstr.Int {
			return int32(len(pods)), least.IntVal, nil
		}
		expected, healthy, err = p.share(least, pods)
		return expected, healthy, err
	}
	expected, most, err := p.share(b.Spec.MaxUnavailable, pods)
	return expected, max(0, expected-most), err
}

// share is the sum of what the pods' controllers want, and a number or part of it, rounded up.
func (p *planner) share(of *intstr.IntOrString, pods []*corev1.Pod) (expected, part int32, err error) {
	scales := map[types.UID]int32{}
	for _, pod := range pods {
		ref := metav1.GetControllerOfNoCopy(pod)
		if ref == nil {
			continue // upstream leaves pods without a controller out too
		}
		if err := p.scale(scales, ref, pod); err != nil {
			return 0, 0, err
		}
	}
	for _, n := range scales {
		expected += n
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(of, int(expected), true)
	return expected, int32(n), err //nolint:gosec // a part of an int32, or one that validation has read as one
}

// scale notes what the pod's controller, or that one's controller, wants.
func (p *planner) scale(scales map[types.UID]int32, ref *metav1.OwnerReference, pod *corev1.Pod) error {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return fmt.Errorf("controller of pod %q: %w", pod.Name, err)
	}
	var uid types.UID
	var n *int32
	switch kind := gv.WithKind(ref.Kind); kind.GroupKind() {
	case controller.ReplicaSetKind:
		uid, n = p.replicaSet(pod.Namespace, ref)
	case controller.StatefulSetKind:
		if set := named(p.s.StatefulSets, pod.Namespace, ref); set != nil {
			uid, n = set.UID, set.Spec.Replicas
		}
	case controller.ReplicationControllerKind:
		rc := named(controller.Rest[*corev1.ReplicationController](p.s, controller.ReplicationControllerKind), pod.Namespace, ref)
		if rc != nil {
			uid, n = rc.UID, rc.Spec.Replicas
		}
	default:
		return unscalable(kind)
	}
	if uid == "" {
		return fmt.Errorf("found no controllers for pod %q", pod.Name)
	}
	scales[uid] = 1
	if n != nil {
		scales[uid] = *n
	}
	return nil
}

// replicaSet is the scale of the set's Deployment when it has one.
func (p *planner) replicaSet(namespace string, ref *metav1.OwnerReference) (types.UID, *int32) {
	set := named(p.s.ReplicaSets, namespace, ref)
	if set == nil {
		return "", nil
	}
	above := metav1.GetControllerOfNoCopy(set)
	if above == nil || above.Kind != controller.DeploymentKind.Kind {
		return set.UID, set.Spec.Replicas
	}
	if d := named(p.s.Deployments, namespace, above); d != nil {
		return d.UID, d.Spec.Replicas
	}
	return "", nil
}

func unscalable(kind schema.GroupVersionKind) error {
	if r := resource.ForKind(kind); r != nil {
		return fmt.Errorf("%s does not implement the scale subresource", r.GroupResource())
	}
	return fmt.Errorf("no matches for kind %q in version %q", kind.Kind, kind.GroupVersion())
}

type scaled interface {
	controller.Object
	*appsv1.ReplicaSet | *appsv1.StatefulSet | *appsv1.Deployment | *corev1.ReplicationController
}

// named is the very object that ref names; nil when it is gone, also when another one has its name now.
func named[T scaled](all []T, namespace string, ref *metav1.OwnerReference) T {
	for _, o := range controller.Within(all, namespace) {
		if o.GetName() == ref.Name && o.GetUID() == ref.UID {
			return o
		}
	}
	var none T
	return none
}
