package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Scheme knows the served kinds, the bodies of their subresources, and the options and Status of meta/v1, each in its
// one served version. Defaulting is not on it: a decoder never changes what a client sent.
var Scheme = newScheme()

// Codecs reads and writes the objects of Scheme as JSON, YAML and protobuf.
var Codecs = serializer.NewCodecFactory(Scheme)

// newScheme registers types one by one, not by AddToScheme: upstream's internal packages hook their defaults and
// conversions into that when they happen to be linked.
func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, r := range served.all {
		s.AddKnownTypeWithName(r.GVK, r.New())
		s.AddKnownTypeWithName(r.ListGVK(), r.NewList())
		metav1.AddToGroupVersion(s, r.GVK.GroupVersion())
	}
	s.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Binding{}, &corev1.PodLogOptions{}, &corev1.PodExecOptions{},
		&corev1.PodAttachOptions{}, &corev1.PodPortForwardOptions{}, &corev1.PodProxyOptions{}, &corev1.ServiceProxyOptions{}, &corev1.NodeProxyOptions{})
	s.AddKnownTypes(autoscalingv1.SchemeGroupVersion, &autoscalingv1.Scale{})
	s.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenRequest{})
	s.AddKnownTypes(policyv1.SchemeGroupVersion, &policyv1.Eviction{})
	s.AddKnownTypes(metricsv1beta1.SchemeGroupVersion, &metricsv1beta1.NodeMetrics{}, &metricsv1beta1.NodeMetricsList{},
		&metricsv1beta1.PodMetrics{}, &metricsv1beta1.PodMetricsList{})
	for _, gv := range []schema.GroupVersion{autoscalingv1.SchemeGroupVersion, policyv1.SchemeGroupVersion, authenticationv1.SchemeGroupVersion, metav1.SchemeGroupVersion} {
		metav1.AddToGroupVersion(s, gv)
	}
	return s
}

// protobufPrefix starts every stored protobuf value, as in etcd.
var protobufPrefix = []byte("k8s\x00")

type marshaler interface{ Marshal() ([]byte, error) }

type unmarshaler interface {
	Unmarshal([]byte) error
	Reset()
}

// Encode writes obj for the store: protobuf in upstream's envelope for Kubernetes kinds, JSON for Skerry's own. The kind
// and apiVersion written are those of the table, whatever the object says; its resourceVersion is written as it is. An
// alias must be converted first. It does not change obj.
func Encode(obj runtime.Object) ([]byte, error) {
	r := ForObject(obj)
	if r == nil {
		return nil, fmt.Errorf("encode %T: not a served kind", obj)
	}
	m, ok := obj.(marshaler)
	if !ok {
		return encodeJSON(r, obj)
	}
	raw, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.GVK.Kind, err)
	}
	apiVersion, kind := r.GVK.ToAPIVersionAndKind()
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
	out := make([]byte, len(protobufPrefix)+unknown.Size())
	n, err := unknown.MarshalTo(out[copy(out, protobufPrefix):])
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.GVK.Kind, err)
	}
	return out[:len(protobufPrefix)+n], nil
}

func encodeJSON(r *Resource, obj runtime.Object) ([]byte, error) {
	if obj.GetObjectKind().GroupVersionKind() != r.GVK {
		obj = obj.DeepCopyObject()
		obj.GetObjectKind().SetGroupVersionKind(r.GVK)
	}
	out, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", r.GVK.Kind, err)
	}
	return out, nil
}

// Decode reads what Encode wrote. The object has its kind and apiVersion set and shares no memory with data. Foreign or
// cut bytes and kinds that are not served give an error.
func Decode(data []byte) (runtime.Object, error) {
	obj, _, err := Open(data)
	return obj, err
}

// Open is Decode, and gives the object's protobuf form without the envelope too; nil for a kind that is kept as JSON.
func Open(data []byte) (obj runtime.Object, body []byte, err error) {
	if body, ok := bytes.CutPrefix(data, protobufPrefix); ok {
		return openProtobuf(body)
	}
	var head metav1.TypeMeta
	if err := utiljson.Unmarshal(data, &head); err != nil {
		return nil, nil, fmt.Errorf("decode object: neither protobuf nor JSON: %w", err)
	}
	r, obj, err := newObject(head.APIVersion, head.Kind)
	if err != nil {
		return nil, nil, err
	}
	if err := utiljson.Unmarshal(data, obj); err != nil {
		return nil, nil, fmt.Errorf("decode %s: %w", r.GVK.Kind, err)
	}
	return obj, nil, nil
}

func openProtobuf(envelope []byte) (runtime.Object, []byte, error) {
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(envelope); err != nil {
		return nil, nil, fmt.Errorf("decode object envelope: %w", err)
	}
	r, obj, err := newObject(unknown.APIVersion, unknown.Kind)
	if err != nil {
		return nil, nil, err
	}
	m, ok := obj.(unmarshaler)
	if !ok {
		return nil, nil, fmt.Errorf("decode %s: the kind has no protobuf form", r.GVK.Kind)
	}
	if err := m.Unmarshal(unknown.Raw); err != nil {
		return nil, nil, fmt.Errorf("decode %s: %w", r.GVK.Kind, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(r.GVK)
	return obj, unknown.Raw, nil
}

// newObject gives the kind's entry and an empty object of it.
func newObject(apiVersion, kind string) (*Resource, runtime.Object, error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return nil, nil, fmt.Errorf("decode object: %w", err)
	}
	r := ForKind(gv.WithKind(kind))
	if r == nil {
		return nil, nil, fmt.Errorf("decode object: %s, Kind=%s is not a served kind", apiVersion, kind)
	}
	return r, r.New(), nil
}

func lower(s string) string { return strings.ToLower(s) }
