package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount/"

// TestPodAsks: what a pod finds in its service account's folder opens the API as that account: for what a RoleBinding
// gives it, until the pod is gone.
func TestPodAsks(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create serviceaccount asker")
	s.apply(podManifest("p", "serviceAccountName: asker", ""))
	p := s.ready("p")
	if got := s.ask(p, "/read?path="+accountFolder+"namespace"); got != p.Namespace {
		t.Errorf("namespace holds %q", got)
	}
	api := newAsker(t, s, s.ask(p, "/read?path="+accountFolder+"ca.crt"), s.ask(p, "/read?path="+accountFolder+"token"))
	list := "/api/v1/namespaces/" + p.Namespace + "/pods"
	user := "system:serviceaccount:" + p.Namespace + ":asker"
	if code, body := api.get(list); code != 403 || !strings.Contains(body, `pods is forbidden: User \"`+user+`\" cannot list resource \"pods\" in API group \"\" in the namespace \"`+p.Namespace+`\"`) {
		t.Errorf("without a binding: %d %s", code, body)
	}
	s.kubectl("create rolebinding asker --clusterrole=view --serviceaccount=" + p.Namespace + ":asker")
	if code, body := api.get(list); code != 200 || !strings.Contains(body, `"PodList"`) {
		t.Errorf("with a binding: %d %s", code, body)
	}
	if code, _ := api.get("/api/v1/namespaces/" + p.Namespace + "/secrets"); code != 403 {
		t.Errorf("what the role does not give: %d", code)
	}
	s.wants(s.kubectl("auth can-i list pods --as="+user), "yes")
	s.wants(s.kubectl("auth can-i --list --as="+user), "pods/log", "selfsubjectreviews.authentication.k8s.io")
	s.wants(s.refused("", "auth", "can-i", "delete", "pods", "--as="+user), "no\n")
	s.kubectl("delete pod p --grace-period=0 --force")
	s.poll("token ended", func() (bool, error) { code, _ := api.get(list); return code == 401, nil })
}

// TestPodAsksFromInside: a program in a pod asks the API at the kubernetes Service, with nothing but what a pod has.
func TestPodAsksFromInside(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.kubectl("create serviceaccount asker")
	s.apply(podManifest("p", "serviceAccountName: asker", ""))
	p := s.ready("p")
	list := "/api/v1/namespaces/" + p.Namespace + "/configmaps"
	if host := s.ask(p, "/env?name=KUBERNETES_SERVICE_HOST"); host != "10.43.0.1" {
		t.Errorf("the API's host is %q", host)
	}
	if got := s.ask(p, "/api?path=/version"); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "skerry") {
		t.Fatalf("version: %s", got)
	}
	if got := s.ask(p, "/api?path="+list); !strings.HasPrefix(got, "403 ") || !strings.Contains(got, `system:serviceaccount:`+p.Namespace+`:asker`) {
		t.Errorf("without a binding: %s", got)
	}
	s.kubectl("create rolebinding asker --clusterrole=view --serviceaccount=" + p.Namespace + ":asker")
	if got := s.ask(p, "/api?path="+list); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"ConfigMapList"`) {
		t.Errorf("with a binding: %s", got)
	}
	if got := s.ask(p, "/watch?path="+url.QueryEscape(list+"?watch=1")); got != "watching" {
		t.Fatalf("watch: %s", got)
	}
	for _, name := range []string{"first", "second"} {
		s.kubectl("create configmap " + name)
		s.poll("watch tells of "+name, func() (bool, error) {
			return strings.Contains(s.ask(p, "/watched"), `"name":"`+name+`"`), nil
		})
	}
	if got := s.ask(p, "/watched"); strings.Contains(got, "ended") {
		t.Errorf("the watch has ended: %s", got)
	}
	s.wants(s.kubectl("describe service kubernetes -n default"), "10.43.0.1:443")
	s.wants(s.kubectl("get endpoints,endpointslices -n default"), "endpoints/kubernetes", "10.43.0.1:443", "endpointslice.discovery.k8s.io/kubernetes")
}

// asker is a program with a token.
type asker struct {
	t      *testing.T
	server string
	token  string
	client *http.Client
}

func newAsker(t *testing.T, s space, ca, token string) *asker {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatalf("ca.crt holds no certificate: %.80q", ca)
	}
	server := strings.TrimSpace(s.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}"))
	return &asker{t: t, server: server, token: strings.TrimSpace(token), client: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}}
}

func (a *asker) get(path string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.server+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestUser: a user that was just made is known and may nothing; what is bound to its group holds at once, and as long as it
// is bound.
func TestUser(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	config := filepath.Join(t.TempDir(), "ci.kubeconfig")
	add := func(args ...string) (string, error) {
		return shared.Skerry(t.Context(), append([]string{"user", "add"}, args...)...)
	}
	if out, err := add("ci", "--group", "deployers", "--expires", "1h", "-o", config); err != nil || out != "" {
		t.Fatalf("%v: %q", err, out)
	}
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig %v: %v", info, err)
	}
	as := func(args string) string { return s.kubectl("--kubeconfig " + config + " " + args) }
	refused := func(args string) string {
		return s.refused("", append([]string{"--kubeconfig", config}, strings.Fields(args)...)...)
	}
	s.wants(as("auth whoami"), "ci", "deployers", "system:authenticated")
	s.wants(refused("get pods"), `Error from server (Forbidden): pods is forbidden: User "ci" cannot list resource "pods" in API group "" in the namespace "`+s.name+`"`)
	s.kubectl("create rolebinding deployers --clusterrole=edit --group=deployers")
	s.wants(as("create configmap c --from-literal=a=b"), "configmap/c created")
	s.wants(as("get configmaps"), "c ")
	s.wants(refused("get nodes"), `nodes is forbidden: User "ci" cannot list resource "nodes" in API group "" at the cluster scope`)
	s.wants(refused("create rolebinding more --clusterrole=cluster-admin --user=ci"), "cannot create resource \"rolebindings\"")
	s.kubectl("delete rolebinding deployers")
	s.wants(refused("get configmaps"), "cannot list resource")

	file := filepath.Join(filepath.Dir(shared.State0.Kubeconfig), "audit", "audit.log")
	s.poll("line of the audit log", func() (bool, error) {
		data, err := os.ReadFile(file)
		return strings.Contains(string(data), `"verb":"create","user":{"username":"ci","groups":["deployers","system:authenticated"]}`), err
	})

	if out, err := add("root", "--group", "system:masters"); err == nil || !strings.Contains(err.Error(), "--system") {
		t.Errorf("a group of the system: %v: %s", err, out)
	}
	if out, err := add("other", "--kubeconfig", config); err == nil || !strings.Contains(err.Error(), `cannot post path`) {
		t.Errorf("as a user who may not: %v: %s", err, out)
	}
	out, err := add("reader")
	if err != nil {
		t.Fatal(err)
	}
	s.wants(out, "current-context: reader", "client-key-data: ")
}

// TestAccountSecret: a Secret of the account's type is filled with a token that opens the API until the Secret is gone, and
// goes with its account.
func TestAccountSecret(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	kept := func(name, account string) string {
		return "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {name: " + name + ", annotations: {kubernetes.io/service-account.name: " + account + "}}\n"
	}
	s.kubectl("create serviceaccount keeper")
	s.apply(kept("first", "keeper"))
	s.apply(kept("second", "keeper"))
	s.apply(kept("orphan", "nobody"))
	var token, ca string
	s.poll("token", func() (bool, error) {
		token, ca = s.secret("first", "token"), s.secret("first", `ca\.crt`)
		return token != "" && ca != "", nil
	})
	s.wants(s.secret("first", "namespace"), s.name)
	s.poll("Secret of no account deleted", func() (bool, error) {
		return !strings.Contains(s.kubectl("get secrets -o name"), "orphan"), nil
	})
	api := newAsker(t, s, ca, token)
	user := "system:serviceaccount:" + s.name + ":keeper"
	if code, body := api.get("/api/v1/namespaces/" + s.name + "/pods"); code != 403 || !strings.Contains(body, user) {
		t.Errorf("with the token: %d %s", code, body)
	}
	bound := strings.TrimSpace(s.kubectl("create token keeper --bound-object-kind=Secret --bound-object-name=first --duration=10m"))
	second := newAsker(t, s, ca, bound)
	if code, _ := second.get("/api/v1/namespaces/" + s.name + "/pods"); code != 403 {
		t.Errorf("with a token that is bound to the Secret: %d", code)
	}
	s.wants(s.refused("", "create", "token", "keeper", "--bound-object-kind=Pod", "--bound-object-name=none"), `pods "none" not found`)
	s.wants(s.refused("", "create", "token", "keeper", "--bound-object-kind=Secret", "--bound-object-name=first", "--bound-object-uid=x"), "the UID in the bound object reference (x) does not match the UID in record")
	s.kubectl("delete secret first")
	for _, a := range []*asker{api, second} {
		if code, _ := a.get("/api/v1/namespaces/" + s.name + "/pods"); code != 401 {
			t.Errorf("after the Secret is gone: %d", code)
		}
	}
	s.kubectl("delete serviceaccount keeper")
	s.poll("Secret gone with its account", func() (bool, error) {
		return !strings.Contains(s.kubectl("get secrets -o name"), "second"), nil
	})
}

// secret is a value of a Secret in clear; empty while there is none.
func (s space) secret(name, key string) string {
	s.Helper()
	data, err := base64.StdEncoding.DecodeString(s.kubectl("get secret " + name + " -o jsonpath={.data." + key + "}"))
	if err != nil {
		s.Fatal(err)
	}
	return string(data)
}

// TestAuthReconcile: roles and bindings are brought to what a manifest says, by adding what they lack.
func TestAuthReconcile(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	manifest := filepath.Join(t.TempDir(), "roles.yaml")
	write := func(verbs string) {
		text := "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: " + s.name + "}\nrules: [{apiGroups: [''], resources: [pods], verbs: [" + verbs + "]}]\n---\n" +
			"apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: " + s.name + "}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: ann}]\n"
		if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("get")
	s.wants(s.kubectl("auth reconcile -f "+manifest), "role.rbac.authorization.k8s.io/r reconciled", "rolebinding.rbac.authorization.k8s.io/b reconciled")
	s.wants(s.kubectl("auth can-i get pods --as=ann"), "yes")
	write("list")
	s.wants(s.kubectl("auth reconcile -f "+manifest), "role.rbac.authorization.k8s.io/r reconciled")
	s.wants(s.kubectl("auth can-i --list --as=ann"), "pods", "[get list]")
	s.wants(s.kubectl("auth reconcile --remove-extra-permissions -f "+manifest), "role.rbac.authorization.k8s.io/r reconciled")
	s.wants(s.kubectl("auth can-i list pods --as=ann"), "yes")
	s.wants(s.refused("", "auth", "can-i", "get", "pods", "--as=ann"), "no\n")
}
