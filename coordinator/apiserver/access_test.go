package apiserver_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"skerry.dev/skerry/coordinator/apiserver"
)

var guest = header{"Authorization": "Bearer " + guestToken}

const (
	rbacPath   = "/apis/rbac.authorization.k8s.io/v1"
	reviewPath = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
)

// may makes a ClusterRole of one rule and binds the guest to it.
func (c *cluster) may(name, rule string) {
	c.t.Helper()
	role := fmt.Sprintf(`{"metadata":{"name":%q},"rules":[%s]}`, name, rule)
	binding := fmt.Sprintf(`{"metadata":{"name":%q},"roleRef":{"kind":"ClusterRole","name":%q},"subjects":[{"kind":"User","name":"guest"}]}`, name, name)
	for kind, body := range map[string]string{"clusterroles": role, "clusterrolebindings": binding} {
		if a := c.do("POST", rbacPath+"/"+kind, body); a.code != 201 {
			c.t.Fatalf("%s: %d %s", kind, a.code, a)
		}
	}
}

// A role is in force for the request that follows its answer, and not after its deletion.
func TestRolesAreInForceAtOnce(t *testing.T) {
	c := start(t)
	list := "/api/v1/namespaces/default/configmaps"
	forbidden := `configmaps is forbidden: User "guest" cannot list resource "configmaps" in API group "" in the namespace "default"`
	for range 20 {
		if a := c.get(list, guest); a.code != 403 || a.status(t).Message != forbidden {
			t.Fatalf("before: %d %s", a.code, a)
		}
		c.may("reader", `{"verbs":["list"],"apiGroups":[""],"resources":["configmaps"]}`)
		if a := c.get(list, guest); a.code != 200 {
			t.Fatalf("with the role: %d %s", a.code, a)
		}
		if a := c.get("/api/v1/namespaces/default/configmaps/x", guest); a.code != 403 {
			t.Fatalf("another verb: %d %s", a.code, a)
		}
		c.do("DELETE", rbacPath+"/clusterroles/reader", "")
		if a := c.get(list, guest); a.code != 403 || !strings.HasSuffix(a.status(t).Message, `: RBAC: clusterrole.rbac.authorization.k8s.io "reader" not found`) {
			t.Fatalf("without the role: %d %s", a.code, a)
		}
		c.do("DELETE", rbacPath+"/clusterrolebindings/reader", "")
	}
}

func TestNobodyGivesMoreThanHeHas(t *testing.T) {
	c := start(t)
	c.may("rbac", `{"verbs":["create","update","patch"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","clusterrolebindings"]},
		{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}`)
	roles := rbacPath + "/namespaces/default/roles"
	if a := c.do("POST", roles, `{"metadata":{"name":"x"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}`, guest); a.code != 201 {
		t.Errorf("a role within one's own: %d %s", a.code, a)
	}
	for how, a := range map[string]answer{
		"create": c.do("POST", roles, `{"metadata":{"name":"y"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["secrets"]}]}`, guest),
		"patch":  c.do("PATCH", roles+"/x", `{"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}`, guest),
		"bind":   c.do("POST", rbacPath+"/clusterrolebindings", `{"metadata":{"name":"y"},"roleRef":{"kind":"ClusterRole","name":"absent"},"subjects":[]}`, guest),
	} {
		if how == "bind" {
			if a.code != 404 {
				t.Errorf("%s: %d %s", how, a.code, a)
			}
			continue
		}
		if a.code != 403 || !strings.Contains(a.status(t).Message, "is attempting to grant RBAC permissions not currently held") {
			t.Errorf("%s: %d %s", how, a.code, a)
		}
	}
}

// An update that creates needs the right to create.
func TestUpdateThatCreates(t *testing.T) {
	c := start(t)
	c.may("u", `{"verbs":["update"],"apiGroups":["coordination.k8s.io","rbac.authorization.k8s.io"],"resources":["*"]}`)
	a := c.do("PUT", rbacPath+"/namespaces/default/roles/x", `{"metadata":{"name":"x"}}`, guest)
	if a.code != 403 || !strings.Contains(a.status(t).Message, `cannot create resource "roles"`) {
		t.Errorf("%d %s", a.code, a)
	}
	if a := c.do("PUT", rbacPath+"/namespaces/default/roles/x", `{"metadata":{"name":"x"}}`); a.code != 201 {
		t.Errorf("as administrator: %d %s", a.code, a)
	}
}

func TestImpersonation(t *testing.T) {
	c := start(t)
	c.roles()
	c.may("as-bob", `{"verbs":["impersonate"],"apiGroups":[""],"resources":["users"],"resourceNames":["bob"]}`)
	tests := []struct {
		name    string
		headers []string // name, value, ...
		guest   bool
		user    string
		groups  []string
		refusal string
	}{
		{name: "user", headers: []string{"Impersonate-User", "bob"}, user: "bob", groups: []string{"system:authenticated"}},
		{name: "groups", headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "a", "Impersonate-Group", "b"}, user: "bob", groups: []string{"a", "b", "system:authenticated"}},
		{name: "account", headers: []string{"Impersonate-User", "system:serviceaccount:ns:sa"}, user: "system:serviceaccount:ns:sa", groups: []string{"system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"}},
		{name: "anonymous", headers: []string{"Impersonate-User", "system:anonymous"}, refusal: `User "system:anonymous" cannot create resource`},
		{name: "by right", guest: true, headers: []string{"Impersonate-User", "bob"}, user: "bob", groups: []string{"system:authenticated"}},
		{name: "of another", guest: true, headers: []string{"Impersonate-User", "root"}, refusal: `users "root" is forbidden: User "guest" cannot impersonate resource "users" in API group "" at the cluster scope`},
		{name: "with groups", guest: true, headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "system:masters"}, refusal: `groups "system:masters" is forbidden: User "guest" cannot impersonate resource "groups" in API group "" at the cluster scope`},
		{name: "with an uid", guest: true, headers: []string{"Impersonate-User", "bob", "Impersonate-Uid", "7"}, refusal: `uids.authentication.k8s.io "7" is forbidden: User "guest" cannot impersonate resource "uids" in API group "authentication.k8s.io" at the cluster scope`},
		{name: "with extra", guest: true, headers: []string{"Impersonate-User", "bob", "Impersonate-Extra-Scopes%2fX", "7"}, refusal: `cannot impersonate resource "userextras/scopes/x" in API group "authentication.k8s.io"`},
		{name: "of nobody", headers: []string{"Impersonate-Group", "a"}, refusal: `without impersonating a user`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+reviewPath, strings.NewReader(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+adminToken)
			if tt.guest {
				req.Header.Set("Authorization", "Bearer "+guestToken)
			}
			req.Header.Set("Content-Type", "application/json")
			for i := 0; i < len(tt.headers); i += 2 {
				req.Header.Add(tt.headers[i], tt.headers[i+1])
			}
			a := c.send(req)
			if tt.refusal != "" {
				if a.code < 400 || !strings.Contains(a.status(t).Message, tt.refusal) {
					t.Errorf("%d %s, want %q", a.code, a, tt.refusal)
				}
				return
			}
			var who authenticationv1.SelfSubjectReview
			a.into(t, &who)
			if u := who.Status.UserInfo; u.Username != tt.user || fmt.Sprint(u.Groups) != fmt.Sprint(tt.groups) {
				t.Errorf("is %s %v", u.Username, u.Groups)
			}
		})
	}
}

// What is mounted beside the API is allowed by path.
func TestMountsObeyTheSameRules(t *testing.T) {
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := start(t, func(c *apiserver.Config) {
		c.Mounts = map[string]apiserver.Mount{"/v2/": {Handler: served}, "/ui/": {Handler: served, Public: true}}
	})
	c.may("pull", `{"verbs":["get"],"nonResourceURLs":["/v2/*"]}`)
	for _, tt := range []struct {
		method, path string
		as           header
		code         int
	}{
		{"GET", "/v2/a", guest, 204},
		{"PUT", "/v2/a", guest, 403},
		{"PUT", "/v2/a", nil, 204},
		{"PUT", "/v2/a", header{"Impersonate-User": "guest"}, 403},
		{"GET", "/v2/a", header{"Impersonate-User": "guest"}, 204},
		{"PUT", "/ui/x", guest, 204},
		{"GET", "/v2/a", header{"Authorization": ""}, 401},
	} {
		if a := c.do(tt.method, tt.path, "", tt.as); a.code != tt.code {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, a.code, a, tt.code)
		}
	}
}
