package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiversion "k8s.io/apimachinery/pkg/version"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/store"
)

func TestOpenPaths(t *testing.T) {
	c := start(t)
	c.roles()
	nobody := header{"Authorization": ""}
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		if a := c.get(path, nobody); a.code != 200 || a.String() != "ok" {
			t.Errorf("%s: %d %s", path, a.code, a)
		}
	}
	var v apiversion.Info
	c.get("/version", nobody).into(t, &v)
	if v.Major != "1" || v.Minor != "37" || v.GitVersion != apiserver.Version {
		t.Errorf("version %+v", v)
	}
	for _, path := range []string{"/", "/api", "/apis", "/api/v1", "/openapi/v3", "/api/v1/nodes", "/ui/"} {
		if a := c.get(path, nobody); a.code != 403 || !strings.Contains(a.String(), "system:anonymous") {
			t.Errorf("%s without credentials: %d %s", path, a.code, a)
		}
	}
	for path, want := range map[string]int{"/api": 200, "/apis": 200, "/openapi/v2": 200, "/apis/apps/v1": 200, "/": 403, "/api/v1/nodes": 403} {
		if a := c.get(path, header{"Authorization": "Bearer " + guestToken}); a.code != want {
			t.Errorf("%s as guest: %d, want %d", path, a.code, want)
		}
	}
}

func TestNotReady(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.Ready = func() error { return errors.New("no leader") } })
	if a := c.get("/readyz"); a.code != 503 || !strings.Contains(a.String(), "no leader") {
		t.Errorf("readyz: %d %s", a.code, a)
	}
	if a := c.get("/livez"); a.code != 200 {
		t.Errorf("livez: %d", a.code)
	}
}

func TestClientCertificate(t *testing.T) {
	c := start(t)
	stranger := newAuthority(t)
	get := func(cert tls.Certificate) (int, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.ca.pool, MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &cert, nil
		}}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/api/v1/nodes", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		return resp.StatusCode, nil
	}
	if code, err := get(c.ca.issue(t, pkix.Name{CommonName: "ada", Organization: []string{authn.GroupMasters}})); code != 200 {
		t.Errorf("administrator's certificate: %d, %v", code, err)
	}
	if code, err := get(c.ca.issue(t, pkix.Name{CommonName: "bob", Organization: []string{"crew"}})); code != 403 {
		t.Errorf("other certificate: %d, %v", code, err)
	}
	if code, err := get(stranger.issue(t, pkix.Name{CommonName: "eve", Organization: []string{authn.GroupMasters}})); err == nil {
		t.Errorf("another CA's certificate: %d, want a refused handshake", code)
	}
}

// Both protocols must be on offer: exec and port-forward need HTTP/1.1, everything else is better off with HTTP/2.
func TestProtocols(t *testing.T) {
	c := start(t)
	for _, want := range []string{"h2", "http/1.1"} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{RootCAs: c.ca.pool, NextProtos: []string{want}, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("negotiated %q, want %q", got, want)
		}
		conn.Close()
	}
}

func TestMounts(t *testing.T) {
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, authn.FromContext(r.Context()).Name) })
	c := start(t, func(c *apiserver.Config) {
		c.Mounts["/ui/"] = apiserver.Mount{Handler: who, Public: true}
		c.Mounts["/v2/"] = apiserver.Mount{Handler: who, Challenge: `Basic realm="skerry"`}
	})
	nobody := header{"Authorization": ""}
	if a := c.get("/ui/index.html", nobody); a.code != 200 || a.String() != authn.UserAnonymous {
		t.Errorf("public mount: %d %s", a.code, a)
	}
	if a := c.get("/ui/index.html", header{"Authorization": "Bearer wrong"}); a.code != 401 {
		t.Errorf("public mount with a wrong token: %d", a.code)
	}
	if a := c.get("/v2/", nobody); a.code != 401 || a.header.Get("WWW-Authenticate") != `Basic realm="skerry"` {
		t.Errorf("closed mount: %d %v", a.code, a.header)
	}
	if a := c.get("/v2/x/blobs/y"); a.code != 200 || a.String() != "admin" {
		t.Errorf("closed mount with a token: %d %s", a.code, a)
	}
}

func TestSessionOverHTTP(t *testing.T) {
	c := start(t)
	nobody := header{"Authorization": ""}
	a := c.do("POST", "/ui/session", `{"token":"`+adminToken+`"}`, nobody)
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	if a.code != 200 || cookie == "" {
		t.Fatalf("login: %d %s", a.code, a)
	}
	session := header{"Authorization": "", "Cookie": cookie}
	if a := c.get("/api/v1/nodes", session); a.code != 200 {
		t.Errorf("read: %d %s", a.code, a)
	}
	if a := c.do("POST", configMaps, `{"metadata":{"name":"x"}}`, session, header{"Origin": "https://evil.example"}); a.code != 401 {
		t.Errorf("write from another site: %d %s", a.code, a)
	}
	if a := c.do("POST", configMaps, `{"metadata":{"name":"x"}}`, session, header{"Origin": c.url}); a.code != 201 {
		t.Errorf("write from our page: %d %s", a.code, a)
	}
}

func TestBodyTooLarge(t *testing.T) {
	c := start(t)
	big := `{"metadata":{"name":"big"},"data":{"x":"` + strings.Repeat("x", apiserver.MaxBodyBytes) + `"}}`
	s := c.do("POST", configMaps, big).status(t)
	if s.Code != http.StatusRequestEntityTooLarge || s.Reason != metav1.StatusReasonRequestEntityTooLarge {
		t.Errorf("got %+v", s)
	}
}

// Headers beyond all use are refused: with a status by HTTP/1.1, with the end of the connection by HTTP/2.
func TestHeadersTooLarge(t *testing.T) {
	c := start(t)
	for _, protocol := range []string{"h2", "http/1.1"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.ca.pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", 80<<10))
		resp, err := transport.RoundTrip(req)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: code %d", protocol, resp.StatusCode)
		}
	}
	if a := c.get("/healthz"); a.code != 200 {
		t.Errorf("afterwards: %d", a.code)
	}
}

func TestPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := start(t)
	server, err := apiserver.New(apiserver.Config{Address: ln.Addr().String(), View: c.view, Objects: c.objects, Authenticator: authn.Union{}})
	if err != nil {
		t.Fatal(err)
	}
	err = server.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "taken") {
		t.Errorf("error %v, want one that names the address and says that it is taken", err)
	}
}

func TestDiscoveryForms(t *testing.T) {
	c := start(t)
	var groups metav1.APIGroupList
	c.get("/apis").into(t, &groups)
	served := map[string]bool{}
	for _, g := range groups.Groups {
		served[g.Name] = true
		var one metav1.APIGroup
		if c.get("/apis/"+g.Name).into(t, &one); one.PreferredVersion != g.PreferredVersion || one.Kind != "APIGroup" {
			t.Errorf("/apis/%s: %+v", g.Name, one)
		}
	}
	for _, r := range resource.All() {
		if r.GVK.Group != "" && !served[r.GVK.Group] {
			t.Errorf("group %s is not in /apis", r.GVK.Group)
		}
	}
	aggregated := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	a := c.get("/apis", header{"Accept": aggregated + ",application/json"})
	if a.header.Get("Content-Type") != aggregated || !bytes.Contains(a.body, []byte(`"resource":"deployments"`)) || !bytes.Contains(a.body, []byte(`"subresource":"scale"`)) {
		t.Errorf("aggregated discovery: %s %s", a.header.Get("Content-Type"), a)
	}
	if b := c.get("/apis", header{"Accept": aggregated, "If-None-Match": a.header.Get("ETag")}); b.code != http.StatusNotModified {
		t.Errorf("known discovery is sent again: %d", b.code)
	}
	var apps metav1.APIResourceList
	c.get("/apis/apps/v1").into(t, &apps)
	for _, r := range apps.APIResources {
		if r.Name == "deployments/scale" && (r.Group != "autoscaling" || r.Version != "v1" || r.Kind != "Scale") {
			t.Errorf("scale: %+v", r)
		}
	}
}

func TestOpenAPIDocuments(t *testing.T) {
	c := start(t)
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	c.get("/openapi/v3").into(t, &index)
	for _, r := range resource.All() {
		path := strings.TrimPrefix(listPath(r), "/")
		path = strings.TrimSuffix(path, "/"+r.Plural)
		entry, ok := index.Paths[path]
		if !ok {
			t.Errorf("no OpenAPI document for %s", path)
			continue
		}
		a := c.get(entry.ServerRelativeURL)
		if !strings.Contains(a.String(), `"kind":"`+r.GVK.Kind+`"`) || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s does not describe %s", entry.ServerRelativeURL, r.GVK.Kind)
		}
	}
	if a := c.get("/openapi/v2"); !json.Valid(a.body) || !strings.Contains(a.String(), "NodeInventory") {
		t.Errorf("OpenAPI v2: %.100s", a)
	}
	pb := c.get("/openapi/v2", header{"Accept": "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"})
	if json.Valid(pb.body) || pb.code != 200 {
		t.Errorf("OpenAPI v2 as protobuf: %d %.50q", pb.code, pb.body)
	}
}

func TestLogs(t *testing.T) {
	c := start(t)
	c.must("POST", "/api/v1/namespaces/default/pods", `{"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"a","image":"i"},{"name":"b","image":"i"}]}}`)
	log := "/api/v1/namespaces/default/pods/p/log"
	if s := c.get(log).status(t); s.Code != 400 || !strings.Contains(s.Message, "choose one of: [a b]") {
		t.Errorf("no container: %+v", s)
	}
	if s := c.get(log + "?container=c").status(t); s.Code != 400 {
		t.Errorf("unknown container: %+v", s)
	}
	if s := c.get(log + "?container=a&tailLines=-1&sinceSeconds=x").status(t); s.Code != 422 || len(s.Details.Causes) != 2 {
		t.Errorf("bad options: %+v", s)
	}
	piped, in := io.Pipe()
	var asked corev1.PodLogOptions
	c.nodes.open = func(_ context.Context, node, uid, container string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
		asked = *o
		if node != "n1" || uid == "" || container != "b" {
			t.Errorf("asked node %q for %q of %q", node, container, uid)
		}
		return piped, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp := c.open(ctx, "GET", log+"?container=b&follow=true&tailLines=5&timestamps=true", "")
	defer resp.Body.Close()
	buf := make([]byte, 6)
	for _, line := range []string{"line 1", "line 2"} { // each is there before the next is written
		go in.Write([]byte(line))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != line {
			t.Fatalf("read %q, %v", buf, err)
		}
	}
	in.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("rest %q, %v", rest, err)
	}
	if !asked.Follow || asked.TailLines == nil || *asked.TailLines != 5 || !asked.Timestamps {
		t.Errorf("options %+v", asked)
	}
	c.nodes.open = func(context.Context, string, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
		return nil, errors.New("node is cut off")
	}
	if s := c.get(log + "?container=b").status(t); s.Code != 503 || !strings.Contains(s.Message, `node "n1": node is cut off`) {
		t.Errorf("cut off node: %+v", s)
	}
}

// A handler's bug is answered with a 500 and does not end the server.
func TestPanicIsAnswered(t *testing.T) {
	c := start(t)
	c.must("POST", "/api/v1/namespaces/default/pods", `{"metadata":{"name":"p"},"spec":{"nodeName":"n1","containers":[{"name":"a","image":"i"}]}}`)
	c.nodes.open = func(context.Context, string, string, string, *corev1.PodLogOptions) (io.ReadCloser, error) {
		panic("bug")
	}
	if s := c.get("/api/v1/namespaces/default/pods/p/log").status(t); s.Code != 500 || strings.Contains(s.Message, "bug") {
		t.Errorf("got %+v", s)
	}
	if !strings.Contains(c.log.String(), "request handler panicked") {
		t.Error("nothing in the log")
	}
	if a := c.get("/healthz"); a.code != 200 {
		t.Errorf("after the panic: %d", a.code)
	}
}

// Many connections that only sit there must not keep others from being served.
func TestIdleConnections(t *testing.T) {
	c := start(t)
	for range 200 {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(c.url, "https://"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if a := c.get("/healthz"); a.code != 200 {
		t.Errorf("code %d", a.code)
	}
}

// silent is a store that has not answered yet.
type silent struct{}

func (silent) Watch(ctx context.Context, _ store.WatchOptions, _ func(store.Update) error) error {
	<-ctx.Done()
	return nil
}

// An empty list from a server that has read nothing yet would tell a controller to remove everything.
func TestNothingIsReadBeforeTheStateIs(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.View = view.New(silent{}, c.Log) })
	if s := c.get(configMaps).status(t); s.Code != 503 || s.Reason != metav1.StatusReasonServiceUnavailable {
		t.Errorf("list: %+v", s)
	}
	if a := c.get("/readyz"); a.code != 503 {
		t.Errorf("readyz: %d", a.code)
	}
}
