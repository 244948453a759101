// Package objects is the one way an object is written: defaults, validation, the rules of each kind, compare-and-set,
// deletion with grace and finalizers, and the allocation of service addresses and pod networks.
//
// The apiserver, the automation endpoints, the controllers' shell and the merger of node reports all write through it,
// so none of them can break a rule that the others keep. It reads the present state from the view, and answers a write
// only when the view has seen it. It serves no protocol and decides nothing that a controller should.
package objects

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

// Storage is what a Store writes to: a store.Store.
type Storage interface {
	Create(ctx context.Context, key store.Key, value []byte) (uint64, error)
	Update(ctx context.Context, key store.Key, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, key store.Key, revision uint64) (uint64, error)
}

// Options configure a Store.
type Options struct {
	ServiceCIDR netip.Prefix     // zero means 10.43.0.0/16
	PodCIDR     netip.Prefix     // of the whole cluster; zero means 10.42.0.0/16
	NodeBits    int              // prefix length of one node's share of PodCIDR; zero means 24
	Now         func() time.Time // nil means time.Now; for timestamps in objects only
	Logger      *slog.Logger     // nil logs nothing
}

// Store writes objects. All methods may be called concurrently. They change no object they are given, and what they
// return is the caller's own. Every error is an *errors.StatusError of apimachinery with upstream's reason, details and
// words.
type Store struct {
	view *view.View
	to   Storage
	opt  Options
}

// WriteOptions are the options common to writes. The zero value is a plain write.
type WriteOptions struct {
	DryRun       bool         // do everything but the write
	FieldManager string       // who writes, for managed fields
	Validation   string       // of unknown and duplicate fields in patches: metav1.FieldValidationStrict, Warn or Ignore; empty is Ignore
	Warn         func(string) // takes warnings for the client; nil drops them
}

// The methods: see create.go, update.go, patch.go, apply.go, delete.go, scale.go, pod.go, bootstrap.go.
type contract interface {
	// Create stores a new object. Its namespace, when the object has none, must be set by the caller.
	Create(ctx context.Context, obj runtime.Object, o WriteOptions) (runtime.Object, error)
	// Update replaces everything but status. created is true when the kind allows creation by update and it was absent.
	// With a resourceVersion it is a compare-and-set, without it the last writer wins where the kind allows that.
	Update(ctx context.Context, obj runtime.Object, o WriteOptions) (out runtime.Object, created bool, err error)
	// UpdateStatus replaces status only.
	UpdateStatus(ctx context.Context, obj runtime.Object, o WriteOptions) (runtime.Object, error)
	// Finalize replaces a namespace's spec.finalizers, and removes it when none is left and it is being deleted.
	Finalize(ctx context.Context, ns *corev1.Namespace, o WriteOptions) (runtime.Object, error)
	// Patch changes an object or, when subresource is "status" or "scale", that part of it. The result of a scale patch
	// is a Scale.
	Patch(ctx context.Context, res *resource.Resource, namespace, name string, how types.PatchType, patch []byte, subresource string, o WriteOptions) (runtime.Object, error)
	// Apply makes an object as a manifest says, as kubectl apply does on the client side: created when absent, else a
	// three-way merge with the manifest applied last. changed is false when it was so already.
	Apply(ctx context.Context, manifest []byte, o WriteOptions) (out runtime.Object, changed bool, err error)
	GetScale(res *resource.Resource, namespace, name string) (*autoscalingv1.Scale, error)
	UpdateScale(ctx context.Context, res *resource.Resource, namespace string, s *autoscalingv1.Scale, o WriteOptions) (*autoscalingv1.Scale, error)
	// Delete starts or completes a deletion. deleted is true when the object is gone; out is its last state.
	Delete(ctx context.Context, res *resource.Resource, namespace, name string, o metav1.DeleteOptions) (out runtime.Object, deleted bool, err error)
	// DeleteCollection deletes what match says, and returns the last states in list order.
	DeleteCollection(ctx context.Context, res *resource.Resource, namespace string, match func(*view.Item) bool, o metav1.DeleteOptions) ([]runtime.Object, error)
	// Bind places a pod: node name, annotations and the PodScheduled condition.
	Bind(ctx context.Context, namespace string, b *corev1.Binding, o WriteOptions) error
	// BindPod is Bind as a plan asks for it: pod carries spec.nodeName, annotations, conditions, and its resourceVersion as
	// precondition when set.
	BindPod(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, error)
	// Evict deletes a pod unless that would break a disruption budget.
	Evict(ctx context.Context, e *policyv1.Eviction, o WriteOptions) error
	// FinishPod removes a pod whose node says that it is gone, if it has that uid and is being deleted (or force is set).
	// It is no error when there is none such.
	FinishPod(ctx context.Context, namespace, name string, uid types.UID, force bool) error
	// MutateStatus lets change edit a copy of the object, and writes its status if it returns true; again on conflict.
	// The result is the object as it is then.
	MutateStatus(ctx context.Context, res *resource.Resource, namespace, name string, change func(runtime.Object) bool) (runtime.Object, error)
	// Bootstrap makes what every cluster has: system namespaces and the kubernetes Service. It is safe to repeat.
	Bootstrap(ctx context.Context) error
}

// Decoded: DecodeStrict(data []byte, contentType string, res *resource.Resource, validation string) (obj runtime.Object, warnings []string, err error)
