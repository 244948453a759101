package token

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver/authn"
)

// kept is a world with a Secret that keeps its token.
func kept(t *testing.T) (*world, *corev1.ServiceAccount, *corev1.Secret, string) {
	t.Helper()
	w := newWorld(t)
	account := &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "u-sa")}
	secret := &corev1.Secret{ObjectMeta: meta("ns", "s", "u-s")}
	w.objects["serviceaccounts/ns/sa"], w.objects["secrets/ns/s"] = account, secret
	text, err := w.ForSecret(account, secret)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{corev1.ServiceAccountTokenKey: []byte(text)}
	return w, account, secret, text
}

func TestKeptTokenEndsWithItsSecretAndItsAccount(t *testing.T) {
	now := metav1.Now()
	for name, tt := range map[string]struct {
		change func(*world, *corev1.ServiceAccount, *corev1.Secret)
		want   string
	}{
		"nothing":          {func(*world, *corev1.ServiceAccount, *corev1.Secret) {}, ""},
		"ten years":        {func(w *world, _ *corev1.ServiceAccount, _ *corev1.Secret) { w.now = w.now.AddDate(10, 0, 0) }, ""},
		"no secret":        {func(w *world, _ *corev1.ServiceAccount, _ *corev1.Secret) { delete(w.objects, "secrets/ns/s") }, "invalidated"},
		"secret going":     {func(_ *world, _ *corev1.ServiceAccount, s *corev1.Secret) { s.DeletionTimestamp = &now }, "invalidated"},
		"another token":    {func(_ *world, _ *corev1.ServiceAccount, s *corev1.Secret) { s.Data["token"] = []byte("x") }, "server's copy"},
		"no token":         {func(_ *world, _ *corev1.ServiceAccount, s *corev1.Secret) { s.Data = nil }, "server's copy"},
		"no account":       {func(w *world, _ *corev1.ServiceAccount, _ *corev1.Secret) { delete(w.objects, "serviceaccounts/ns/sa") }, "invalidated"},
		"account going":    {func(_ *world, a *corev1.ServiceAccount, _ *corev1.Secret) { a.DeletionTimestamp = &now }, "invalidated"},
		"account replaced": {func(_ *world, a *corev1.ServiceAccount, _ *corev1.Secret) { a.UID = "another" }, "invalidated"},
		"marked invalid": {func(_ *world, _ *corev1.ServiceAccount, s *corev1.Secret) {
			s.Labels = map[string]string{invalidSince: "2026-01-01"}
		}, "has been marked invalid"},
	} {
		w, account, secret, text := kept(t)
		tt.change(w, account, secret)
		user, ok := w.Lookup(text)
		_, _, err := w.Check(text, nil)
		switch {
		case tt.want == "" && (!ok || user.Name != "system:serviceaccount:ns:sa" || user.UID != "u-sa" || !user.In("system:serviceaccounts:ns")):
			t.Errorf("%s: %+v %v", name, user, err)
		case tt.want != "" && (ok || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %+v, %v, want %q", name, user, err, tt.want)
		}
	}
}

func TestKeptTokenIsForTheAPI(t *testing.T) {
	w, _, _, text := kept(t)
	if _, audiences, err := w.Check(text, []string{"vault", IssuerName}); err != nil || len(audiences) != 1 || audiences[0] != IssuerName {
		t.Errorf("for the API: %v %v", audiences, err)
	}
	if _, _, err := w.Check(text, []string{"vault"}); err == nil {
		t.Error("it is taken elsewhere")
	}
}

// A token that is no kept one does not pass for one, and the other way round: what says it must also be signed.
func TestKeptTokenOfAnotherMake(t *testing.T) {
	w, account, secret, _ := kept(t)
	foreign := New(newKeys(t), w, nil)
	text, err := foreign.ForSecret(account, secret)
	if err != nil {
		t.Fatal(err)
	}
	secret.Data["token"] = []byte(text)
	if _, ok := w.Lookup(text); ok {
		t.Error("another key's token is believed")
	}
	bare := claims{legacy: legacy{Account: "sa", AccountUID: "u-sa", Secret: "s", Namespace: "ns"}}
	bare.Issuer, bare.Subject = legacyIssuer, authn.ServiceAccountName("ns", "sa")
	if text, err = w.keys.sign(bare); err != nil {
		t.Fatal(err)
	}
	secret.Data["token"] = []byte(text)
	if _, ok := w.Lookup(text); ok {
		t.Error("a token without its claims is believed")
	}
}
