package apiserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// freshWait is how long a read waits for a revision that the view has not seen yet, as upstream does.
const freshWait = 3 * time.Second

var paramVersion = metav1.SchemeGroupVersion

// listOptions reads and checks the parameters of a list or watch. A name in the path (the old way to watch one object)
// becomes a field selector.
func (c *call) listOptions() (*internalversion.ListOptions, error) {
	o := &internalversion.ListOptions{}
	if err := internalscheme.ParameterCodec.DecodeParameters(c.query, paramVersion, o); err != nil {
		return nil, badRequest("%v", err)
	}
	o.Watch = c.verb == "watch"
	if errs := validation.ValidateListOptions(o, true); len(errs) > 0 {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "ListOptions"}, "", errs)
	}
	if c.name != "" {
		byName := fields.OneTermEqualSelector("metadata.name", c.name)
		if o.FieldSelector == nil || o.FieldSelector.Empty() {
			o.FieldSelector = byName
		} else {
			o.FieldSelector = fields.AndSelectors(o.FieldSelector, byName)
		}
	}
	return o, nil
}

// parseRevision reads a resourceVersion; empty is 0.
func parseRevision(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, badRequest("invalid resource version: resourceVersion: Invalid value: %q: %v", s, err)
	}
	return n, nil
}

// fresh waits until the view has seen revision.
func (s *Server) fresh(ctx context.Context, revision uint64) error {
	if revision <= s.view.Revision() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	err := s.view.Wait(ctx, revision)
	if errors.Is(err, context.DeadlineExceeded) {
		return tooLarge(revision, s.view.Revision())
	}
	return err
}

// tooLarge is upstream's answer for a revision of the future, which client-go recognizes by its cause.
func tooLarge(wanted, have uint64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", wanted, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

func expired(format string, args ...any) error {
	return apierrors.NewResourceExpired(fmt.Sprintf(format, args...))
}

// encoder negotiates the form of the answer.
func (s *Server) encoder(c *call, shapes []string) (*encoder, error) {
	f, err := negotiate(c.r, offer{protobuf: hasProtobuf(c.resource.New()), shapes: shapes})
	if err != nil {
		return nil, err
	}
	e := &encoder{form: f, resource: c.resource, include: metav1.IncludeMetadata, now: s.now()}
	if f.as == asTable {
		e.include, err = includeObject(c)
	}
	return e, err
}

func includeObject(c *call) (metav1.IncludeObjectPolicy, error) {
	switch p := metav1.IncludeObjectPolicy(c.query.Get("includeObject")); p {
	case "":
		return metav1.IncludeMetadata, nil
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return p, nil
	default:
		return "", badRequest("includeObject must be one of None, Metadata or Object, not %q", p)
	}
}

func hasProtobuf(obj runtime.Object) bool {
	if obj == nil {
		return false
	}
	_, ok := obj.(interface{ Marshal() ([]byte, error) })
	return ok
}
