package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// maxPatchOperations bounds a JSON patch, as upstream. What its copy operations may add up to is bounded by the library,
// whose only setting for that is a variable.
const maxPatchOperations = 10000

var _ = func() int64 {
	jsonpatch.AccumulatedCopySizeLimit = 2 * MaxObjectBytes
	return jsonpatch.AccumulatedCopySizeLimit
}()

// Patch changes an object or, when subresource is "status" or "scale", that part of it; the result of a scale patch is a
// Scale. The patch is made again on the newer object when another write came between, so it only conflicts when it names
// a resourceVersion itself.
func (s *Store) Patch(ctx context.Context, res *resource.Resource, namespace, name string, how types.PatchType, patch []byte, subresource string, o WriteOptions) (runtime.Object, error) {
	p, err := newPatcher(how, patch, o)
	if err != nil {
		return nil, err
	}
	kept := kept(res)
	part := partSpec
	switch subresource {
	case "":
	case resource.Scale:
		return s.patchScale(ctx, kept, namespace, name, p, o)
	case resource.Status:
		part = partStatus
	case resource.Ephemeral:
		part = partEphemeral
	default:
		return nil, unsupported(res, "patch "+subresource)
	}
	if part == partStatus && s.strategy(kept).status == nil {
		return nil, unsupported(res, "patch status")
	}
	out, err := s.modify(ctx, kept, namespace, name, part, false, write{WriteOptions: o, asked: res, subresource: subresource}, func(item *view.Item) (runtime.Object, error) {
		obj, err := p.object(item.As(res))
		if err != nil {
			return nil, err
		}
		if err := sameName(metaOf(obj), namespace, name); err != nil {
			return nil, err
		}
		return stored(res, obj)
	})
	if err != nil {
		return nil, err
	}
	return s.shown(res, out)
}

// sameName refuses an object that is not the one that the request names.
func sameName(m metav1.Object, namespace, name string) error {
	switch {
	case m.GetName() == "":
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s based on URL) was undeterminable: name must be provided", name))
	case m.GetName() != name:
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", m.GetName(), name))
	case m.GetNamespace() != namespace:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// patcher applies one patch.
type patcher struct {
	how        types.PatchType
	patch      []byte
	operations jsonpatch.Patch // of a JSON patch
	marks      *marks          // all that a merge patch sets, when it sets nothing else
	validation string
	warn       func(...string)
}

func newPatcher(how types.PatchType, patch []byte, o WriteOptions) (*patcher, error) {
	p := &patcher{how: how, patch: patch, validation: o.Validation, warn: o.warn}
	switch how {
	case types.JSONPatchType:
		return p, p.parseOperations()
	case types.MergePatchType, types.StrategicMergePatchType:
		if p.marks = marksOf(patch); p.marks != nil {
			return p, nil
		}
		var body map[string]any
		if err := json.Unmarshal(patch, &body); err != nil {
			return nil, badMerge(how, err)
		}
		return p, nil
	case types.ApplyPatchType, types.ApplyCBORPatchType:
	}
	return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s (not %q)", types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, how),
	}}
}

// badMerge is upstream's answer: its merge patches say less about JSON that does not parse.
func badMerge(how types.PatchType, err error) error {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok && how == types.MergePatchType {
		return apierrors.NewBadRequest("invalid JSON patch")
	}
	return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
}

func (p *patcher) parseOperations() error {
	var err error
	if p.operations, err = jsonpatch.DecodePatch(p.patch); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: %v", err))
	}
	if len(p.operations) > maxPatchOperations {
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxPatchOperations, len(p.operations)))
	}
	for n, op := range p.operations {
		if err := checkOperation(op); err != nil {
			return apierrors.NewBadRequest(fmt.Sprintf("error decoding patch: operation %d: %v", n, err))
		}
	}
	return nil
}

// checkOperation finds what the library takes for granted and would crash on.
func checkOperation(op jsonpatch.Operation) error {
	needs := map[string]string{"add": "value", "replace": "value", "test": "value", "move": "from", "copy": "from", "remove": "path"}
	member, known := needs[op.Kind()]
	if !known {
		return fmt.Errorf("op %q is unknown", op.Kind())
	}
	for _, m := range []string{"path", member} {
		if op[m] == nil {
			return fmt.Errorf("%s lacks %q", op.Kind(), m)
		}
	}
	return nil
}

// object is the item with the patch applied.
func (p *patcher) object(item *view.Item) (runtime.Object, error) {
	if p.marks != nil {
		return p.marks.object(item), nil
	}
	before, err := item.JSON()
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	after, err := p.apply(before, item.Object)
	if err != nil {
		return nil, err
	}
	return p.decode(after, item.Resource.GVK, item.Resource.New())
}

// apply makes the patched document. like is an object of the type, for its patch strategies.
func (p *patcher) apply(before []byte, like runtime.Object) ([]byte, error) {
	switch p.how {
	case types.JSONPatchType:
		after, err := p.operations.Apply(before)
		return after, unprocessable(err)
	case types.MergePatchType:
		after, err := jsonpatch.MergePatch(before, p.patch)
		return after, unprocessable(err)
	default:
		after, err := strategicpatch.StrategicMergePatch(before, p.patch, like)
		return after, strategicError(err)
	}
}

// decode reads the patched document. A patch may not change what kind of object it is.
func (p *patcher) decode(after []byte, gvk schema.GroupVersionKind, into runtime.Object) (runtime.Object, error) {
	decoder, err := decoderFor(runtime.ContentTypeJSON)
	if err != nil {
		return nil, err
	}
	obj, have, err := decoder.Decode(after, &gvk, into)
	validation := p.validation
	if validation == "" {
		validation = metav1.FieldValidationIgnore
	}
	warnings, err := judgeFields(obj, err, validation)
	if err != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), string(p.patch), err.Error())})
	}
	if have != nil && *have != gvk {
		return nil, apierrors.NewBadRequest(wrongKind(gvk, *have))
	}
	p.warn(warnings...)
	return obj, nil
}

// unprocessable reports a patch that does not fit the object, with upstream's code and reason. Upstream's message keeps
// the cause to itself.
func unprocessable(err error) error {
	if err == nil {
		return nil
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("the patch does not fit the object: %v", err),
	}}
}

func strategicError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mergepatch.ErrBadJSONDoc), errors.Is(err, mergepatch.ErrBadPatchFormatForPrimitiveList),
		errors.Is(err, mergepatch.ErrBadPatchFormatForRetainKeys), errors.Is(err, mergepatch.ErrBadPatchFormatForSetElementOrderList),
		errors.Is(err, mergepatch.ErrUnsupportedStrategicMergePatchFormat):
		return apierrors.NewBadRequest(err.Error())
	}
	return unprocessable(err)
}

func (s *Store) patchScale(ctx context.Context, res *resource.Resource, namespace, name string, p *patcher, o WriteOptions) (runtime.Object, error) {
	out, err := s.modify(ctx, res, namespace, name, partSpec, false, write{WriteOptions: o, asked: res, subresource: resource.Scale}, func(item *view.Item) (runtime.Object, error) {
		before, err := scaleOf(item.Object)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(before)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		after, err := p.apply(body, before)
		if err != nil {
			return nil, err
		}
		obj, err := p.decode(after, scaleKind, &autoscalingv1.Scale{})
		if err != nil {
			return nil, err
		}
		return withScale(item, obj)
	})
	if err != nil {
		return nil, err
	}
	return asScale(out)
}

func asScale(obj runtime.Object) (runtime.Object, error) {
	scale, err := scaleOf(obj)
	if err != nil {
		return nil, err
	}
	return scale, nil
}
