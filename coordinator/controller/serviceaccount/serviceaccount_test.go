package serviceaccount

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

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
	changes, _ := planner{[]byte("CA"), fixed{}}.plan(s, time.Time{})
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
	if changes, _ := (planner{[]byte("CA"), fixed{}}).plan(s, time.Time{}); len(changes) > 0 {
		t.Errorf("concluded %v from kinds that are not known", changes)
	}
}

// fixed makes a token that says what it is for.
type fixed struct{}

func (fixed) ForSecret(account *corev1.ServiceAccount, secret *corev1.Secret) (string, error) {
	return "token of " + string(account.UID) + " for " + secret.Name, nil
}

func TestSecretsAreFilled(t *testing.T) {
	secret := func(name, account, uid string, data map[string]string) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u-" + types.UID(name), Annotations: map[string]string{corev1.ServiceAccountNameKey: account}},
			Type:       corev1.SecretTypeServiceAccountToken,
		}
		if uid != "" {
			s.Annotations[corev1.ServiceAccountUIDKey] = uid
		}
		for k, v := range data {
			if s.Data == nil {
				s.Data = map[string][]byte{}
			}
			s.Data[k] = []byte(v)
		}
		return s
	}
	full := map[string]string{"ca.crt": "CA", "namespace": "ns", "token": "t"}
	going := secret("going", "gone", "", nil)
	going.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	opaque := secret("opaque", "gone", "", nil)
	opaque.Type = corev1.SecretTypeOpaque
	s := &controller.Snapshot{Others: map[schema.GroupKind][]controller.Object{
		accountKind: {&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot", UID: "u1"}}},
		secretKind: {
			secret("bare", "robot", "", nil),
			secret("full", "robot", "u1", full),
			going,
			secret("noaccount", "gone", "", nil),
			secret("oldca", "robot", "u1", map[string]string{"ca.crt": "old", "namespace": "mine", "token": "t"}),
			opaque,
			secret("replaced", "robot", "u0", full),
		},
	}}
	changes, _ := planner{[]byte("CA"), fixed{}}.plan(s, time.Time{})
	var got []string
	for _, c := range changes {
		o, _ := c.Object.(*corev1.Secret)
		line := fmt.Sprintf("%s %s", c.Verb, o.Name)
		if c.Verb == controller.Update {
			line += fmt.Sprintf(" %s %s %s %s", o.Data["ca.crt"], o.Data["namespace"], o.Data["token"], o.Annotations[corev1.ServiceAccountUIDKey])
		}
		got = append(got, line)
	}
	want := []string{"update bare CA ns token of u1 for bare u1", "delete noaccount", "update oldca CA mine t u1", "delete replaced"}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
	for _, c := range changes { // planning again changes nothing
		for i, have := range s.Others[secretKind] {
			if o, _ := c.Object.(*corev1.Secret); c.Verb == controller.Update && o.Name == have.GetName() {
				s.Others[secretKind][i] = o
			}
		}
	}
	again, _ := planner{[]byte("CA"), fixed{}}.plan(s, time.Time{})
	for _, c := range again {
		if c.Verb != controller.Delete {
			t.Errorf("again: %s %v", c.Verb, c.Object)
		}
	}
	delete(s.Others, accountKind)
	if changes, _ := (planner{[]byte("CA"), fixed{}}).plan(s, time.Time{}); len(changes) > 0 {
		t.Errorf("concluded %v from kinds that are not known", changes)
	}
}
