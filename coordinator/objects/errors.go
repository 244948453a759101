package objects

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/messaging/store"
)

// errModified is upstream's text of a lost compare-and-set; clients look for the reason, people know the words.
var errModified = errors.New("the object has been modified; please apply your changes to the latest version and try again")

// retryAfterSeconds is what a client is told to wait when the store does not answer.
const retryAfterSeconds = 1

// storeError turns an error of the store into the Status that the client gets.
func storeError(res *resource.Resource, name, verb string, err error) error {
	gr := res.GroupResource()
	switch {
	case errors.Is(err, store.ErrNotFound):
		return apierrors.NewNotFound(gr, name)
	case errors.Is(err, store.ErrExists):
		return apierrors.NewAlreadyExists(gr, name)
	case errors.Is(err, store.ErrConflict):
		return apierrors.NewConflict(gr, name, errModified)
	case errors.Is(err, store.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s %s %q: %v", verb, gr, name, err))
	case errors.Is(err, store.ErrDeposed):
		return apierrors.NewServiceUnavailable("another coordinator has taken over: " + err.Error())
	case errors.Is(err, store.ErrUnknownOutcome):
		out := apierrors.NewServerTimeout(gr, verb, retryAfterSeconds)
		out.ErrStatus.Message = fmt.Sprintf("the %s of %s %q was sent, but the store did not confirm it: read the object to learn whether it happened", verb, gr, name)
		return out
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return apierrors.NewTimeoutError(fmt.Sprintf("%s %s %q: %v", verb, gr, name, err), retryAfterSeconds)
	case errors.Is(err, store.ErrFull):
		return full(fmt.Sprintf("%s %s %q: %v", verb, gr, name, err))
	case errors.Is(err, store.ErrUnavailable):
		return apierrors.NewServiceUnavailable(fmt.Sprintf("%s %s %q: %v", verb, gr, name, err))
	}
	return apierrors.NewInternalError(fmt.Errorf("%s %s %q: %w", verb, gr, name, err))
}

// full is what a write gets while the coordinator's disk has no room. It says nothing of trying again: that is for when a
// person has made some.
func full(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInsufficientStorage, Reason: "InsufficientStorage", Message: message,
	}}
}

func notFound(res *resource.Resource, name string) error {
	return apierrors.NewNotFound(res.GroupResource(), name)
}

func conflict(res *resource.Resource, name string) error {
	return apierrors.NewConflict(res.GroupResource(), name, errModified)
}

// uidConflict is what a write to another incarnation of the object gets.
func uidConflict(res *resource.Resource, name string, wanted, have types.UID) error {
	return apierrors.NewConflict(res.GroupResource(), name, fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", wanted, have)) //nolint:staticcheck // upstream's words
}

// invalid is nil when there are no errors.
func invalid(res *resource.Resource, name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return apierrors.NewInvalid(res.GVK.GroupKind(), name, errs)
}

// tooLarge says that an object cannot be stored.
func tooLarge(res *resource.Resource, name string, bytes int) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("%s %q takes %d bytes stored, the limit is %d: split it, or keep large data in an image or volume", res.GroupResource(), name, bytes, MaxObjectBytes))
}

// terminating is what a create in a namespace that is being deleted gets.
func terminating(res *resource.Resource, namespace, name string) error {
	err := apierrors.NewForbidden(res.GroupResource(), name, fmt.Errorf("unable to create new content in namespace %s because it is being terminated", namespace))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: namespaceTerminating, Message: fmt.Sprintf("namespace %s is being terminated", namespace), Field: "metadata.namespace",
	})
	return err
}

// namespaceTerminating is core/v1 NamespaceTerminatingCause, by which clients tell this refusal from others.
const namespaceTerminating metav1.CauseType = "NamespaceTerminating"

func unsupported(res *resource.Resource, verb string) error {
	return apierrors.NewMethodNotSupported(res.GroupResource(), verb)
}
