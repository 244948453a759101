package token

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// world is the objects that tokens are about, and a clock.
type world struct {
	objects map[string]runtime.Object
	now     time.Time
	keys    *Keys
	*Issuer
}

func (w *world) Get(res *resource.Resource, namespace, name string) (*view.Item, bool) {
	obj, ok := w.objects[res.Plural+"/"+namespace+"/"+name]
	return &view.Item{Resource: res, Object: obj}, ok
}

func meta(namespace, name, uid string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid)}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), objects: map[string]runtime.Object{
		"serviceaccounts/ns/sa": &corev1.ServiceAccount{ObjectMeta: meta("ns", "sa", "u-sa")},
		"pods/ns/p":             &corev1.Pod{ObjectMeta: meta("ns", "p", "u-p"), Spec: corev1.PodSpec{ServiceAccountName: "sa", NodeName: "n"}},
		"secrets/ns/s":          &corev1.Secret{ObjectMeta: meta("ns", "s", "u-s")},
		"nodes//n":              &corev1.Node{ObjectMeta: meta("", "n", "u-n")},
	}}
	w.keys = newKeys(t)
	w.Issuer = New(w.keys, w, func() time.Time { return w.now })
	return w
}

func newKeys(t testing.TB, former ...[]byte) *Keys {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeys(key, former...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (w *world) token(t testing.TB, spec authenticationv1.TokenRequestSpec) string {
	t.Helper()
	out, err := w.Request("ns", "sa", &authenticationv1.TokenRequest{Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return out.Status.Token
}

func TestTokenEndsWithWhatItIsBoundTo(t *testing.T) {
	bind := func(kind, name string) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name}
	}
	replace := func(key string, change func(metav1.Object)) func(*world) {
		return func(w *world) {
			obj := w.objects[key].DeepCopyObject()
			m, _ := obj.(metav1.Object)
			change(m)
			w.objects[key] = obj
		}
	}
	gone := func(key string) func(*world) { return func(w *world) { delete(w.objects, key) } }
	tests := []struct {
		name  string
		to    *authenticationv1.BoundObjectReference
		event func(*world)
		valid bool
	}{
		{"nothing happens", nil, func(*world) {}, true},
		{"just before its end", nil, func(w *world) { w.now = w.now.Add(time.Hour) }, true},
		{"after its end", nil, func(w *world) { w.now = w.now.Add(time.Hour + 2*leeway) }, false},
		{"clock set back", nil, func(w *world) { w.now = w.now.Add(-2 * leeway) }, false},
		{"account gone", nil, gone("serviceaccounts/ns/sa"), false},
		{"account made anew", nil, replace("serviceaccounts/ns/sa", func(m metav1.Object) { m.SetUID("other") }), false},
		{"pod there", bind("Pod", "p"), func(*world) {}, true},
		{"pod gone", bind("Pod", "p"), gone("pods/ns/p"), false},
		{"pod made anew", bind("Pod", "p"), replace("pods/ns/p", func(m metav1.Object) { m.SetUID("other") }), false},
		{"pod ending", bind("Pod", "p"), replace("pods/ns/p", func(m metav1.Object) {
			m.SetDeletionTimestamp(&metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 35, 0, time.UTC)})
		}), true},
		{"pod's node gone", bind("Pod", "p"), gone("nodes//n"), true},
		{"secret gone", bind("Secret", "s"), gone("secrets/ns/s"), false},
		{"node gone", bind("Node", "n"), gone("nodes//n"), false},
		{"another pod gone", bind("Secret", "s"), gone("pods/ns/p"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			text := w.token(t, authenticationv1.TokenRequestSpec{BoundObjectRef: tt.to})
			tt.event(w)
			user, ok := w.Lookup(text)
			if ok != tt.valid {
				t.Fatalf("valid %v, want %v", ok, tt.valid)
			}
			if ok && (user.Name != "system:serviceaccount:ns:sa" || user.UID != "u-sa" || !user.In("system:serviceaccounts") || !user.In("system:serviceaccounts:ns")) {
				t.Errorf("user %+v", user)
			}
		})
	}
}

func TestRequestRefusals(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	pod := func(name, uid string) *authenticationv1.BoundObjectReference {
		return &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: types.UID(uid)}
	}
	tests := []struct {
		name  string
		of    string
		in    authenticationv1.TokenRequest
		words string
	}{
		{"no account", "nobody", authenticationv1.TokenRequest{}, `serviceaccounts "nobody" not found`},
		{"too short", "sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(599)}}, "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes"},
		{"too long", "sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: seconds(1<<32 + 1)}}, "may not specify a duration larger than 2^32 seconds"},
		{"no pod", "sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: pod("q", "")}}, `pods "q" not found`},
		{"pod of before", "sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: pod("p", "old")}}, "does not match the UID in record"},
		{"odd kind", "sa", authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Job", APIVersion: "batch/v1", Name: "j"}}}, "cannot bind token to object of type batch/v1, Kind=Job"},
		{"other name", "sa", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, "must match the service account name if specified"},
		{"other uid", "sa", authenticationv1.TokenRequest{ObjectMeta: metav1.ObjectMeta{UID: "x"}}, "does not match the UID of the service account"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newWorld(t).Request("ns", tt.of, &tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("error %v, want %q", err, tt.words)
			}
		})
	}
	w := newWorld(t)
	w.objects["pods/ns/p"].(*corev1.Pod).Spec.ServiceAccountName = "other"
	if _, err := w.Request("ns", "sa", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: pod("p", "")}}); err == nil {
		t.Error("a token is bound to another account's pod")
	}
}

func TestAudiences(t *testing.T) {
	w := newWorld(t)
	text := w.token(t, authenticationv1.TokenRequestSpec{Audiences: []string{"vault", "other"}})
	if _, ok := w.Lookup(text); ok {
		t.Error("a token for somebody else opens the API")
	}
	if _, shared, err := w.Check(text, []string{"x", "vault"}); err != nil || len(shared) != 1 || shared[0] != "vault" {
		t.Errorf("audiences %v, %v", shared, err)
	}
}

// What the volume of every pod asks for outlives the time asked for; nothing else does.
func TestMountedTokensLiveLong(t *testing.T) {
	w := newWorld(t)
	pod, _ := w.objects["pods/ns/p"].(*corev1.Pod)
	for seconds, life := range map[int64]time.Duration{mountedSeconds: extendedLife, 600: 10 * time.Minute, 0: time.Hour} {
		issued := w.now
		text, err := w.ForPod(pod, "", seconds, issued)
		if err != nil {
			t.Fatal(err)
		}
		for after, want := range map[time.Duration]bool{life - time.Second: true, life + 2*leeway: false} {
			w.now = issued.Add(after)
			if user, ok := w.Lookup(text); ok != want || ok && user.Extra[extraNode][0] != "n" {
				t.Errorf("%d s: valid %v after %s", seconds, ok, after)
			}
		}
		w.now = issued
	}
}

func TestKeysAreReplacedWithoutEndingTokens(t *testing.T) {
	w := newWorld(t)
	first, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	before, err := NewKeys(first)
	if err != nil {
		t.Fatal(err)
	}
	w.Issuer.keys = before
	text := w.token(t, authenticationv1.TokenRequestSpec{})
	w.Issuer.keys = newKeys(t, first)
	if _, ok := w.Lookup(text); !ok {
		t.Error("a token of the former key does not hold")
	}
	w.Issuer.keys = newKeys(t)
	if _, ok := w.Lookup(text); ok {
		t.Error("a token of a key that was removed holds")
	}
}

// No change of a token makes another one of it.
func FuzzLookup(f *testing.F) {
	w := newWorld(f)
	text := w.token(f, authenticationv1.TokenRequestSpec{})
	f.Add(text)
	f.Add("eyJhbGciOiJub25lIn0." + strings.Split(text, ".")[1] + ".")
	f.Add("..")
	f.Fuzz(func(t *testing.T, other string) {
		if user, ok := w.Lookup(other); ok && user.Name != authn.ServiceAccountName("ns", "sa") {
			t.Fatalf("%q is a token of %v", other, user)
		}
	})
}

// Readers of tokens know audiences as a list; we also take what once was written as one text.
func TestAudienceIsAList(t *testing.T) {
	w := newWorld(t)
	for _, want := range []string{`["vault"]`, `["a","b"]`} {
		var audiences []string
		if err := json.Unmarshal([]byte(want), &audiences); err != nil {
			t.Fatal(err)
		}
		text := w.token(t, authenticationv1.TokenRequestSpec{Audiences: audiences})
		payload, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
		if err != nil || !strings.Contains(string(payload), `"aud":`+want) {
			t.Errorf("%s: %v, want aud %s", payload, err, want)
		}
		if _, _, err := w.Check(text, audiences); err != nil {
			t.Errorf("aud %s: %v", want, err)
		}
	}
	c := claims{Kubernetes: bound{Namespace: "ns", Account: ref{Name: "sa", UID: "u-sa"}}}
	c.Claims = jwt.Claims{Issuer: IssuerName, Audience: jwt.Audience{"vault"}, Expiry: jwt.NewNumericDate(w.now.Add(time.Hour))}
	text, err := w.keys.sign(struct {
		jwt.Claims
		Kubernetes bound `json:"kubernetes.io"`
	}{c.Claims, c.Kubernetes})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Check(text, []string{"vault"}); err != nil {
		t.Errorf("one text: %v", err)
	}
}
