package objects

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	genericvalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// GetScale is the scale of a deployment, replica set, stateful set or replication controller.
func (s *Store) GetScale(res *resource.Resource, namespace, name string) (*autoscalingv1.Scale, error) {
	item, ok := s.view.Get(res, namespace, name)
	if !ok {
		return nil, scaleError(res, name, notFound(res, name))
	}
	return scaleOf(item.Object)
}

// UpdateScale sets the replicas that scale asks for; its resourceVersion and UID are preconditions when set.
func (s *Store) UpdateScale(ctx context.Context, res *resource.Resource, namespace string, scale *autoscalingv1.Scale, o WriteOptions) (*autoscalingv1.Scale, error) {
	once := scale.ResourceVersion != ""
	out, err := s.modify(ctx, res, namespace, scale.Name, partSpec, once, write{WriteOptions: o, asked: res, subresource: resource.Scale}, func(item *view.Item) (runtime.Object, error) {
		return withScale(item, scale)
	})
	if err != nil {
		return nil, err
	}
	return scaleOf(out)
}

// scaleError names the subresource when the object is missing, as upstream.
func scaleError(res *resource.Resource, name string, err error) error {
	if isNotFound(res, err, name) {
		return apierrors.NewNotFound(schema.GroupResource{Group: res.GVK.Group, Resource: res.Plural + "/" + resource.Scale}, name)
	}
	return err
}

func scaleOf(obj runtime.Object) (*autoscalingv1.Scale, error) {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		return newScale(o, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *appsv1.ReplicaSet:
		return newScale(o, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *appsv1.StatefulSet:
		return newScale(o, o.Spec.Replicas, o.Status.Replicas, o.Spec.Selector)
	case *corev1.ReplicationController:
		return newScale(o, o.Spec.Replicas, o.Status.Replicas, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
	}
	return nil, apierrors.NewBadRequest(fmt.Sprintf("%T cannot be scaled", obj))
}

func newScale(m metav1.Object, want *int32, have int32, selector *metav1.LabelSelector) (*autoscalingv1.Scale, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("selector of %s/%s: %w", m.GetNamespace(), m.GetName(), err))
	}
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{
			Name: m.GetName(), Namespace: m.GetNamespace(), UID: m.GetUID(),
			ResourceVersion: m.GetResourceVersion(), CreationTimestamp: m.GetCreationTimestamp(),
		},
		Status: autoscalingv1.ScaleStatus{Replicas: have, Selector: parsed.String()},
	}
	if want != nil {
		scale.Spec.Replicas = *want
	}
	scale.SetGroupVersionKind(scaleKind)
	return scale, nil
}

// withScale is a copy of the item with the replicas, and under the preconditions, of scale.
func withScale(item *view.Item, obj runtime.Object) (runtime.Object, error) {
	scale, ok := obj.(*autoscalingv1.Scale)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("expected input object type to be Scale, but %T", obj))
	}
	if errs := genericvalidation.ValidateNonnegativeField(int64(scale.Spec.Replicas), field.NewPath("spec", "replicas")); len(errs) > 0 {
		return nil, apierrors.NewInvalid(scaleKind.GroupKind(), scale.Name, errs)
	}
	out := item.Object.DeepCopyObject()
	switch o := out.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = &scale.Spec.Replicas
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = &scale.Spec.Replicas
	case *appsv1.StatefulSet:
		o.Spec.Replicas = &scale.Spec.Replicas
	case *corev1.ReplicationController:
		o.Spec.Replicas = &scale.Spec.Replicas
	default:
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%T cannot be scaled", out))
	}
	metaOf(out).SetResourceVersion(scale.ResourceVersion)
	metaOf(out).SetUID(scale.UID)
	return out, nil
}

// readScale makes a Scale's manifest one of the object that is scaled: who applies a scale owns the object's replicas, and
// nothing else.
func (a *application) readScale(manifest []byte, o WriteOptions) error {
	var scale struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta `json:"metadata"`
		Spec            struct {
			Replicas *int32 `json:"replicas"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(manifest, &scale); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if have := scale.GroupVersionKind(); have != scaleKind {
		return apierrors.NewBadRequest(wrongKind(scaleKind, have))
	}
	if scale.Spec.Replicas == nil {
		return apierrors.NewInvalid(scaleKind.GroupKind(), a.name, field.ErrorList{field.Required(field.NewPath("spec", "replicas"), "")})
	}
	replicas := int64(*scale.Spec.Replicas)
	if errs := genericvalidation.ValidateNonnegativeField(replicas, field.NewPath("spec", "replicas")); len(errs) > 0 {
		return apierrors.NewInvalid(scaleKind.GroupKind(), a.name, errs)
	}
	a.manifest = &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	a.manifest.SetGroupVersionKind(a.to.Resource.GVK)
	a.manifest.SetName(scale.Metadata.Name)
	a.manifest.SetNamespace(scale.Metadata.Namespace)
	a.manifest.SetUID(scale.Metadata.UID)
	a.manifest.SetResourceVersion(scale.Metadata.ResourceVersion)
	return checkFields(manifest, &autoscalingv1.Scale{}, o)
}

// appliedScale is what applying a scale gives.
func appliedScale(a *application, obj runtime.Object, err error) (runtime.Object, bool, error) {
	if err != nil {
		return nil, false, scaleError(a.to.Resource, a.name, err)
	}
	out, err := asScale(obj)
	return out, false, err
}
