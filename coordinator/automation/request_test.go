package automation

import (
	"encoding/json"
	"testing"

	"skerry.dev/skerry/coordinator/resource"
)

// Whatever comes, a request that is accepted with an object has one of the subject's kind, in the namespace it names.
func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"name":"a"}`, `{"object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}},"namespace":"x"}`,
		`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}`, "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}", `[]`, `{"object":[]}`,
		`{"object":{"kind":"ConfigMap","apiVersion":"v1"},"namespace":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	res := resource.Lookup("", "v1", "configmaps")
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := parseRequest(data, res)
		if err != nil || len(req.Object) == 0 {
			return
		}
		var h head
		if err := json.Unmarshal(req.Object, &h); err != nil {
			t.Fatalf("accepted an object that does not parse: %v", err)
		}
		if h.GroupVersionKind() != res.GVK || h.Namespace != req.Namespace || h.Name != req.Name {
			t.Fatalf("accepted %s %s/%s for a request of %s/%s", h.GroupVersionKind(), h.Namespace, h.Name, req.Namespace, req.Name)
		}
	})
}
