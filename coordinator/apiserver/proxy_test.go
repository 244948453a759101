package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/apiserver"
)

// withProgram has the pods of withPods, a service before p, and a program that listens on every port of theirs.
func withProgram(t *testing.T, handle http.HandlerFunc, options ...option) *cluster {
	t.Helper()
	program := httptest.NewServer(handle)
	t.Cleanup(program.Close)
	c := withPods(t, options...)
	c.nodes.port = func(ctx context.Context, node, _ string, port uint16) (net.Conn, error) {
		if node != "n1" || port == 9 {
			return nil, fmt.Errorf("nobody listens on port %d of a pod on %s", port, node)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", program.Listener.Addr().String())
	}
	var pod corev1.Pod
	c.get("/api/v1/namespaces/default/pods/p").into(t, &pod)
	c.must(http.MethodPost, "/api/v1/namespaces/default/services", `{"metadata":{"name":"s"},"spec":{"ports":[{"name":"web","port":80,"targetPort":8080}]}}`)
	c.must(http.MethodPost, "/api/v1/namespaces/default/services", `{"metadata":{"name":"empty"},"spec":{"ports":[{"port":80}]}}`)
	c.must(http.MethodPost, "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", `{"metadata":{"name":"s-1","labels":{"`+discoveryv1.LabelServiceName+`":"s"}},
		"addressType":"IPv4","ports":[{"name":"web","port":8080}],"endpoints":[{"addresses":["10.42.0.9"],"targetRef":{"kind":"Pod","name":"p","uid":"`+string(pod.UID)+`"}}]}`)
	return c
}

func TestProxyPassesRequestsOn(t *testing.T) {
	log := &auditor{level: auditv1.LevelMetadata}
	c := withProgram(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %q token=%t", r.Method, r.RequestURI, body, r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "")
	}, func(c *apiserver.Config) { c.Audit = log })
	const in = "/api/v1/namespaces/default/"
	for path, want := range map[string]string{
		"pods/p/proxy/a/b?c=d":            "/a/b?c=d",
		"pods/p:8080/proxy/":              "/",
		"pods/http:p:8080/proxy/x%2Fy/":   "/x%2Fy/",
		"services/s/proxy/proxy/a":        "/proxy/a",
		"services/s:web/proxy/watch=1":    "/watch=1",
		"services/http:s:80/proxy/?watch": "/?watch",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
			a := c.do(method, in+path, "body", header{"Cookie": "c=d"})
			if want := fmt.Sprintf("%s %s %q token=false", method, want, "body"); a.code != http.StatusTeapot || a.String() != want {
				t.Errorf("%s %s: %d %s, want %s", method, path, a.code, a, want)
			}
			if a.header.Get("Set-Cookie") != "" || !strings.HasPrefix(a.header.Get("Content-Security-Policy"), "sandbox") {
				t.Errorf("%s: a page of the program would be one of ours: %v", path, a.header)
			}
		}
	}
	if lines := log.lines(t); !strings.Contains(lines, `"subresource": "proxy"`) || !strings.Contains(lines, `"code": 418`) {
		t.Error("a write through the proxy leaves no line in the log")
	}
}

func TestProxyRefuses(t *testing.T) {
	c := withProgram(t, func(http.ResponseWriter, *http.Request) { t.Error("the program was reached") })
	const in = "/api/v1/namespaces/default/"
	for path, want := range map[string]string{
		"pods/none/proxy/":          `404 pods "none" not found`,
		"pods/pending/proxy/":       "400 pod pending does not have a host assigned",
		"pods/p:web/proxy/":         `400 invalid port "web"`,
		"pods/ftp:p:8080/proxy/":    `400 invalid pod request "ftp:p:8080"`,
		"pods/p:9/proxy/":           "503 error trying to reach service",
		"services/none/proxy/":      `404 services "none" not found`,
		"services/s:81/proxy/":      `503 no service port "81" found for service "s"`,
		"services/empty/proxy/":     `503 no endpoints available for service "empty"`,
		"configmaps/none/proxy/":    "404 the server could not find the requested resource",
		"pods/p/exec/proxy/":        "404 ",
		"services/ftp:s:80/proxy/x": `400 invalid service request "ftp:s:80"`,
	} {
		a := c.get(in + path)
		if got := fmt.Sprintf("%d %s", a.code, a.status(t).Message); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	a := c.get(in+"pods/p/proxy/", header{"Authorization": "Bearer " + guestToken})
	if s := a.status(t); a.code != http.StatusForbidden || !strings.Contains(s.Message, `cannot get resource "pods/proxy"`) {
		t.Errorf("guest: %d %q", a.code, s.Message)
	}
}

func TestProxyRedirects(t *testing.T) {
	c := withProgram(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	c.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	const p = "/api/v1/namespaces/default/pods/p/proxy"
	for path, want := range map[string]string{
		"?a=b":                         "301 " + p + "/?a=b",
		"/?to=/x?y=z":                  "302 " + p + "/x?y=z",
		"/?to=x":                       "302 x",
		"/?to=https://elsewhere.test/": "302 https://elsewhere.test/",
	} {
		a := c.get(p + path)
		if got := fmt.Sprintf("%d %s", a.code, a.header.Get("Location")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestProxyLinks: links of a page lead through the proxy; everything else of it stays, to the byte.
func TestProxyLinks(t *testing.T) {
	const page = `<!DOCTYPE html><HTML><a href="/x?y=1&amp;z=2">x</a> <a class='q' href=relative>r</a><a href="https://elsewhere.test/">e</a>` +
		`<img src="http://%s/i.png"/><form action='/post'><script>if (1 < 2) { location = "/a" }</script>`
	c := withProgram(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		fmt.Fprintf(w, page, r.Host)
	})
	const p = "/api/v1/namespaces/default/pods/p/proxy"
	host := strings.TrimPrefix(c.url, "https://")
	for kind, want := range map[string]string{
		"text/plain": fmt.Sprintf(page, host),
		"text/html; charset=utf-8": `<!DOCTYPE html><HTML><a href="` + p + `/x?y=1&amp;z=2">x</a> <a class='q' href=relative>r</a><a href="https://elsewhere.test/">e</a>` +
			`<img src="` + p + `/i.png"/><form action="` + p + `/post"><script>if (1 < 2) { location = "/a" }</script>`,
	} {
		if a := c.get(p + "/?type=" + url.QueryEscape(kind)); string(a.body) != want {
			t.Errorf("%s:\n%s\nwant\n%s", kind, a.body, want)
		}
	}
}

// A websocket and the like.
func TestProxyUpgrades(t *testing.T) {
	c := withProgram(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if _, err := io.Copy(conn, buffered); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	shared, ok := c.client.Transport.(*http.Transport)
	if !ok {
		t.Fatalf("the client has a %T", c.client.Transport)
	}
	old := shared.Clone() // of HTTP/1.1, which alone can be upgraded
	old.ForceAttemptHTTP2, old.TLSClientConfig.NextProtos, old.TLSNextProto = false, nil, map[string]func(string, *tls.Conn) http.RoundTripper{}
	t.Cleanup(old.CloseIdleConnections)
	c.client = &http.Client{Transport: old}
	resp := c.open(t.Context(), http.MethodGet, "/api/v1/namespaces/default/pods/p/proxy/", "", header{"Connection": "Upgrade", "Upgrade": "echo"})
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriter)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("answer %d with a %T", resp.StatusCode, resp.Body)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || line != "hello\n" {
		t.Errorf("echo %q, %v", line, err)
	}
}
