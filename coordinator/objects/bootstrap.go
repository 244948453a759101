package objects

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/objects/defaults"
	"skerry.dev/skerry/coordinator/resource"
)

// apiServicePort and apiTargetPort are where pods find the API: the kubernetes Service, and the coordinator behind it.
const (
	apiServicePort = 443
	apiTargetPort  = 6443
)

// Bootstrap makes what every cluster has: system namespaces and priority classes, the class of volumes on nodes, and the kubernetes Service on the first address of the
// service network. It is safe to repeat; what exists stays as it is.
func (s *Store) Bootstrap(ctx context.Context) error {
	for _, obj := range s.systemObjects() {
		// Asked first: the address of a Service that exists is taken, which is what a second creation would complain of.
		m := metaOf(obj)
		if _, exists := s.view.Get(resource.ForObject(obj), m.GetNamespace(), m.GetName()); exists {
			continue
		}
		_, err := s.Create(ctx, obj, WriteOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %T %s: %w", obj, metaOf(obj).GetName(), err)
		}
	}
	return nil
}

func (s *Store) systemObjects() []runtime.Object {
	var out []runtime.Object
	for _, name := range systemNamespaces {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, class := range defaults.SystemPriorityClasses() {
		out = append(out, class)
	}
	return append(out, localClass(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: s.services.addr(1).String(),
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: apiServicePort, TargetPort: intstr.FromInt32(apiTargetPort)}},
		},
	})
}
