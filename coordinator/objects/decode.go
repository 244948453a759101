package objects

import (
	"fmt"
	"mime"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	kjson "sigs.k8s.io/json"

	"skerry.dev/skerry/coordinator/resource"
)

// DecodeStrict reads one object of the kind from a request body in JSON, YAML or protobuf; contentType may carry
// parameters, and empty means JSON. Unknown and duplicate fields are an error, warnings or nothing, as validation
// (metav1.FieldValidation...) says; empty is Warn. A body without kind and apiVersion is taken to be of the kind.
func DecodeStrict(data []byte, contentType string, res *resource.Resource, validation string) (obj runtime.Object, warnings []string, err error) {
	return DecodeInto(data, contentType, res.GVK, res.New(), validation)
}

// DecodeInto is DecodeStrict for any kind of the scheme, such as the body of a subresource. It returns into, which must be
// empty.
func DecodeInto(data []byte, contentType string, gvk schema.GroupVersionKind, into runtime.Object, validation string) (runtime.Object, []string, error) {
	if contentType == "" || contentType == runtime.ContentTypeJSON {
		if flawless(data, gvk, into) {
			return into, nil, nil
		}
	}
	decoder, err := decoderFor(contentType)
	if err != nil {
		return nil, nil, err
	}
	obj, have, err := decoder.Decode(data, &gvk, into)
	warnings, err := judgeFields(obj, err, validation)
	if err != nil {
		return nil, nil, decodeError(err, gvk, have, data)
	}
	if have != nil && *have != gvk {
		return nil, nil, apierrors.NewBadRequest(wrongKind(gvk, *have))
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk)
	return obj, warnings, nil
}

// flawless reads JSON in which there is nothing to complain about, in one go: the serializer would first look for the kind.
// When it reports false, into is empty, and the serializer finds the words.
func flawless(data []byte, gvk schema.GroupVersionKind, into runtime.Object) bool {
	strict, err := kjson.UnmarshalStrict(data, into)
	have := into.GetObjectKind().GroupVersionKind()
	if err != nil || len(strict) > 0 || have != gvk && !have.Empty() {
		reflect.ValueOf(into).Elem().SetZero()
		return false
	}
	into.GetObjectKind().SetGroupVersionKind(gvk)
	return true
}

func wrongKind(want, have schema.GroupVersionKind) string {
	if want.GroupVersion() != have.GroupVersion() {
		return fmt.Sprintf("the API version in the data (%s) does not match the expected API version (%s)", have.GroupVersion(), want.GroupVersion())
	}
	return fmt.Sprintf("%s in version %q cannot be handled as a %s", have.Kind, have.Version, want.Kind)
}

func decoderFor(contentType string) (runtime.Decoder, error) {
	media := runtime.ContentTypeJSON
	if contentType != "" {
		parsed, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return nil, unsupportedMedia(contentType)
		}
		media = parsed
	}
	info, ok := runtime.SerializerInfoForMediaType(resource.Codecs.SupportedMediaTypes(), media)
	if !ok {
		return nil, unsupportedMedia(contentType)
	}
	if info.StrictSerializer != nil {
		return info.StrictSerializer, nil
	}
	return info.Serializer, nil
}

func unsupportedMedia(contentType string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 415, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s (not %q)", runtime.ContentTypeJSON, runtime.ContentTypeYAML, runtime.ContentTypeProtobuf, contentType),
	}}
}

// judgeFields turns the strict decoder's findings into warnings or an error. Any other error stays.
func judgeFields(obj runtime.Object, err error, validation string) ([]string, error) {
	strict, ok := runtime.AsStrictDecodingError(err)
	if err == nil || !ok || obj == nil {
		return nil, err
	}
	switch validation {
	case metav1.FieldValidationStrict:
		return nil, err
	case metav1.FieldValidationIgnore:
		return nil, nil
	}
	var warnings []string
	for _, e := range strict.Errors() {
		warnings = append(warnings, e.Error())
	}
	return warnings, nil
}

// decodeError says what could not be read, in upstream's words.
func decodeError(err error, want schema.GroupVersionKind, have *schema.GroupVersionKind, data []byte) error {
	if have != nil && have.Kind != "" {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", have.Kind, have.Version, want.Kind, err))
	}
	return apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(data)))
}

const summaryBytes = 30

func summary(data []byte) string {
	short := data[:min(len(data), summaryBytes)]
	switch {
	case len(data) == 0:
		return "<empty>"
	case data[0] == '{' && len(data) > summaryBytes:
		return string(short) + " ..."
	case data[0] == '{':
		return string(data)
	case len(data) > summaryBytes:
		return fmt.Sprintf("%x ...", short)
	}
	return fmt.Sprintf("%x", data)
}

// CheckFieldValidation refuses a fieldValidation parameter that means nothing.
func CheckFieldValidation(value string) error {
	if value == "" || sets.New(metav1.FieldValidationIgnore, metav1.FieldValidationWarn, metav1.FieldValidationStrict).Has(value) {
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("fieldValidation: unsupported value %q: use Ignore, Warn or Strict", value))
}
