package apiserver

import (
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Access reviews are checked in upstream's words, whose own checks need its internal types and all that comes with them.

const oneOfTwo = "exactly one of nonResourceAttributes or resourceAttributes must be specified"

// invalidReview is upstream's error, which names no kind.
func invalidReview(errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", errs)
}

func checkAccessReview(in *authorizationv1.SubjectAccessReview) error {
	return invalidReview(append(checkSubject(in.Spec), checkNoMetadata(in.ObjectMeta, in.ObjectMeta, "must be empty")...))
}

func checkSelfReview(in *authorizationv1.SelfSubjectAccessReview) error {
	errs := checkAttributes(in.Spec.ResourceAttributes, in.Spec.NonResourceAttributes)
	errs = append(errs, checkSelectors(in.Spec.ResourceAttributes)...)
	return invalidReview(append(errs, checkNoMetadata(in.ObjectMeta, in.ObjectMeta, "must be empty")...))
}

// checkLocalReview checks the review of one namespace, which is that of its metadata.
func checkLocalReview(in *authorizationv1.LocalSubjectAccessReview) error {
	rest := in.ObjectMeta
	rest.Namespace = ""
	errs := append(checkSubject(in.Spec), checkNoMetadata(in.ObjectMeta, rest, "must be empty except for namespace")...)
	if r := in.Spec.ResourceAttributes; r != nil && r.Namespace != in.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("spec.resourceAttributes.namespace"), r.Namespace, "must match metadata.namespace"))
	}
	if p := in.Spec.NonResourceAttributes; p != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec.nonResourceAttributes"), shownPath(p), "disallowed on this kind of request"))
	}
	return invalidReview(errs)
}

func checkSubject(spec authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	errs := checkAttributes(spec.ResourceAttributes, spec.NonResourceAttributes)
	if spec.User == "" && len(spec.Groups) == 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "user"), spec.User, "at least one of user or group must be specified"))
	}
	return append(errs, checkSelectors(spec.ResourceAttributes)...)
}

func checkAttributes(res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) field.ErrorList {
	if (res == nil) != (path == nil) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), shownPath(path), oneOfTwo)}
}

// shownPath is how errors show the attributes of a path.
func shownPath(p *authorizationv1.NonResourceAttributes) any {
	if p == nil {
		return nil
	}
	return struct{ Path, Verb string }{p.Path, p.Verb}
}

// checkNoMetadata refuses metadata, all of it, when it has more than it may.
func checkNoMetadata(all, more metav1.ObjectMeta, words string) field.ErrorList {
	more.ManagedFields = nil
	if equality.Semantic.DeepEqual(metav1.ObjectMeta{}, more) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), all, words)}
}

func checkSelectors(r *authorizationv1.ResourceAttributes) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	path := field.NewPath("spec.resourceAttributes")
	if s, at := r.FieldSelector, path.Child("fieldSelector"); s != nil {
		errs = append(errs, checkSelector(s.RawSelector, len(s.Requirements), at)...)
		o := metavalidation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
		for i, one := range s.Requirements {
			errs = append(errs, metavalidation.ValidateFieldSelectorRequirement(one, o, at.Child("requirements").Index(i))...)
		}
	}
	if s, at := r.LabelSelector, path.Child("labelSelector"); s != nil {
		errs = append(errs, checkSelector(s.RawSelector, len(s.Requirements), at)...)
		o := metavalidation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}
		for i, one := range s.Requirements {
			errs = append(errs, metavalidation.ValidateLabelSelectorRequirement(one, o, at.Child("requirements").Index(i))...)
		}
	}
	return errs
}

func checkSelector(raw string, requirements int, at *field.Path) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))}
	}
	return nil
}
