package objects

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStringDataBecomesData(t *testing.T) {
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"kept": []byte("k"), "both": []byte("data")},
		StringData: map[string]string{"both": "text", "text": "t"},
	}
	foldStringData(s)
	want := map[string][]byte{"kept": []byte("k"), "both": []byte("text"), "text": []byte("t")}
	same := func(a, b []byte) bool { return string(a) == string(b) }
	if !maps.EqualFunc(s.Data, want, same) || s.StringData != nil {
		t.Errorf("data %q, stringData %v", s.Data, s.StringData)
	}
	only := &corev1.Secret{StringData: map[string]string{"k": "v"}}
	foldStringData(only)
	if string(only.Data["k"]) != "v" {
		t.Errorf("data %q", only.Data)
	}
}
