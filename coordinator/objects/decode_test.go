package objects_test

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

func TestDecodeStrict(t *testing.T) {
	const good = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2}}`
	envelope, err := resource.Encode(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, contentType, body string
		validation              string
		words                   string // of the error; empty for none
		reason                  metav1.StatusReason
		warnings                int
	}{
		{name: "json", contentType: "application/json", body: good},
		{name: "no content type", body: good},
		{name: "parameters", contentType: "application/json; charset=utf-8", body: good},
		{name: "yaml", contentType: "application/yaml", body: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 2}"},
		{name: "protobuf", contentType: runtime.ContentTypeProtobuf, body: string(envelope)},
		{name: "no kind", body: `{"metadata":{"name":"web"},"spec":{"replicas":2}}`},
		{name: "unknown field, warn", body: `{"metadata":{"name":"web"},"spec":{"replicas":2,"replica":1}}`, warnings: 1},
		{name: "unknown field, ignore", body: `{"metadata":{"name":"web"},"spec":{"replicas":2,"replica":1}}`, validation: "Ignore"},
		{name: "unknown field, strict", body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replica":1}}`, validation: "Strict", reason: metav1.StatusReasonBadRequest, words: `Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica"`},
		{name: "duplicate field, strict", body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":1,"replicas":2}}`, validation: "Strict", reason: metav1.StatusReasonBadRequest, words: `duplicate field "spec.replicas"`},
		{name: "wrong type", body: `{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":"two"}}`, reason: metav1.StatusReasonBadRequest, words: "cannot unmarshal string into Go struct field"},
		{name: "wrong kind", body: `{"apiVersion":"v1","kind":"Pod"}`, reason: metav1.StatusReasonBadRequest, words: "the API version in the data (v1) does not match the expected API version (apps/v1)"},
		{name: "wrong version", body: `{"apiVersion":"apps/v1beta1","kind":"Deployment"}`, reason: metav1.StatusReasonBadRequest, words: "v1beta1"},
		{name: "empty", reason: metav1.StatusReasonBadRequest, words: ""},
		{name: "garbage", body: "}{", reason: metav1.StatusReasonBadRequest, words: "the object provided is unrecognized (must be of type Deployment)"},
		{name: "cut protobuf", contentType: runtime.ContentTypeProtobuf, body: string(envelope[:len(envelope)-3]), reason: metav1.StatusReasonBadRequest},
		{name: "unknown media", contentType: "text/plain", body: good, reason: metav1.StatusReasonUnsupportedMediaType, words: `not "text/plain"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			obj, warnings, err := objects.DecodeStrict([]byte(test.body), test.contentType, deploymentsOf(t), test.validation)
			if test.reason != "" {
				wantStatus(t, err, test.reason, test.words)
				return
			}
			d := must(t, &appsv1.Deployment{})(obj, err)
			if d.Name != "web" || *d.Spec.Replicas != 2 || d.Kind != "Deployment" || len(warnings) != test.warnings {
				t.Errorf("got %+v, warnings %q", d, warnings)
			}
		})
	}
}

func FuzzDecodeStrict(f *testing.F) {
	f.Add("application/json", []byte(`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":2}}`))
	f.Add("application/yaml", []byte("kind: Deployment\na: &a [*a]"))
	f.Add(runtime.ContentTypeProtobuf, []byte("k8s\x00\x0a\x00"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		obj, _, err := objects.DecodeStrict(body, contentType, deploymentsOf(t), "Strict")
		if (obj == nil) == (err == nil) {
			t.Errorf("object %v, error %v", obj, err)
		}
	})
}
