package automation

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"skerry.dev/skerry/coordinator/resource"
)

// Whatever comes, a request that is accepted with an object has one of the subject's kind, in the namespace it names.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"name":"a"}`, `{"object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}},"namespace":"x"}`,
		`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}`, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}", `[]`, `{"object":[]}`,
		`{"object":{"kind":"ConfigMap","apiVersion":"v1"},"namespace":"x"}`, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","nameſpace":"x","namespace":"y"}}`,
	} {
		f.Add([]byte(seed))
	}
	res := resource.Lookup("", "v1", "configmaps")
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := parseRequest(data, res)
		if err != nil || len(req.Object) == 0 {
			return
		}
		var u unstructured.Unstructured // as it is read where it is applied
		if err := u.UnmarshalJSON(req.Object); err != nil {
			return
		}
		if u.GroupVersionKind() != res.GVK || u.GetNamespace() != req.Namespace || u.GetName() != req.Name {
			t.Fatalf("accepted %s %s/%s for a request of %s/%s", u.GroupVersionKind(), u.GetNamespace(), u.GetName(), req.Namespace, req.Name)
		}
	})
}
