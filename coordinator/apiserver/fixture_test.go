package apiserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/access/bootstrap"
	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

const (
	adminToken = "admin-token"
	guestToken = "guest-token"
)

// cluster is a real server over a real view, object store and NATS server, on a loopback port with TLS.
type cluster struct {
	t       testing.TB
	net     *natstest.Net
	view    *view.View
	objects *objects.Store
	nodes   *fakeNodes
	url     string
	token   string
	ca      *authority
	client  *http.Client // trusts the CA, has no credentials
	log     *logBuffer
	server  *apiserver.Server
}

type option func(*apiserver.Config)

func start(t testing.TB, options ...option) *cluster {
	t.Helper()
	return startWith(t, nil, options...)
}

// startWith also changes the view from its defaults.
func startWith(t testing.TB, viewOptions []view.Option, options ...option) *cluster {
	t.Helper()
	c := &cluster{t: t, token: adminToken, net: natstest.Server(t), nodes: &fakeNodes{}, ca: newAuthority(t), log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	state, err := store.Open(t.Context(), c.net.JetStream(), store.Options{Storage: c.net.Storage})
	if err != nil {
		t.Fatal(err)
	}
	c.view = view.New(state, log, viewOptions...)
	if c.objects, err = objects.New(c.view, state, objects.Options{Logger: log}); err != nil {
		t.Fatal(err)
	}
	run(t, "view", c.view.Run)
	<-c.view.Synced()
	if err := c.objects.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.serve(log, options)
	return c
}

// roles makes the system's roles, without which only masters may do anything.
func (c *cluster) roles() {
	c.t.Helper()
	if err := bootstrap.Ensure(c.t.Context(), c.objects); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) serve(log *slog.Logger, options []option) {
	c.t.Helper()
	tokens := authn.NewStaticTokens(map[string]authn.User{
		adminToken: {Name: "admin", Groups: []string{authn.GroupMasters}},
		guestToken: {Name: "guest"},
	})
	sessions := authn.NewSessions(tokens, time.Now)
	config := apiserver.Config{
		Address: "127.0.0.1:0", TLS: c.ca.serverConfig(c.t), View: c.view, Objects: c.objects, Nodes: c.nodes, Log: log,
		Authenticator: authn.Union{authn.Certificates{}, authn.Bearer{Tokens: tokens}, sessions},
		Mounts:        map[string]apiserver.Mount{"/ui/session": {Handler: sessions, Public: true}},
	}
	for _, o := range options {
		o(&config)
	}
	server, err := apiserver.New(config)
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = server
	ln, err := server.Listen(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	run(c.t, "server", func(ctx context.Context) error { return server.Serve(ctx, ln) })
	c.url = "https://" + ln.Addr().String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.ca.pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	c.client = &http.Client{Transport: transport}
	c.t.Cleanup(transport.CloseIdleConnections)
}

// run runs f until the test ends and checks that it ends well.
func run(t testing.TB, name string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before clean-ups
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
}

// answer is a response with its body read.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (a answer) String() string { return string(a.body) }

func (a answer) status(t testing.TB) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal(a.body, &s); err != nil || s.Kind != "Status" {
		t.Fatalf("answer is no Status: %v: %s", err, a.body)
	}
	return s
}

func (a answer) into(t testing.TB, obj any) {
	t.Helper()
	if a.code >= 300 {
		t.Fatalf("code %d: %s", a.code, a.body)
	}
	if err := json.Unmarshal(a.body, obj); err != nil {
		t.Fatalf("decode: %v: %s", err, a.body)
	}
}

type header map[string]string

// do sends a request as the administrator, unless headers say otherwise.
func (c *cluster) do(method, path, body string, headers ...header) answer {
	c.t.Helper()
	resp := c.open(c.t.Context(), method, path, body, headers...)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func (c *cluster) open(ctx context.Context, method, path, body string, headers ...header) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "tester/1.0")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for _, h := range headers {
		for k, v := range h {
			if req.Header.Del(k); v != "" {
				req.Header.Set(k, v)
			}
		}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// send sends a request as it is.
func (c *cluster) send(req *http.Request) answer {
	c.t.Helper()
	resp, err := c.client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

func (c *cluster) get(path string, headers ...header) answer {
	c.t.Helper()
	return c.do(http.MethodGet, path, "", headers...)
}

// must is do for requests that have to succeed.
func (c *cluster) must(method, path, body string, headers ...header) answer {
	c.t.Helper()
	a := c.do(method, path, body, headers...)
	if a.code >= 300 {
		c.t.Fatalf("%s %s: %d: %s", method, path, a.code, a.body)
	}
	return a
}

func (c *cluster) configMap(name, value string) answer {
	c.t.Helper()
	return c.must("POST", "/api/v1/namespaces/default/configmaps",
		`{"metadata":{"name":"`+name+`","labels":{"app":"`+value+`"}},"data":{"key":"`+value+`"}}`)
}

// fakeNodes does as its functions say.
type fakeNodes struct {
	page   func(ctx context.Context, node, page string) (io.ReadCloser, error)
	open   func(ctx context.Context, node, uid, container string, o *corev1.PodLogOptions) (io.ReadCloser, error)
	exec   func(ctx context.Context, node, uid string, o *corev1.PodExecOptions) (net.Conn, error)
	attach func(ctx context.Context, node, uid string, o *corev1.PodAttachOptions) (net.Conn, error)
	port   func(ctx context.Context, node, uid string, port uint16) (net.Conn, error)
}

func (n *fakeNodes) OpenLog(ctx context.Context, node, uid, container string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return n.open(ctx, node, uid, container, o)
}

func (n *fakeNodes) OpenPage(ctx context.Context, node, page string) (io.ReadCloser, error) {
	return n.page(ctx, node, page)
}

func (n *fakeNodes) OpenExec(ctx context.Context, node, uid string, o *corev1.PodExecOptions) (net.Conn, error) {
	return n.exec(ctx, node, uid, o)
}

func (n *fakeNodes) OpenAttach(ctx context.Context, node, uid string, o *corev1.PodAttachOptions) (net.Conn, error) {
	return n.attach(ctx, node, uid, o)
}

func (n *fakeNodes) OpenPort(ctx context.Context, node, uid string, port uint16) (net.Conn, error) {
	return n.port(ctx, node, uid, port)
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// authority is a CA for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool(), pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t testing.TB, name pkix.Name) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: name, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) serverConfig(t testing.TB) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.issue(t, pkix.Name{CommonName: "server"})}, ClientCAs: a.pool, MinVersion: tls.VersionTLS12}
}
