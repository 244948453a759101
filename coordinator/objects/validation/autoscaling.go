package validation

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	corerules "k8s.io/kubernetes/pkg/apis/core/validation"
)

// Upstream's rules for autoscalers are the only ones that are written anew here, after pkg/apis/autoscaling/validation:
// that package links the whole of k8s.io/apiserver with its expression language.

const (
	maxPolicyPeriodSeconds  = 1800
	maxStabilizationSeconds = 3600
)

func (v *Validator) addAutoscaling() {
	meta := field.NewPath("metadata")
	kind(v, schema.GroupKind{Group: autoscaling.GroupName, Kind: "HorizontalPodAutoscaler"}, func(h *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
		return append(corerules.ValidateObjectMeta(&h.ObjectMeta, true, apivalidation.NameIsDNSSubdomain, meta), autoscalerRules(h, nil)...)
	}, func(h, old *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
		return append(corerules.ValidateObjectMetaUpdate(&h.ObjectMeta, &old.ObjectMeta, meta), autoscalerRules(h, old)...)
	}, func(h, old *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
		status := field.NewPath("status")
		errs := corerules.ValidateObjectMetaUpdate(&h.ObjectMeta, &old.ObjectMeta, meta)
		errs = append(errs, corerules.ValidateNonnegativeField(int64(h.Status.CurrentReplicas), status.Child("currentReplicas"))...)
		return append(errs, corerules.ValidateNonnegativeField(int64(h.Status.DesiredReplicas), status.Child("desiredReplicas"))...)
	}, nil)
}

func autoscalerRules(h, old *autoscaling.HorizontalPodAutoscaler) field.ErrorList {
	path, spec := field.NewPath("spec"), &h.Spec
	errs := replicaRules(spec, path)
	errs = append(errs, referenceRules(spec.ScaleTargetRef, path.Child("scaleTargetRef"), versionRule(h, old))...)
	scaledByOthers := false
	for i := range spec.Metrics {
		m := &spec.Metrics[i]
		errs = append(errs, metricRules(m, path.Child("metrics").Index(i))...)
		scaledByOthers = scaledByOthers || m.Type == autoscaling.ObjectMetricSourceType || m.Type == autoscaling.ExternalMetricSourceType
	}
	if spec.MinReplicas != nil && *spec.MinReplicas == 0 && !scaledByOthers {
		errs = append(errs, field.Forbidden(path.Child("metrics"), "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := spec.Behavior; b != nil {
		errs = append(errs, scalingRules(b.ScaleUp, path.Child("behavior", "scaleUp"))...)
		errs = append(errs, scalingRules(b.ScaleDown, path.Child("behavior", "scaleDown"))...)
	}
	return errs
}

func replicaRules(spec *autoscaling.HorizontalPodAutoscalerSpec, path *field.Path) (errs field.ErrorList) {
	least, most := spec.MinReplicas, spec.MaxReplicas
	if least != nil && *least < 0 {
		errs = append(errs, field.Invalid(path.Child("minReplicas"), *least, "must be greater than or equal to 0"))
	}
	switch {
	case most == 0:
		errs = append(errs, field.Required(path.Child("maxReplicas"), "must be set and greater than 0"))
	case most < 0:
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), most, "must be greater than or equal to 1"))
	}
	if least != nil && most < *least {
		errs = append(errs, field.Invalid(path.Child("maxReplicas"), most, "must be greater than or equal to `minReplicas`"))
	}
	return errs
}

// versionRule judges the apiVersion of the target. What was wrong before and is not touched is let be.
func versionRule(h, old *autoscaling.HorizontalPodAutoscaler) func(string) error {
	target := h.Spec.ScaleTargetRef
	same := old != nil && old.Spec.ScaleTargetRef.APIVersion == target.APIVersion && old.Spec.ScaleTargetRef.Kind == target.Kind
	return func(version string) error {
		if same {
			return nil
		}
		gv, err := schema.ParseGroupVersion(version)
		if err == nil && gv.Group == "" && target.Kind != "ReplicationController" {
			err = errors.New("apiVersion must specify API group")
		}
		return err
	}
}

func anyVersion(version string) error {
	_, err := schema.ParseGroupVersion(version)
	return err
}

func referenceRules(ref autoscaling.CrossVersionObjectReference, path *field.Path, version func(string) error) (errs field.ErrorList) {
	errs = append(segmentRules(ref.Kind, path.Child("kind"), ""), segmentRules(ref.Name, path.Child("name"), "")...)
	if err := version(ref.APIVersion); err != nil {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), ref.APIVersion, err.Error()))
	}
	return errs
}

// segmentRules want a text that fits into a path; missing is what to say of an empty one.
func segmentRules(text string, path *field.Path, missing string) (errs field.ErrorList) {
	if text == "" {
		return field.ErrorList{field.Required(path, missing)}
	}
	for _, msg := range content.IsPathSegmentName(text) {
		errs = append(errs, field.Invalid(path, text, msg))
	}
	return errs
}

func scalingRules(r *autoscaling.HPAScalingRules, path *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if w := r.StabilizationWindowSeconds; w != nil && *w < 0 {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxStabilizationSeconds {
		errs = append(errs, field.Invalid(path.Child("stabilizationWindowSeconds"), w, fmt.Sprintf("must be less than or equal to %d", maxStabilizationSeconds)))
	}
	selects := []autoscaling.ScalingPolicySelect{autoscaling.DisabledPolicySelect, autoscaling.MaxPolicySelect, autoscaling.MinPolicySelect}
	if s := r.SelectPolicy; s != nil && !slices.Contains(selects, *s) {
		errs = append(errs, field.NotSupported(path.Child("selectPolicy"), *s, selects))
	}
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(path.Child("policies"), "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		errs = append(errs, policyRules(p, path.Child("policies").Index(i))...)
	}
	if r.Tolerance != nil {
		errs = append(errs, corerules.ValidateNonnegativeQuantity(*r.Tolerance, path.Child("tolerance"))...)
	}
	return errs
}

func policyRules(p autoscaling.HPAScalingPolicy, path *field.Path) (errs field.ErrorList) {
	types := []autoscaling.HPAScalingPolicyType{autoscaling.PercentScalingPolicy, autoscaling.PodsScalingPolicy}
	if !slices.Contains(types, p.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), p.Type, types))
	}
	if p.Value <= 0 {
		errs = append(errs, field.Invalid(path.Child("value"), p.Value, "must be greater than zero"))
	}
	if p.PeriodSeconds <= 0 {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
	}
	if p.PeriodSeconds > maxPolicyPeriodSeconds {
		errs = append(errs, field.Invalid(path.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %d", maxPolicyPeriodSeconds)))
	}
	return errs
}

// metricSource is one of the fields of a metric, of which exactly one must be set: the one that its type names.
type metricSource struct {
	of    autoscaling.MetricSourceType
	field string
	set   bool
	rules func(path *field.Path) field.ErrorList
}

func sources(m *autoscaling.MetricSpec) []metricSource {
	return []metricSource{
		{autoscaling.ObjectMetricSourceType, "object", m.Object != nil, func(p *field.Path) field.ErrorList {
			errs := referenceRules(m.Object.DescribedObject, p.Child("describedObject"), anyVersion)
			errs = append(errs, segmentRules(m.Object.Metric.Name, p.Child("metric", "name"), "must specify a metric name")...)
			return append(errs, valueRules(m.Object.Target, p.Child("target"), "must set either a target value or averageValue")...)
		}},
		{autoscaling.ExternalMetricSourceType, "external", m.External != nil, func(p *field.Path) field.ErrorList {
			errs := segmentRules(m.External.Metric.Name, p.Child("metric", "name"), "must specify a metric name")
			errs = append(errs, valueRules(m.External.Target, p.Child("target"), "must set either a target value for metric or a per-pod target")...)
			if t := m.External.Target; t.Value != nil && t.AverageValue != nil {
				errs = append(errs, field.Forbidden(p.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
			}
			return errs
		}},
		{autoscaling.PodsMetricSourceType, "pods", m.Pods != nil, func(p *field.Path) field.ErrorList {
			errs := segmentRules(m.Pods.Metric.Name, p.Child("metric", "name"), "must specify a metric name")
			errs = append(errs, targetRules(m.Pods.Target, p.Child("target"))...)
			if m.Pods.Target.AverageValue == nil {
				errs = append(errs, field.Required(p.Child("target", "averageValue"), "must specify a positive target averageValue"))
			}
			return errs
		}},
		{autoscaling.ResourceMetricSourceType, "resource", m.Resource != nil, func(p *field.Path) (errs field.ErrorList) {
			if m.Resource.Name == "" {
				errs = append(errs, field.Required(p.Child("name"), "must specify a resource name"))
			}
			return append(errs, usageRules(m.Resource.Target, p.Child("target"))...)
		}},
		{autoscaling.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(p *field.Path) (errs field.ErrorList) {
			return append(containerRules(m.ContainerResource, p), usageRules(m.ContainerResource.Target, p.Child("target"))...)
		}},
	}
}

func containerRules(c *autoscaling.ContainerResourceMetricSource, path *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a resource name"))
	} else {
		errs = append(errs, corerules.ValidateContainerResourceName(c.Name, path.Child("name"))...)
	}
	if c.Container == "" {
		return append(errs, field.Required(path.Child("container"), "must specify a container"))
	}
	return append(errs, corerules.ValidateDNS1123Label(c.Container, path.Child("container"))...)
}

func metricRules(m *autoscaling.MetricSpec, path *field.Path) (errs field.ErrorList) {
	all := sources(m)
	types := []autoscaling.MetricSourceType{
		autoscaling.ContainerResourceMetricSourceType, autoscaling.ExternalMetricSourceType, autoscaling.ObjectMetricSourceType,
		autoscaling.PodsMetricSourceType, autoscaling.ResourceMetricSourceType,
	}
	if m.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	if !slices.Contains(types, m.Type) {
		errs = append(errs, field.NotSupported(path.Child("type"), m.Type, types))
	}
	first := slices.IndexFunc(all, func(s metricSource) bool { return s.set })
	for i, s := range all {
		switch {
		case i == first:
			errs = append(errs, s.rules(path.Child(s.field))...)
		case !s.set && s.of == m.Type:
			errs = append(errs, field.Required(path.Child(s.field), "must populate information for the given metric source"))
		}
		if s.set && s.of != m.Type {
			errs = append(errs, field.Forbidden(path.Child(s.field), "must populate the given metric source only"))
		}
	}
	return errs
}

func targetRules(t autoscaling.MetricTarget, path *field.Path) (errs field.ErrorList) {
	if t.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
	}
	if t.Type != autoscaling.UtilizationMetricType && t.Type != autoscaling.ValueMetricType && t.Type != autoscaling.AverageValueMetricType {
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}

func valueRules(t autoscaling.MetricTarget, path *field.Path, missing string) field.ErrorList {
	errs := targetRules(t, path)
	if t.Value == nil && t.AverageValue == nil {
		errs = append(errs, field.Required(path.Child("averageValue"), missing))
	}
	return errs
}

func usageRules(t autoscaling.MetricTarget, path *field.Path) field.ErrorList {
	errs := targetRules(t, path)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}
