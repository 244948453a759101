package objects

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/view"
)

// Bind places a pod: node name, annotations, labels and the PodScheduled condition. The pod's name is the binding's.
func (s *Store) Bind(ctx context.Context, namespace string, b *corev1.Binding, o WriteOptions) error {
	if errs := bindingRules(b); len(errs) > 0 {
		return apierrors.NewInvalid(schema.GroupKind{Kind: "Binding"}, b.Name, errs)
	}
	place := placement{
		pod:  types.NamespacedName{Namespace: namespace, Name: b.Name},
		node: b.Target.Name, uid: b.UID, version: b.ResourceVersion, annotations: b.Annotations, labels: b.Labels,
		condition: corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	_, err := s.place(ctx, place, o)
	return err
}

func bindingRules(b *corev1.Binding) field.ErrorList {
	var errs field.ErrorList
	target := field.NewPath("target")
	if b.Target.Kind != "" && b.Target.Kind != "Node" {
		errs = append(errs, field.NotSupported(target.Child("kind"), b.Target.Kind, []string{"Node", "<empty>"}))
	}
	if b.Target.Name == "" {
		errs = append(errs, field.Required(target.Child("name"), ""))
	}
	return errs
}

// BindPod is Bind as a plan asks for it: pod carries spec.nodeName, the annotations to set, the PodScheduled condition,
// and its UID and resourceVersion as preconditions when set. Nothing else of it is looked at.
func (s *Store) BindPod(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error) {
	place := placement{
		pod:  types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name},
		node: pod.Spec.NodeName, uid: pod.UID, version: pod.ResourceVersion, annotations: pod.Annotations,
		condition: corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			place.condition = c
		}
	}
	if place.node == "" {
		return nil, invalid(pods, pod.Name, field.ErrorList{field.Required(field.NewPath("spec", "nodeName"), "")})
	}
	return s.place(ctx, place, WriteOptions{})
}

// placement is one pod's way to one node.
type placement struct {
	pod                 types.NamespacedName
	node                string
	uid                 types.UID
	version             string
	annotations, labels map[string]string
	condition           corev1.PodCondition
}

// place goes around the strategy, which lets nobody change a node name. A pod that is there already stays as it is.
func (s *Store) place(ctx context.Context, p placement, o WriteOptions) (out *corev1.Pod, err error) {
	err = s.attempt(ctx, pods, p.pod.Namespace, p.pod.Name, "bind", p.version != "", func(ctx context.Context, item *view.Item) error {
		if item == nil {
			return notFound(pods, p.pod.Name)
		}
		pod, ok := item.Object.DeepCopyObject().(*corev1.Pod)
		if !ok {
			return apierrors.NewInternalError(fmt.Errorf("%T under a pod's key", item.Object))
		}
		if err := p.check(pod); err != nil {
			return err
		}
		p.apply(pod, metav1.NewTime(s.now()).Rfc3339Copy())
		out = pod
		if o.DryRun || same(item, pod) {
			return nil
		}
		return s.replace(ctx, item, pod)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (p placement) check(pod *corev1.Pod) error {
	switch gr := (schema.GroupResource{Resource: "pods/binding"}); {
	case p.uid != "" && p.uid != pod.UID:
		return uidConflict(pods, pod.Name, p.uid, pod.UID)
	case p.version != "" && p.version != pod.ResourceVersion:
		return conflict(pods, pod.Name)
	case pod.DeletionTimestamp != nil:
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", pod.Name))
	case pod.Spec.NodeName != "" && pod.Spec.NodeName != p.node:
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf("pod %v is already assigned to node %q", pod.Name, pod.Spec.NodeName))
	case len(pod.Spec.SchedulingGates) != 0:
		return apierrors.NewConflict(gr, pod.Name, fmt.Errorf("pod %v has non-empty .spec.schedulingGates", pod.Name))
	}
	return nil
}

func (p placement) apply(pod *corev1.Pod, now metav1.Time) {
	pod.Spec.NodeName = p.node
	pod.Status.NominatedNodeName = ""
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	maps.Copy(pod.Annotations, p.annotations)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	maps.Copy(pod.Labels, p.labels)
	setCondition(&pod.Status, p.condition, now)
}

// setCondition replaces the condition of that type; its transition time moves with its status only.
func setCondition(status *corev1.PodStatus, c corev1.PodCondition, now metav1.Time) {
	if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = now
	}
	for n := range status.Conditions {
		if have := &status.Conditions[n]; have.Type == c.Type {
			if have.Status == c.Status {
				c.LastTransitionTime = have.LastTransitionTime
			}
			*have = c
			return
		}
	}
	status.Conditions = append(status.Conditions, c)
}

// FinishPod removes a pod whose node says that it is gone, if it has that uid and is being deleted, or force is set. It
// is no error when there is none such: the report may be old.
func (s *Store) FinishPod(ctx context.Context, namespace, name string, uid types.UID, force bool) error {
	item, ok := s.view.Get(pods, namespace, name)
	if !ok || item.Meta.GetUID() != uid || (item.Meta.GetDeletionTimestamp() == nil && !force) {
		return nil
	}
	var now int64
	_, _, err := s.Delete(ctx, pods, namespace, name, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(uid))})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) && !s.podIs(namespace, name, uid) {
		return nil
	}
	return err
}

func (s *Store) podIs(namespace, name string, uid types.UID) bool {
	item, ok := s.view.Get(pods, namespace, name)
	return ok && item.Meta.GetUID() == uid
}
