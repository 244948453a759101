package apiserver

import (
	"context"
	"io"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Objects is the write path: an *objects.Store.
type Objects interface {
	Create(ctx context.Context, obj runtime.Object, o objects.WriteOptions) (runtime.Object, error)
	Update(ctx context.Context, obj runtime.Object, o objects.WriteOptions) (out runtime.Object, created bool, err error)
	UpdateStatus(ctx context.Context, obj runtime.Object, o objects.WriteOptions) (runtime.Object, error)
	UpdateEphemeralContainers(ctx context.Context, pod *corev1.Pod, o objects.WriteOptions) (runtime.Object, error)
	Finalize(ctx context.Context, ns *corev1.Namespace, o objects.WriteOptions) (runtime.Object, error)
	Patch(ctx context.Context, res *resource.Resource, namespace, name string, how types.PatchType, patch []byte, subresource string, o objects.WriteOptions) (runtime.Object, error)
	ServerSideApply(ctx context.Context, res *resource.Resource, namespace, name string, manifest []byte, subresource string, o objects.WriteOptions) (out runtime.Object, created bool, err error)
	GetScale(res *resource.Resource, namespace, name string) (*autoscalingv1.Scale, error)
	UpdateScale(ctx context.Context, res *resource.Resource, namespace string, s *autoscalingv1.Scale, o objects.WriteOptions) (*autoscalingv1.Scale, error)
	Delete(ctx context.Context, res *resource.Resource, namespace, name string, o metav1.DeleteOptions) (out runtime.Object, deleted bool, err error)
	DeleteCollection(ctx context.Context, res *resource.Resource, namespace string, match func(*view.Item) bool, o metav1.DeleteOptions) ([]runtime.Object, error)
	Bind(ctx context.Context, namespace string, b *corev1.Binding, o objects.WriteOptions) error
	Evict(ctx context.Context, e *policyv1.Eviction, o objects.WriteOptions) error
}

// noNodes stands in where no way to the nodes was configured.
type noNodes struct{}

// OpenLog implements Nodes: it always fails.
func (noNodes) OpenLog(context.Context, string, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
	return nil, errNoNodes
}
