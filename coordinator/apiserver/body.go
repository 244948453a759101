package apiserver

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

// MaxBodyBytes bounds a request's body, as the Kubernetes API server does.
const MaxBodyBytes = 3 << 20

// maxBodies bounds the bodies of all requests under work together: each may be decoded to several times its size.
const maxBodies = 96 << 20

// maxWarnings bounds the Warning headers of one answer: more would not fit what clients accept as headers.
const maxWarnings = 32

// body reads the whole body; 413 when it is too long.
func (c *call) body() ([]byte, error) {
	flow := http.NewResponseController(c.w)
	if flow.SetReadDeadline(time.Now().Add(c.bodyLimit)) == nil {
		defer flow.SetReadDeadline(time.Time{}) //nolint:errcheck // it could be set, so it can be lifted
	}
	data, err := io.ReadAll(&budgeted{Reader: http.MaxBytesReader(c.w, c.r.Body, MaxBodyBytes), of: c.bodies, taken: &c.weight})
	if long, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", long.Limit))
	}
	if apierrors.IsTooManyRequests(err) {
		return nil, err
	}
	if err != nil {
		return nil, badRequest("the body could not be read: %v", err)
	}
	if c.keeps {
		c.sent = data
	}
	return data, nil
}

// mediaType is the body's type; JSON when the client names none.
func (c *call) mediaType() (string, error) {
	header := c.r.Header.Get("Content-Type")
	if header == "" {
		return typeJSON, nil
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil {
		return "", unsupportedMediaType(typeJSON, typeYAML, typeProtobuf)
	}
	return media, nil
}

// inputType is the body's type, of those in which objects are sent.
func (c *call) inputType() (string, error) {
	media, err := c.mediaType()
	if err != nil {
		return "", err
	}
	switch media {
	case typeJSON, typeYAML, typeProtobuf:
		return media, nil
	}
	return "", unsupportedMediaType(typeJSON, typeYAML, typeProtobuf)
}

// object reads an object of the call's kind from the body, with unknown fields treated as validation says.
func (c *call) object(res *resource.Resource, validation string) (runtime.Object, error) {
	media, err := c.inputType()
	if err != nil {
		return nil, err
	}
	data, err := c.body()
	if err != nil {
		return nil, err
	}
	obj, warnings, err := objects.DecodeStrict(data, media, res, validation)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		c.warn(w)
	}
	return obj, nil
}

// decodeInto reads the body of a subresource or review into obj. The body may leave kind and apiVersion out, and may name
// another version than gvk's as long as the kind is right; unknown fields are dropped.
func (c *call) decodeInto(obj runtime.Object, gvk schema.GroupVersionKind) error {
	media, err := c.inputType()
	if err != nil {
		return err
	}
	data, err := c.body()
	if err != nil {
		return err
	}
	return decodeAs(media, data, obj, gvk)
}

// warn adds a Warning header, once for each text.
func (c *call) warn(text string) {
	header, err := utilnet.NewWarningHeader(299, "-", text)
	if err != nil {
		return // text with control characters is not for a header, and nothing was promised
	}
	have := c.w.Header().Values("Warning")
	if len(have) < maxWarnings && !slices.Contains(have, header) {
		c.w.Header().Add("Warning", header)
	}
}

// budget is how many bytes all requests together may hold.
type budget struct {
	limit int64
	taken atomic.Int64
}

// take takes n bytes, or none when there are not as many.
func (b *budget) take(n int64) bool {
	if b.taken.Add(n) > b.limit {
		b.taken.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.taken.Add(-n) }

// budgeted reads what fits the budget, and adds to taken what must be given back.
type budgeted struct {
	io.Reader
	of    *budget
	taken *int64
}

// Read implements io.Reader.
func (r *budgeted) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 && !r.of.take(int64(n)) {
		return 0, apierrors.NewTooManyRequests("The server is busy with other large requests, try again later", 1)
	}
	*r.taken += int64(n)
	return n, err
}
