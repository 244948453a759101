package automation_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/messaging/natstest"
)

// roles are what people may do here: dev may read and change config maps and add roles in default, reader lists pods
// everywhere, patcher may patch but not create, boss may do all in its namespace.
const roles = `
{apiVersion: v1, kind: Namespace, metadata: {name: boss}}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: dev, namespace: default}, rules: [
  {apiGroups: [""], resources: [configmaps], verbs: [get, list, watch, create, patch, delete]},
  {apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [get, create, patch]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: dev, namespace: default}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: dev}, subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: devs}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: patcher, namespace: default}, rules: [{apiGroups: [""], resources: [configmaps], verbs: [patch]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: patcher, namespace: default}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: patcher}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: patcher}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: pods}, rules: [{apiGroups: [""], resources: [pods], verbs: [list, watch]}, {apiGroups: [""], resources: [namespaces], resourceNames: [boss], verbs: [get]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: pods}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: pods}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: reader}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: all, namespace: boss}, rules: [{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: all, namespace: boss}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: all}, subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: boss}]}
`

func startWithRoles(t *testing.T) *cluster {
	c := start(t)
	for doc := range strings.SplitSeq(roles, "---\n") {
		c.apply(doc)
	}
	for name, groups := range map[string][]string{"dev": {"devs"}, "reader": nil, "patcher": nil, "boss": nil, "nobody": nil} {
		c.people[natstest.UserID(name)] = authn.User{Name: name, Groups: append(groups, authn.GroupAuthenticated)}
	}
	return c
}

func answered(msg *nats.Msg) int {
	code, err := strconv.Atoi(msg.Header.Get(micro.ErrorCodeHeader))
	if err != nil {
		return http.StatusOK
	}
	return code
}

func TestUsersMayWhatTheirRolesSay(t *testing.T) {
	c := startWithRoles(t)
	c.endpoints()
	c.apply(configMap("there", "1"))
	inBoss := strings.Replace(configMap("b", "1"), `"default"`, `"boss"`, 1)
	tests := []struct {
		user, subject, payload string
		code                   int
		words                  string
	}{
		{"dev", "configmaps.get", `{"name":"there"}`, 200, ""},
		{"dev", "configmaps.list", `{"namespace":"default"}`, 200, ""},
		{"dev", "configmaps.list", ``, 403, `configmaps is forbidden: User "dev" cannot list resource "configmaps" in API group "" at the cluster scope`},
		{"dev", "configmaps.list", `{"namespace":"boss"}`, 403, `in the namespace "boss"`},
		{"dev", "configmaps.apply", configMap("there", "2"), 200, ""},
		{"dev", "configmaps.apply", configMap("new", "1"), 200, ""},
		{"dev", "configmaps.apply", inBoss, 403, `configmaps "b" is forbidden: User "dev" cannot patch resource "configmaps" in API group "" in the namespace "boss"`},
		{"dev", "configmaps.apply", `{"namespace":"boss","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}}`, 403, `namespace "boss"`},
		{"dev", "configmaps.delete", `{"name":"new"}`, 200, ""},
		{"dev", "configmaps.delete", `{"name":"nope","namespace":"boss"}`, 403, `cannot delete`},
		{"dev", "secrets.get", `{"name":"nope"}`, 403, `secrets "nope" is forbidden`},
		{"dev", "roles.apply", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"less"},"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["get"]}]}`, 200, ""},
		{"dev", "roles.apply", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"more"},"rules":[{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}]}`, 403, "attempting to grant RBAC permissions not currently held"},
		{"patcher", "configmaps.apply", configMap("there", "3"), 200, ""},
		{"patcher", "configmaps.apply", configMap("made", "1"), 403, `cannot create resource "configmaps"`},
		{"patcher", "configmaps.get", `{"name":"there"}`, 403, "cannot get"},
		{"reader", "pods.list", ``, 200, ""},
		{"reader", "pods.get", `{"name":"x"}`, 403, "cannot get"},
		{"reader", "namespaces.get", `{"name":"boss"}`, 200, ""},
		{"reader", "namespaces.get", `{"name":"default"}`, 403, `cannot get resource "namespaces" in API group "" in the namespace "default"`},
		{"boss", "configmaps.apply", inBoss, 200, ""},
		{"boss", "configmaps.list", `{"namespace":"boss"}`, 200, ""},
		{"boss", "namespaces.get", `{"name":"boss"}`, 200, ""}, // a namespace is in itself
		{"boss", "namespaces.list", ``, 403, "at the cluster scope"},
		{"boss", "nodes.list", ``, 403, "at the cluster scope"},
		{"boss", "nodes.list", `{"namespace":"boss"}`, 403, "at the cluster scope"},
		{"boss", "nodes.get", `{"namespace":"boss","name":"n1"}`, 403, "at the cluster scope"},
		{"nobody", "configmaps.get", `{"name":"there"}`, 403, `User "nobody" cannot get`},
		{"stranger", "configmaps.get", `{"name":"there"}`, 401, "Unauthorized"},
		{"admin", "secrets.get", `{"name":"nope"}`, 404, "not found"},
	}
	conns := map[string]*nats.Conn{}
	for _, tt := range tests {
		if conns[tt.user] == nil {
			conns[tt.user] = c.net.UserConn(tt.user)
		}
		msg := request(t, conns[tt.user], tt.subject, tt.payload)
		if text := msg.Header.Get(micro.ErrorHeader); answered(msg) != tt.code || !strings.Contains(text, tt.words) {
			t.Errorf("%s %s %s: %d %q, want %d with %q", tt.user, tt.subject, tt.payload, answered(msg), text, tt.code, tt.words)
		}
	}
	if _, ok := c.view.Get(configMaps, "default", "made"); ok {
		t.Error("what was refused is there")
	}
}

// What is authorized is what is applied, however the names of fields are written.
func TestNamesOfFieldsAreExact(t *testing.T) {
	c := startWithRoles(t)
	c.endpoints()
	dev := c.net.UserConn("dev")
	for _, payload := range []string{
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss","nameſpace":"default"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss","Namespace":"default"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss"},"Metadata":{"name":"sly","namespace":"default"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss"},"namespace":"default"}`,
		`{"namespace":"default","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss","nameſpace":"default"}}}`,
		`{"nameſpace":"default","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"sly","namespace":"boss"}}}`,
		`{"name":"sly","object":{"apiVersion":"v1","kind":"Secret","ſind":"ConfigMap","Kind":"ConfigMap","metadata":{"name":"sly"}}}`,
		`{"object":{"apiVersion":"v1","kind":"ConfigMap","Kind":"Secret","metadata":{"name":"sly","namespace":"boss"}}}`,
	} {
		if msg := request(t, dev, "configmaps.apply", payload); answered(msg) != 403 && answered(msg) != 400 {
			t.Errorf("%s is answered %d %s", payload, answered(msg), msg.Data)
		}
	}
	for _, space := range []string{"default", "boss"} {
		if _, ok := c.view.Get(configMaps, space, "sly"); ok {
			t.Errorf("it was made in %s", space)
		}
	}
}

// Nobody acts for another over NATS, and nobody is taken for one who does not do as he was told.
func TestNoImpersonation(t *testing.T) {
	c := startWithRoles(t)
	nc := c.endpoints()
	for _, name := range []string{"Impersonate-User", "impersonate-user", "Impersonate-Extra-x"} {
		msg, err := nc.RequestMsg(&nats.Msg{Subject: "skerry.v1.api.pods.list", Header: nats.Header{name: {"dev"}}}, patience)
		if err != nil {
			t.Fatal(err)
		}
		if answered(msg) != 400 || !strings.Contains(msg.Header.Get(micro.ErrorHeader), "impersonation is not offered over NATS") {
			t.Errorf("%s: %d %q", name, answered(msg), msg.Header.Get(micro.ErrorHeader))
		}
	}
	// Another's header, and the coordinator's own connection, are nobody.
	forged := nats.Header{"Nats-Request-Info": {`{"acc":"USERS","user":` + strconv.Quote(natstest.UserID("admin")) + `}`}}
	dev := c.net.UserConn("dev")
	msg, err := dev.RequestMsg(&nats.Msg{Subject: "skerry.v1.api.secrets.list", Header: forged}, patience)
	if err != nil {
		t.Fatal(err)
	}
	if answered(msg) != 403 || !strings.Contains(msg.Header.Get(micro.ErrorHeader), `User "dev"`) {
		t.Errorf("with a forged header: %d %q", answered(msg), msg.Header.Get(micro.ErrorHeader))
	}
	if msg := request(t, c.net.Coordinator(), "pods.list", ""); answered(msg) != 401 {
		t.Errorf("the coordinator's own connection is answered %d", answered(msg))
	}
}

func TestRevokedAtOnce(t *testing.T) {
	c := startWithRoles(t)
	c.endpoints()
	dev := c.net.UserConn("dev")
	if msg := request(t, dev, "configmaps.list", `{"namespace":"default"}`); answered(msg) != 200 {
		t.Fatalf("before: %s", msg.Data)
	}
	admin := c.net.UserConn("admin")
	if msg := request(t, admin, "rolebindings.delete", `{"name":"dev"}`); answered(msg) != 200 {
		t.Fatalf("delete binding: %s", msg.Data)
	}
	if msg := request(t, dev, "configmaps.list", `{"namespace":"default"}`); answered(msg) != 403 {
		t.Errorf("the next request is answered %d", answered(msg))
	}
}

func TestRequestsLeaveLines(t *testing.T) {
	c := startWithRoles(t)
	c.endpoints()
	c.audit.mu.Lock()
	c.audit.events = nil
	c.audit.mu.Unlock()
	dev := c.net.UserConn("dev")
	count := 0
	line := func(nc *nats.Conn, subject, payload string) *auditv1.Event {
		t.Helper()
		request(t, nc, subject, payload)
		count++
		return c.audit.last(t, count)
	}
	e := line(dev, "roles.apply", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"r"}}`)
	if e.Level != auditv1.LevelRequest || e.Stage != auditv1.StageResponseComplete || e.Verb != "patch" || e.User.Username != "dev" || !slices.Contains(e.User.Groups, "devs") {
		t.Errorf("applied: %+v", e)
	}
	if o := e.ObjectRef; o == nil || o.Resource != "roles" || o.APIGroup != "rbac.authorization.k8s.io" || o.APIVersion != "v1" || o.Namespace != "default" || o.Name != "r" {
		t.Errorf("object: %+v", e.ObjectRef)
	}
	if e.RequestURI != "nats:skerry.v1.api.roles.apply" || !strings.HasPrefix(e.UserAgent, "NATS go/") || !strings.HasSuffix(e.UserAgent, " (tester)") || e.AuditID == "" {
		t.Errorf("source: %q %q", e.RequestURI, e.UserAgent)
	}
	if e.Annotations["authorization.k8s.io/decision"] != "allow" || !strings.Contains(e.Annotations["authorization.k8s.io/reason"], `RoleBinding "dev/default"`) {
		t.Errorf("decision: %v", e.Annotations)
	}
	if e.RequestObject == nil || !json.Valid(e.RequestObject.Raw) || !strings.Contains(string(e.RequestObject.Raw), `"name":"r"`) {
		t.Errorf("body: %+v", e.RequestObject)
	}
	if e = line(dev, "configmaps.apply", configMap("secretive", "1")); e.Level != auditv1.LevelMetadata || e.RequestObject != nil {
		t.Errorf("a config map's body is kept: %+v", e)
	}
	if e = line(dev, "secrets.list", ""); e.ResponseStatus.Code != 403 || e.Annotations["authorization.k8s.io/decision"] != "forbid" || e.Verb != "list" {
		t.Errorf("refused: %+v", e)
	}
	if e = line(dev, "configmaps.get", `{"name":"nope"}`); e.ResponseStatus.Code != 404 || e.ObjectRef.Name != "nope" {
		t.Errorf("not found: %+v", e)
	}
	if e = line(c.net.UserConn("stranger"), "secrets.list", ""); e.ResponseStatus.Code != 401 || e.User.Username != "" || e.Annotations != nil {
		t.Errorf("stranger: %+v", e)
	}
	request(t, c.net.UserConn("admin"), "events.list", "") // as over HTTP, reading events leaves no line
	if e = line(dev, "events.list", ""); e.ResponseStatus.Code != 403 {
		t.Errorf("refused events: %+v", e)
	}
}

func TestHearing(t *testing.T) {
	c := startWithRoles(t)
	by := rbac.New(c.view)
	spaces := func() []string { return []string{"boss", "default", "kube-system"} }
	for _, tt := range []struct {
		user authn.User
		want []string
	}{
		{authn.User{Name: "admin", Groups: []string{authn.GroupMasters}}, []string{"skerry.v1.evt.>"}},
		{authn.User{Name: "dev", Groups: []string{"devs"}}, []string{"skerry.v1.evt.default.configmaps.>", "skerry.v1.evt._.state.>"}},
		{authn.User{Name: "reader"}, []string{"skerry.v1.evt.*.pods.>", "skerry.v1.evt._.state.>"}},
		{authn.User{Name: "boss"}, []string{"skerry.v1.evt.boss.*.>", "skerry.v1.evt._.state.>"}},
		{authn.User{Name: "patcher"}, nil},
		{authn.User{Name: "nobody"}, nil},
	} {
		if got := automation.Hearing(by, tt.user, spaces); !slices.Equal(got, tt.want) {
			t.Errorf("%s hears %q, want %q", tt.user.Name, got, tt.want)
		}
	}
}
