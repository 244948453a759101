package api

import (
	"bytes"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/tests/bench/server"
)

// kind is what is read and written.
type kind struct {
	name, plural string
	make         func(name string) runtime.Object
}

var kinds = []kind{
	{"ConfigMap", "configmaps", configMap},
	{"Pod", "pods", pod},
}

// Names and the changed value have a fixed length, so that a body of any encoding is made once and then filled in.
const (
	placeholder      = "00000000" // the value that changes
	placeholderName  = "object-00000000"
	annotation       = "bench.skerry.dev/value"
	populatedObjects = 1000 // of each kind, for the operations that need one
)

func nameOf(prefix string, n int64) string { return fmt.Sprintf("%s-%08d", prefix, n) }

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: namespace, Labels: map[string]string{"app": "bench", "tier": "back"},
		Annotations: map[string]string{annotation: "v" + placeholder},
	}
}

func configMap(name string) runtime.Object {
	return &corev1.ConfigMap{ObjectMeta: meta(name), Data: map[string]string{
		"settings.yaml": strings.Repeat("interval: 10s\nretries: 5\nendpoint: http://10.43.0.10:8080\n", 16),
	}}
}

// pod is of the size that pods have. It asks for a scheduler that does not exist: upstream's API server has none beside
// it, and Skerry's is to leave the pod alone too.
func pod(name string) runtime.Object {
	probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}, PeriodSeconds: 10}
	limits := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	return &corev1.Pod{ObjectMeta: meta(name), Spec: corev1.PodSpec{
		SchedulerName: "bench", ServiceAccountName: "default", AutomountServiceAccountToken: new(bool),
		Containers: []corev1.Container{{
			Name: "main", Image: "registry.example.com/edge/telemetry:1.4.2",
			Args:  []string{"--listen=:8080", "--log-format=json", "--upstream=nats://broker.edge:4222"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
			Env: []corev1.EnvVar{
				{Name: "SITE", Value: "north"},
				{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			},
			Resources:     corev1.ResourceRequirements{Requests: limits, Limits: limits},
			LivenessProbe: probe, ReadinessProbe: probe,
		}},
	}}
}

// madeLabel marks the objects that operations make, which are deleted again.
const madeLabel = "made"

func made(k kind) runtime.Object {
	obj := k.make(placeholderName)
	if m, ok := obj.(metav1.Object); ok {
		m.SetLabels(map[string]string{"app": "bench", madeLabel: "now"})
	}
	return obj
}

// template is an encoded object whose name and value can be filled in.
type template []byte

func newTemplate(media string, obj runtime.Object) (template, error) {
	data, err := server.Encode(media, obj)
	return template(data), err
}

// with fills in one text of the same length for another.
func (t template) with(old, now string) template {
	if len(old) != len(now) {
		panic(fmt.Sprintf("%q does not fit the place of %q", now, old))
	}
	return bytes.ReplaceAll(t, []byte(old), []byte(now))
}

func (t template) value(n int64) template {
	return t.with("v"+placeholder, fmt.Sprintf("v%08d", n%100_000_000))
}
