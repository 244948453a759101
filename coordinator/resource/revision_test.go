package resource

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWithRevision(t *testing.T) {
	for _, object := range []*corev1.ConfigMap{
		{},
		{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b", UID: "c", Generation: 3, Labels: map[string]string{"k": "v"}}, Data: map[string]string{"x": string(make([]byte, 300))}},
		{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "1234567", Finalizers: []string{string(make([]byte, 100))}}},
	} {
		body, err := object.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for _, revision := range []string{"", "1", "18446744073709551615"} {
			object.ResourceVersion = revision
			want, err := object.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := WithRevision(body, revision); err != nil || !bytes.Equal(got, want) {
				t.Errorf("revision %q: %x, %v; not %x", revision, got, err, want)
			}
		}
	}
}

func FuzzWithRevision(f *testing.F) {
	body, err := (&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, "7")
	f.Add([]byte(nil), "")
	f.Fuzz(func(t *testing.T, body []byte, revision string) {
		out, err := WithRevision(body, revision)
		if err != nil {
			return
		}
		again, err := WithRevision(out, revision)
		if err != nil || !bytes.Equal(again, out) {
			t.Errorf("%x became %x and then %x, %v", body, out, again, err)
		}
	})
}
