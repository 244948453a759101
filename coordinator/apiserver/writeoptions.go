package apiserver

import (
	"net/http"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/objects"
)

// writeOptions reads the parameters of a create or an update.
func (c *call) writeOptions() (objects.WriteOptions, error) {
	return c.options(func(o *metav1.PatchOptions) field.ErrorList {
		if c.verb == "update" {
			return validation.ValidateUpdateOptions(&metav1.UpdateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation})
		}
		return validation.ValidateCreateOptions(&metav1.CreateOptions{DryRun: o.DryRun, FieldManager: o.FieldManager, FieldValidation: o.FieldValidation})
	})
}

// patchOptions reads the parameters of a patch of some type.
func (c *call) patchOptions(how types.PatchType) (objects.WriteOptions, error) {
	return c.options(func(o *metav1.PatchOptions) field.ErrorList { return validation.ValidatePatchOptions(o, how) })
}

// options reads what writes have in common: PatchOptions has the fields of all.
func (c *call) options(judge func(*metav1.PatchOptions) field.ErrorList) (objects.WriteOptions, error) {
	var o metav1.PatchOptions
	if err := metav1.Convert_url_Values_To_v1_PatchOptions(&c.query, &o, nil); err != nil {
		return objects.WriteOptions{}, badRequest("%v", err)
	}
	if errs := judge(&o); len(errs) > 0 {
		return objects.WriteOptions{}, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: optionsKind(c.r)}, "", errs)
	}
	out := objects.WriteOptions{
		DryRun: len(o.DryRun) > 0, FieldManager: o.FieldManager, Track: o.FieldManager != "",
		Force: o.Force != nil && *o.Force, Validation: o.FieldValidation, Warn: c.warn,
	}
	if out.FieldManager == "" {
		out.FieldManager = managerOf(c.r.UserAgent())
	}
	if out.Validation == "" {
		out.Validation = metav1.FieldValidationWarn
	}
	return out, nil
}

// managerOf names a writer that names itself no other way: the first word of its user agent, as upstream.
func managerOf(agent string) string {
	agent, _, _ = strings.Cut(agent, "/")
	var out strings.Builder
	for _, r := range agent {
		if !unicode.IsPrint(r) {
			continue
		}
		if out.Len()+len(string(r)) > validation.FieldManagerMaxLength {
			break
		}
		out.WriteRune(r)
	}
	return out.String()
}

func optionsKind(r *http.Request) string {
	switch r.Method {
	case http.MethodPost:
		return "CreateOptions"
	case http.MethodPut:
		return "UpdateOptions"
	case http.MethodPatch:
		return "PatchOptions"
	default:
		return "DeleteOptions"
	}
}
