package validation

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	serviceapi "k8s.io/kubernetes/pkg/api/service"
	"k8s.io/kubernetes/pkg/apis/core"
	corerules "k8s.io/kubernetes/pkg/apis/core/validation"
)

func coreKind(name string) schema.GroupKind { return schema.GroupKind{Kind: name} }

func (v *Validator) addCore() {
	kind(v, coreKind("Namespace"), corerules.ValidateNamespace, func(obj, old *core.Namespace) field.ErrorList {
		return append(corerules.ValidateNamespace(obj), corerules.ValidateNamespaceUpdate(obj, old)...)
	}, corerules.ValidateNamespaceStatusUpdate, nil)
	kind(v, coreKind("Node"), corerules.ValidateNode, func(obj, old *core.Node) field.ErrorList {
		return append(corerules.ValidateNode(obj), corerules.ValidateNodeUpdate(obj, old)...)
	}, corerules.ValidateNodeUpdate, nil)
	kind(v, coreKind("Pod"), createPod, updatePod, updatePodStatus, warnPod)
	v.addReplicationController()
	v.addPodTemplate()
	kind(v, coreKind("LimitRange"), corerules.ValidateLimitRange, func(l, _ *core.LimitRange) field.ErrorList {
		return corerules.ValidateLimitRange(l)
	}, nil, nil)
	kind(v, coreKind("ResourceQuota"), corerules.ValidateResourceQuota, corerules.ValidateResourceQuotaUpdate, corerules.ValidateResourceQuotaStatusUpdate, nil)
	kind(v, coreKind("Service"), corerules.ValidateServiceCreate, corerules.ValidateServiceUpdate, corerules.ValidateServiceStatusUpdate,
		func(_ context.Context, obj, old *core.Service) []string {
			return serviceapi.GetWarningsForService(obj, old)
		})
	kind(v, coreKind("Endpoints"), corerules.ValidateEndpointsCreate, corerules.ValidateEndpointsUpdate, nil, nil)
	kind(v, coreKind("ConfigMap"), corerules.ValidateConfigMap, corerules.ValidateConfigMapUpdate, nil, nil)
	kind(v, coreKind("Secret"), corerules.ValidateSecret, corerules.ValidateSecretUpdate, nil, nil)
	kind(v, coreKind("ServiceAccount"), corerules.ValidateServiceAccount, corerules.ValidateServiceAccountUpdate, nil, nil)
	kind[core.Event](v, coreKind("Event"), nil, nil, nil, nil) // its rules depend on the version asked for: see CreateEvent
}

func (v *Validator) addReplicationController() {
	kind(v, coreKind("ReplicationController"), func(c *core.ReplicationController) field.ErrorList {
		return corerules.ValidateReplicationController(c, podapi.GetValidationOptionsFromPodTemplate(c.Spec.Template, nil))
	}, func(c, old *core.ReplicationController) field.ErrorList {
		return corerules.ValidateReplicationControllerUpdate(c, old, podapi.GetValidationOptionsFromPodTemplate(c.Spec.Template, old.Spec.Template))
	}, corerules.ValidateReplicationControllerStatusUpdate, func(ctx context.Context, c, old *core.ReplicationController) []string {
		if old == nil {
			return append(warnName(c.Name, "Pod names and hostnames"), warnTemplate(ctx, c.Spec.Template, nil)...)
		}
		return warnTemplate(ctx, c.Spec.Template, old.Spec.Template)
	})
}

func (v *Validator) addPodTemplate() {
	kind(v, coreKind("PodTemplate"), func(t *core.PodTemplate) field.ErrorList {
		return corerules.ValidatePodTemplate(t, podapi.GetValidationOptionsFromPodTemplate(&t.Template, nil))
	}, func(t, old *core.PodTemplate) field.ErrorList {
		return corerules.ValidatePodTemplateUpdate(t, old, podapi.GetValidationOptionsFromPodTemplate(&t.Template, &old.Template))
	}, nil, func(ctx context.Context, t, old *core.PodTemplate) []string {
		if old == nil {
			return podapi.GetWarningsForPodTemplate(ctx, field.NewPath("template"), &t.Template, nil)
		}
		return podapi.GetWarningsForPodTemplate(ctx, field.NewPath("template"), &t.Template, &old.Template)
	})
}

func podOptions(pod, old *core.Pod) corerules.PodValidationOptions {
	var spec *core.PodSpec
	var meta *metav1.ObjectMeta
	if old != nil {
		spec, meta = &old.Spec, &old.ObjectMeta
	}
	o := podapi.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, spec, &pod.ObjectMeta, meta)
	o.ResourceIsPod = true
	return o
}

func createPod(pod *core.Pod) field.ErrorList {
	return corerules.ValidatePodCreate(pod, podOptions(pod, nil))
}

func updatePod(pod, old *core.Pod) field.ErrorList {
	return corerules.ValidatePodUpdate(pod, old, podOptions(pod, old))
}

func updatePodStatus(pod, old *core.Pod) field.ErrorList {
	return corerules.ValidatePodStatusUpdate(pod, old, podOptions(pod, old))
}

// warnPod is silent on updates, as upstream: people rarely update pods, machines often.
func warnPod(ctx context.Context, pod, old *core.Pod) []string {
	if old != nil {
		return nil
	}
	return append(warnName(pod.Name, "the Pod's hostname"), podapi.GetWarningsForPod(ctx, pod, nil)...)
}

func warnName(name, use string) []string {
	if msgs := utilvalidation.IsDNS1123Label(name); len(msgs) != 0 {
		return []string{fmt.Sprintf("metadata.name: this is used in %s, which can result in surprising behavior; a DNS label is recommended: %v", use, msgs)}
	}
	return nil
}

// CreateEvent judges a new core Event, by the stricter rules when it came as an events.k8s.io one.
func (v *Validator) CreateEvent(obj runtime.Object, asked schema.GroupVersion) field.ErrorList {
	return v.event(obj, obj, func(e, _ *core.Event) field.ErrorList { return corerules.ValidateEventCreate(e, asked) })
}

// UpdateEvent is CreateEvent for a change.
func (v *Validator) UpdateEvent(obj, old runtime.Object, asked schema.GroupVersion) field.ErrorList {
	return v.event(obj, old, func(e, o *core.Event) field.ErrorList { return corerules.ValidateEventUpdate(e, o, asked) })
}

func (v *Validator) event(obj, old runtime.Object, judge func(obj, old *core.Event) field.ErrorList) field.ErrorList {
	return v.pair(v.rules[coreKind("Event")], both(judge), obj, old)
}

// UpdateEphemeralContainers judges a change of a pod's spec.ephemeralContainers.
func (v *Validator) UpdateEphemeralContainers(obj, old runtime.Object) field.ErrorList {
	return v.pair(v.rules[coreKind("Pod")], both(func(pod, before *core.Pod) field.ErrorList {
		return corerules.ValidatePodEphemeralContainersUpdate(pod, before, podOptions(pod, before))
	}), obj, old)
}

// FinalizeNamespace judges a change of a namespace's spec.finalizers.
func (v *Validator) FinalizeNamespace(obj, old runtime.Object) field.ErrorList {
	return v.pair(v.rules[coreKind("Namespace")], both(corerules.ValidateNamespaceFinalizeUpdate), obj, old)
}
