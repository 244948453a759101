package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"
)

// Error codes of the distribution specification, and one of our own (codeStorageFull).
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	codeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeUnsupported         = "UNSUPPORTED"
	codeUnknown             = "UNKNOWN"
	codeStorageFull         = "STORAGE_FULL"
)

// errStorageFull means that the disk has no room, or less than Options.ReserveBytes.
var errStorageFull = errors.New("the registry's disk is full: delete images (skerry image rm --remote) or add space, then push again")

// httpError is a refusal that the client should read.
type httpError struct {
	status int
	code   string
	msg    string
	detail any
}

func (e *httpError) Error() string { return e.code + ": " + e.msg }

func refuse(status int, code, format string, args ...any) *httpError {
	return &httpError{status: status, code: code, msg: fmt.Sprintf(format, args...)}
}

// body is the JSON of the specification's error answers.
type body struct {
	Errors []bodyError `json:"errors"`
}

type bodyError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// writeError answers with err. What is not an httpError is our fault: the client reads only that, the log has the rest.
func (r *Registry) writeError(w http.ResponseWriter, req *http.Request, err error) {
	refusal := r.refusalOf(req, err)
	writeRefusal(w, refusal)
}

func (r *Registry) refusalOf(req *http.Request, err error) *httpError {
	var refusal *httpError
	switch {
	case errors.As(err, &refusal):
		return refusal
	case isFull(err):
		r.log.Error("registry storage full", "path", req.URL.Path, "err", err)
		return refuse(http.StatusInsufficientStorage, codeStorageFull, "%v", errStorageFull)
	case req.Context().Err() != nil:
		return refuse(http.StatusBadRequest, codeUnknown, "the request was cut off: %v", req.Context().Err())
	}
	r.log.Error("registry request", "method", req.Method, "path", req.URL.Path, "err", err)
	return refuse(http.StatusInternalServerError, codeUnknown, "the registry could not do this; its log says why")
}

func writeRefusal(w http.ResponseWriter, e *httpError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	// A client that is gone cannot be told anything.
	_ = json.NewEncoder(w).Encode(body{Errors: []bodyError{{Code: e.code, Message: e.msg, Detail: e.detail}}})
}

func isFull(err error) bool {
	return errors.Is(err, errStorageFull) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Challenge answers 401 in the way that registry clients understand: they ask /v2/ without credentials first, read
// that basic authentication is wanted, and send it. realm is shown to people; message says what was wrong.
func Challenge(w http.ResponseWriter, realm, message string) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", realm))
	writeRefusal(w, refuse(http.StatusUnauthorized, codeUnauthorized, "%s", message))
}
