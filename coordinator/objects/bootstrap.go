package objects

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/objects/defaults"
	"skerry.dev/skerry/coordinator/resource"
)

// apiPort is where pods find the API under the kubernetes Service's address. Its endpoint is that address itself: each
// node answers there for its own pods and carries their connections to the coordinator, which need not listen anywhere
// that a node can reach.
const apiPort = 443

// Bootstrap makes what every cluster has: system namespaces and priority classes, the class of volumes on nodes, and the
// kubernetes Service on the first address of the service network, with its endpoints. It is safe to repeat; what exists stays as it is.
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
	address := s.services.addr(1).String()
	return append(out, localClass(), apiService(address), apiSlice(address), apiEndpoints(address))
}

// apiService and its endpoints are named and labelled as upstream's.
func apiService(address string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{"component": "apiserver", "provider": "kubernetes"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: address,
			Ports: []corev1.ServicePort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: apiPort, TargetPort: intstr.FromInt32(apiPort)}},
		},
	}
}

func apiSlice(address string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(apiPort))}},
	}
}

func apiEndpoints(address string) runtime.Object {
	return &corev1.Endpoints{ //nolint:staticcheck // still what old clients read
		ObjectMeta: metav1.ObjectMeta{
			Name: "kubernetes", Namespace: metav1.NamespaceDefault,
			Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"},
		},
		Subsets: []corev1.EndpointSubset{{ //nolint:staticcheck // as above
			Addresses: []corev1.EndpointAddress{{IP: address}},
			Ports:     []corev1.EndpointPort{{Name: "https", Protocol: corev1.ProtocolTCP, Port: apiPort}},
		}},
	}
}
