package automation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/nats-io/nats.go/micro"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/resource"
)

// maxRequestBytes bounds a request, as a body over HTTP. It is read before it is known what its sender may do.
const maxRequestBytes = 3 << 20

// request is what a program sends. An empty body asks for everything that needs no name.
type request struct {
	Namespace     string          `json:"namespace"` // empty: "default" for one object, all for a list
	Name          string          `json:"name"`
	LabelSelector string          `json:"labelSelector"`
	Limit         int             `json:"limit"`    // of a list; 0 means all
	Continue      string          `json:"continue"` // from the metadata of the list before
	Object        json.RawMessage `json:"object"`   // the manifest to apply

	DryRun             bool   `json:"dryRun"`
	GracePeriodSeconds *int64 `json:"gracePeriodSeconds"`
	PropagationPolicy  string `json:"propagationPolicy"`
}

// head is what tells a bare manifest from a request: a manifest has a kind. It must be decoded as the manifest itself is,
// names of fields to the letter: what is authorized must be what is applied.
type head struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

// parseRequest reads a request or, for apply, a bare manifest, in JSON or YAML. Unknown fields of a request are errors: a
// misspelt namespace must not become "all".
func parseRequest(data []byte, res *resource.Resource) (request, error) {
	var req request
	if len(data) > maxRequestBytes {
		return req, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxRequestBytes))
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return req, nil
	}
	body, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return req, apierrors.NewBadRequest(fmt.Sprintf("the payload is neither JSON nor YAML: %v", err))
	}
	var h head
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &h); err == nil && h.Kind != "" {
		req.Namespace, req.Name, req.Object = h.Namespace, h.Name, body
		return req, checkKind(h, res)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		return req, apierrors.NewBadRequest(fmt.Sprintf("the payload is no request: %v; it has the fields namespace, name, labelSelector, limit, continue, object, dryRun, gracePeriodSeconds, propagationPolicy", err))
	}
	return req, req.adoptObject(res)
}

// adoptObject lets the manifest inside a request take the namespace beside it, and refuses two that differ.
func (r *request) adoptObject(res *resource.Resource) error {
	if len(r.Object) == 0 {
		return nil
	}
	var object map[string]any
	var h head
	if err := errors.Join(json.Unmarshal(r.Object, &object), kjson.UnmarshalCaseSensitivePreserveInts(r.Object, &h)); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("object is no manifest: %v", err))
	}
	if err := checkKind(h, res); err != nil {
		return err
	}
	if r.Name != "" && r.Name != h.Name {
		return apierrors.NewBadRequest(fmt.Sprintf("the name of the object (%s) does not match the name of the request (%s)", h.Name, r.Name))
	}
	r.Name = h.Name
	if r.Namespace == "" || r.Namespace == h.Namespace || !res.Namespaced {
		r.Namespace = h.Namespace
		return nil
	}
	if h.Namespace != "" {
		return apierrors.NewBadRequest("the namespace of the object does not match the namespace of the request")
	}
	metadata, ok := object["metadata"].(map[string]any)
	if !ok {
		return apierrors.NewBadRequest("metadata.name: required to apply a manifest")
	}
	metadata["namespace"] = r.Namespace
	var err error
	r.Object, err = json.Marshal(object)
	return err
}

func checkKind(h head, res *resource.Resource) error {
	if have := h.GroupVersionKind(); have != res.GVK {
		return apierrors.NewBadRequest(fmt.Sprintf("the object is a %s, but this subject is for %s", have, res.GVK))
	}
	return nil
}

// space is the namespace of one object.
func (r *request) space(res *resource.Resource) string {
	switch {
	case !res.Namespaced:
		return ""
	case r.Namespace == "":
		return metav1.NamespaceDefault
	}
	return r.Namespace
}

// listed is the namespace of a list; empty is all.
func (r *request) listed(res *resource.Resource) string {
	if !res.Namespaced {
		return ""
	}
	return r.Namespace
}

func (r *request) needName() error {
	if r.Name == "" {
		return apierrors.NewBadRequest(`the request must have a name: {"namespace": "default", "name": "..."}`)
	}
	return nil
}

func tooLarge(have int, limit int64) error {
	return apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("the answer has %d bytes, and one message holds %d: list in parts with limit and continue", have, limit))
}

// statusOf is the error as clients see it.
func (e *Endpoints) statusOf(subject string, err error) metav1.Status {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		e.Log.Error("automation request failed", "subject", subject, "err", err)
		api = apierrors.NewInternalError(errors.New("see the coordinator's log"))
	}
	status := api.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	return status
}

// fail answers with the error in the headers of the micro protocol and a Kubernetes Status as the body.
func fail(msg micro.Request, status metav1.Status) error {
	body, err := json.Marshal(status)
	if err != nil {
		return err
	}
	return msg.Error(strconv.Itoa(int(status.Code)), status.Message, body)
}
