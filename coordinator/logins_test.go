package coordinator

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// book is a set of tokens that can be revoked.
type book map[string]authn.User

func (b book) Lookup(token string) (authn.User, bool) { u, ok := b[token]; return u, ok }

func newTestLogins(now *time.Time) (*logins, book) {
	tokens := book{"admin": {Name: "root", Groups: []string{authn.GroupMasters}}, "robot": {Name: "robot"}}
	l := newLogins(tokens)
	l.now = func() time.Time { return *now }
	return l, tokens
}

func testCertificate(t *testing.T, name string, now time.Time) *x509.Certificate {
	t.Helper()
	a, err := messaging.OpenAuthority(t.TempDir(), now)
	if err != nil {
		t.Fatal(err)
	}
	data, _, err := a.Client(name, []string{"devs"}, now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestLoginsHoldAsLongAsTheirCredentials(t *testing.T) {
	now := time.Now()
	l, tokens := newTestLogins(&now)
	cert := testCertificate(t, "alice", now)
	if _, _, err := l.add(embedded.UserLogin{Token: "guess"}); !errors.Is(err, errCredential) {
		t.Errorf("unknown token: %v", err)
	}
	if _, _, err := l.add(embedded.UserLogin{Certificate: &x509.Certificate{NotAfter: now.Add(time.Hour)}}); !errors.Is(err, errCredential) {
		t.Errorf("certificate without a name: %v", err)
	}
	alice, user, err := l.add(embedded.UserLogin{Certificate: cert, Token: "admin"})
	if err != nil || user.Name != "alice" || !slices.Equal(user.Groups, []string{"devs", authn.GroupAuthenticated}) {
		t.Errorf("certificate beside a token: %+v %v", user, err)
	}
	robot, user, err := l.add(embedded.UserLogin{Token: "robot"})
	if err != nil || user.Name != "robot" || robot == alice {
		t.Errorf("token: %+v %v", user, err)
	}
	if again, _, err := l.add(embedded.UserLogin{Token: "robot"}); again != robot || err != nil {
		t.Errorf("the same token has another ID: %v", err)
	}
	if !strings.HasPrefix(robot, "robot/") || len(robot) < len("robot/")+40 {
		t.Errorf("ID %q is no secret", robot)
	}
	delete(tokens, "robot")
	if _, ok := l.user(robot); ok {
		t.Error("a revoked token holds")
	}
	if u, ok := l.user(alice); !ok || u.Name != "alice" {
		t.Error("alice is forgotten")
	}
	now = cert.NotAfter
	if _, ok := l.user(alice); ok {
		t.Error("an expired certificate holds")
	}
	if _, ok := l.user("alice"); ok {
		t.Error("a name is an ID")
	}
	if _, _, err := l.add(embedded.UserLogin{Token: "admin"}); err != nil {
		t.Fatal(err)
	}
	if len(l.known) != 1 || len(l.ids) != 1 {
		t.Errorf("%d logins and %d IDs are kept, want the one that holds", len(l.known), len(l.ids))
	}
}

// A user's grant follows the roles, and tells when it has changed.
func TestGatekeeperFollowsRoles(t *testing.T) {
	net := natstest.Server(t)
	to, err := store.Open(t.Context(), net.JetStream(), store.Options{Storage: net.Storage})
	if err != nil {
		t.Fatal(err)
	}
	v := view.New(to, slog.New(slog.DiscardHandler))
	o, err := objects.New(v, to, objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-v.Synced()
	if err := o.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	g := &gatekeeper{tokens: book{"admin": {Name: "root", Groups: []string{authn.GroupMasters}}, "dev": {Name: "dev"}}}
	if _, err := g.User(ctx, embedded.UserLogin{Token: "admin"}); !errors.Is(err, errStarting) {
		t.Errorf("before the store is read: %v", err)
	}
	if _, ok := g.Caller("x"); ok || g.Holds(embedded.UserGrant{}) {
		t.Error("somebody is known before anybody is let in")
	}
	g.open(nil, rbac.New(v), book{})
	admin, err := g.User(ctx, embedded.UserLogin{Token: "admin"})
	if err != nil || !admin.API || !admin.State || !slices.Equal(admin.Events, []string{messaging.EventAll}) || !g.Holds(admin) {
		t.Errorf("administrator: %+v %v", admin, err)
	}
	nothing, err := g.User(ctx, embedded.UserLogin{Token: "dev"})
	if err != nil || !nothing.API || nothing.State || len(nothing.Events) > 0 || !g.Holds(nothing) {
		t.Errorf("without a role: %+v %v", nothing, err)
	}
	for _, obj := range []runtime.Object{
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "default"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"watch"}, APIGroups: []string{""}, Resources: []string{"pods"}}}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "default"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"}, Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "dev"}}},
	} {
		if _, err := o.Create(ctx, obj, objects.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if g.Holds(nothing) {
		t.Error("a grant of nothing holds, though there is a role now")
	}
	now, err := g.User(ctx, embedded.UserLogin{Token: "dev"})
	if want := []string{"skerry.v1.evt.default.pods.>", "skerry.v1.evt._.state.>"}; err != nil || !slices.Equal(now.Events, want) || !g.Holds(now) {
		t.Errorf("with a role: %+v %v", now, err)
	}
	if u, ok := g.Caller(now.ID); !ok || u.Name != "dev" {
		t.Errorf("its requests are %v's", u)
	}
}
