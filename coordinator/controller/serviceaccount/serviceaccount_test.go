package serviceaccount

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

func TestNamespacesAreFurnished(t *testing.T) {
	ca := func(namespace, content string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": content}}
	}
	account := func(namespace string) *corev1.ServiceAccount {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}}
	}
	ended := metav1.NewTime(time.Unix(1, 0))
	s := &controller.Snapshot{
		Namespaces: []*corev1.Namespace{
			{ObjectMeta: metav1.ObjectMeta{Name: "bare"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "full"}},
			{ObjectMeta: metav1.ObjectMeta{Name: "going", DeletionTimestamp: &ended}},
			{ObjectMeta: metav1.ObjectMeta{Name: "spoilt"}},
		},
		Others: map[schema.GroupKind][]controller.Object{
			accountKind:   {account("full"), account("spoilt")},
			configMapKind: {ca("full", "CA"), ca("spoilt", "forged")},
		},
	}
	changes, _ := planner{[]byte("CA")}.plan(s, time.Time{})
	var got []string
	for _, c := range changes {
		m, _ := c.Object.(controller.Object)
		got = append(got, fmt.Sprintf("%s %s/%s", c.Verb, m.GetNamespace(), m.GetName()))
		if cm, ok := c.Object.(*corev1.ConfigMap); ok && cm.Data["ca.crt"] != "CA" {
			t.Errorf("%s has %v", m.GetName(), cm.Data)
		}
	}
	if want := "[create bare/default create bare/kube-root-ca.crt update spoilt/kube-root-ca.crt]"; fmt.Sprint(got) != want {
		t.Errorf("changes %v, want %s", got, want)
	}
	delete(s.Others, accountKind)
	if changes, _ := (planner{[]byte("CA")}).plan(s, time.Time{}); len(changes) > 0 {
		t.Errorf("concluded %v from kinds that are not known", changes)
	}
}
