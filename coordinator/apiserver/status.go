package apiserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// statusOf makes the Status that a client reads of an error. Only errors that already are one show their text; of any
// other the client learns that something broke inside, and the log learns what.
func statusOf(err error) (status metav1.Status, internal bool) {
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		status = api.Status()
	case errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError("the request did not finish in time", 1).Status()
	case errors.Is(err, context.Canceled):
		status = apierrors.NewTimeoutError("the request was cancelled", 1).Status()
	default:
		status = apierrors.NewInternalError(errors.New("see the coordinator's log")).Status()
		internal = true
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	return status, internal
}

// writeError answers with the error's Status in a form that the client reads, JSON when it names none we have, and
// returns the code.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) int {
	status, internal := statusOf(err)
	if internal {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	f, nerr := negotiate(r, offer{protobuf: true})
	if nerr != nil {
		f = form{media: typeJSON}
	}
	body, merr := f.marshal(&status)
	if merr != nil {
		s.log.Error("status not encoded", "err", merr)
		body = nil
	}
	h := w.Header()
	h.Set("Content-Type", f.media)
	h.Set("Cache-Control", "no-cache, private")
	h.Set("X-Content-Type-Options", "nosniff")
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	writeBody(w, int(status.Code), body)
	return int(status.Code)
}
