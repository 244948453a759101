// Package validation judges objects by upstream's own rules: it converts them to upstream's internal types and calls
// upstream's functions, so kubectl prints the words it always prints.
//
// It is one of the few places that import k8s.io/kubernetes. It changes no object and reads nothing but its arguments.
package validation

import (
	"context"
	"fmt"

	apicorev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsv1 "k8s.io/kubernetes/pkg/apis/apps/v1"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	autoscalingv2 "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchv1 "k8s.io/kubernetes/pkg/apis/batch/v1"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationv1 "k8s.io/kubernetes/pkg/apis/coordination/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	corev1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryv1 "k8s.io/kubernetes/pkg/apis/discovery/v1"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingv1 "k8s.io/kubernetes/pkg/apis/networking/v1"
	"k8s.io/kubernetes/pkg/apis/node"
	nodev1 "k8s.io/kubernetes/pkg/apis/node/v1"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyv1 "k8s.io/kubernetes/pkg/apis/policy/v1"
	"k8s.io/kubernetes/pkg/apis/rbac"
	rbacv1 "k8s.io/kubernetes/pkg/apis/rbac/v1"
	"k8s.io/kubernetes/pkg/apis/scheduling"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/pkg/apis/storage"
	storagev1 "k8s.io/kubernetes/pkg/apis/storage/v1"
	"k8s.io/kubernetes/pkg/capabilities"
)

// Validator judges objects. It is safe for concurrent use.
type Validator struct {
	scheme *runtime.Scheme
	rules  map[schema.GroupKind]rules
}

// rules are upstream's for one kind, on internal types. A nil one allows everything.
type rules struct {
	internal func() any
	create   func(obj any) field.ErrorList
	update   func(obj, old any) field.ErrorList
	status   func(obj, old any) field.ErrorList
	warn     func(ctx context.Context, obj, old any) []string
}

// New makes a Validator for the kinds of core, apps, batch, coordination, discovery, policy and scheduling.
// Pods may ask to be privileged: upstream's rules keep that setting in a variable, the same for all Validators.
func New() (*Validator, error) {
	capabilities.Setup(true, 0)
	v := &Validator{scheme: runtime.NewScheme(), rules: map[schema.GroupKind]rules{}}
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, corev1.AddToScheme, autoscaling.AddToScheme, autoscalingv2.AddToScheme, apps.AddToScheme, appsv1.AddToScheme,
		batch.AddToScheme, batchv1.AddToScheme,
		coordination.AddToScheme, coordinationv1.AddToScheme, discovery.AddToScheme, discoveryv1.AddToScheme,
		scheduling.AddToScheme, schedulingv1.AddToScheme, policy.AddToScheme, policyv1.AddToScheme,
		rbac.AddToScheme, rbacv1.AddToScheme, storage.AddToScheme, storagev1.AddToScheme, networking.AddToScheme, networkingv1.AddToScheme, node.AddToScheme, nodev1.AddToScheme,
	} {
		if err := add(v.scheme); err != nil {
			return nil, fmt.Errorf("register conversions: %w", err)
		}
	}
	v.addCore()
	v.addWorkloads()
	v.addDaemons()
	v.addStateful()
	v.addBatch()
	v.addScheduling()
	v.addAutoscaling()
	v.addPolicy()
	v.addRBAC()
	v.addStorage()
	v.addNetworking()
	v.addRuntimes()
	v.addRest()
	return v, nil
}

// Create judges a new object. Kinds that upstream does not know have no errors here.
func (v *Validator) Create(gk schema.GroupKind, obj runtime.Object) field.ErrorList {
	r := v.rules[gk]
	if r.create == nil {
		return nil
	}
	in, err := v.convert(r, obj)
	if err != nil {
		return internalError(err)
	}
	return r.create(in)
}

// Update judges a change of anything but status.
func (v *Validator) Update(gk schema.GroupKind, obj, old runtime.Object) field.ErrorList {
	if podMarked(obj, old) {
		return nil
	}
	r := v.rules[gk]
	return v.pair(r, r.update, obj, old)
}

// UpdateStatus judges a change of status.
func (v *Validator) UpdateStatus(gk schema.GroupKind, obj, old runtime.Object) field.ErrorList {
	r := v.rules[gk]
	return v.pair(r, r.status, obj, old)
}

func (v *Validator) pair(r rules, judge func(obj, old any) field.ErrorList, obj, old runtime.Object) field.ErrorList {
	if judge == nil {
		return nil
	}
	in, err := v.convert(r, obj)
	if err != nil {
		return internalError(err)
	}
	before, err := v.convert(r, old)
	if err != nil {
		return internalError(err)
	}
	return judge(in, before)
}

// Warnings says what is allowed but unwise; old is nil for a new object.
func (v *Validator) Warnings(ctx context.Context, gk schema.GroupKind, obj, old runtime.Object) []string {
	r := v.rules[gk]
	if _, pod := old.(*apicorev1.Pod); r.warn == nil || pod { // nobody is warned about changes of pods: see warnPod
		return nil
	}
	in, err := v.convert(r, obj)
	if err != nil {
		return nil // Create or Update has said so
	}
	if old == nil {
		return r.warn(ctx, in, nil)
	}
	before, err := v.convert(r, old)
	if err != nil {
		return nil
	}
	return r.warn(ctx, in, before)
}

// convert copies obj to its internal type: the generated conversions may alias, and rules may normalise in place.
func (v *Validator) convert(r rules, obj runtime.Object) (any, error) {
	in := r.internal()
	if err := v.scheme.Convert(obj.DeepCopyObject(), in, nil); err != nil {
		return nil, fmt.Errorf("convert %T: %w", obj, err)
	}
	return in, nil
}

func internalError(err error) field.ErrorList {
	return field.ErrorList{field.InternalError(field.NewPath(""), err)}
}

// kind registers rules with typed functions.
func kind[T any](v *Validator, gk schema.GroupKind, create func(*T) field.ErrorList, update, status func(obj, old *T) field.ErrorList, warn func(context.Context, *T, *T) []string) {
	r := rules{internal: func() any { return new(T) }, update: both(update), status: both(status)}
	if create != nil {
		r.create = func(obj any) field.ErrorList { return create(as[T](obj)) }
	}
	if warn != nil {
		r.warn = func(ctx context.Context, obj, old any) []string { return warn(ctx, as[T](obj), as[T](old)) }
	}
	v.rules[gk] = r
}

func both[T any](judge func(obj, old *T) field.ErrorList) func(obj, old any) field.ErrorList {
	if judge == nil {
		return nil
	}
	return func(obj, old any) field.ErrorList { return judge(as[T](obj), as[T](old)) }
}

// as is nil for nil; what rules.internal made has the type.
func as[T any](obj any) *T {
	t, _ := obj.(*T)
	return t
}
