package validation

import (
	"context"

	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	podapi "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsrules "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/coordination"
	coordinationrules "k8s.io/kubernetes/pkg/apis/coordination/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/discovery"
	discoveryrules "k8s.io/kubernetes/pkg/apis/discovery/validation"
)

func (v *Validator) addWorkloads() {
	kind(v, schema.GroupKind{Group: apps.GroupName, Kind: "Deployment"}, func(d *apps.Deployment) field.ErrorList {
		return appsrules.ValidateDeployment(d, podapi.GetValidationOptionsFromPodTemplate(&d.Spec.Template, nil))
	}, func(d, old *apps.Deployment) field.ErrorList {
		return appsrules.ValidateDeploymentUpdate(d, old, podapi.GetValidationOptionsFromPodTemplate(&d.Spec.Template, &old.Spec.Template))
	}, appsrules.ValidateDeploymentStatusUpdate, func(ctx context.Context, d, old *apps.Deployment) []string {
		if old == nil {
			return append(warnName(d.Name, "Pod names and hostnames"), warnTemplate(ctx, &d.Spec.Template, nil)...)
		}
		return warnTemplate(ctx, &d.Spec.Template, &old.Spec.Template)
	})
	kind(v, schema.GroupKind{Group: apps.GroupName, Kind: "ReplicaSet"}, func(rs *apps.ReplicaSet) field.ErrorList {
		return appsrules.ValidateReplicaSet(rs, podapi.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, nil))
	}, func(rs, old *apps.ReplicaSet) field.ErrorList {
		return appsrules.ValidateReplicaSetUpdate(rs, old, podapi.GetValidationOptionsFromPodTemplate(&rs.Spec.Template, &old.Spec.Template))
	}, appsrules.ValidateReplicaSetStatusUpdate, func(ctx context.Context, rs, old *apps.ReplicaSet) []string {
		if old == nil {
			return append(warnName(rs.Name, "Pod names and hostnames"), warnTemplate(ctx, &rs.Spec.Template, nil)...)
		}
		return warnTemplate(ctx, &rs.Spec.Template, &old.Spec.Template)
	})
}

func (v *Validator) addDaemons() {
	kind(v, schema.GroupKind{Group: apps.GroupName, Kind: "DaemonSet"}, func(d *apps.DaemonSet) field.ErrorList {
		return appsrules.ValidateDaemonSet(d, podapi.GetValidationOptionsFromPodTemplate(&d.Spec.Template, nil))
	}, func(d, old *apps.DaemonSet) field.ErrorList {
		o := podapi.GetValidationOptionsFromPodTemplate(&d.Spec.Template, &old.Spec.Template)
		o.AllowInvalidLabelValueInSelector = o.AllowInvalidLabelValueInSelector || metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)
		return appsrules.ValidateDaemonSetUpdate(d, old, o)
	}, appsrules.ValidateDaemonSetStatusUpdate, func(ctx context.Context, d, old *apps.DaemonSet) []string {
		if old == nil {
			return warnTemplate(ctx, &d.Spec.Template, nil)
		}
		return warnTemplate(ctx, &d.Spec.Template, &old.Spec.Template)
	})
	kind(v, schema.GroupKind{Group: apps.GroupName, Kind: "ControllerRevision"}, appsrules.ValidateControllerRevisionCreate, appsrules.ValidateControllerRevisionUpdate, nil, nil)
}

func (v *Validator) addStateful() {
	kind(v, schema.GroupKind{Group: apps.GroupName, Kind: "StatefulSet"}, func(s *apps.StatefulSet) field.ErrorList {
		return appsrules.ValidateStatefulSet(s, appsrules.StatefulSetValidationOptions{}, podapi.GetValidationOptionsFromPodTemplate(&s.Spec.Template, nil))
	}, func(s, old *apps.StatefulSet) field.ErrorList {
		// serviceName and volumeClaimTemplates cannot be changed: what is there is let be
		o := appsrules.StatefulSetValidationOptions{AllowInvalidServiceName: true, SkipValidateVolumeClaimTemplates: true}
		return appsrules.ValidateStatefulSetUpdate(s, old, o, podapi.GetValidationOptionsFromPodTemplate(&s.Spec.Template, &old.Spec.Template))
	}, appsrules.ValidateStatefulSetStatusUpdate, func(ctx context.Context, s, old *apps.StatefulSet) []string {
		if old == nil {
			return warnTemplate(ctx, &s.Spec.Template, nil)
		}
		return warnTemplate(ctx, &s.Spec.Template, &old.Spec.Template)
	})
}

func warnTemplate(ctx context.Context, template, old *core.PodTemplateSpec) []string {
	return podapi.GetWarningsForPodTemplate(ctx, field.NewPath("spec", "template"), template, old)
}

func (v *Validator) addRest() {
	kind(v, schema.GroupKind{Group: coordination.GroupName, Kind: "Lease"}, coordinationrules.ValidateLease, coordinationrules.ValidateLeaseUpdate, nil, nil)
	kind(v, schema.GroupKind{Group: discovery.GroupName, Kind: "EndpointSlice"}, discoveryrules.ValidateEndpointSliceCreate, discoveryrules.ValidateEndpointSliceUpdate, nil, nil)
}
