package automation

import (
	"encoding/json"
	"testing"
)

func TestEncodeChange(t *testing.T) {
	for _, c := range []Change{
		{},
		{Type: "DELETED", Kind: "pods", Namespace: "a", Name: "b", Revision: 7},
		{Type: "ADDED", Kind: "pods", Namespace: "a", Name: "b", Revision: 7, Object: json.RawMessage(`{"metadata":{"name":"b"}}`)},
	} {
		want, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := encodeChange(c); err != nil || string(got) != string(want) {
			t.Errorf("%s, %v; not %s", got, err, want)
		}
	}
}
