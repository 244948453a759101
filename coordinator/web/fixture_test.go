package web_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/coordinator/web"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

const (
	adminToken = "admin-token"
	guestToken = "guest-token"
)

// site is the page on a real API server over a real view, object store and NATS server.
type site struct {
	testing.TB
	url    string
	client *http.Client // logged in by cookie
	tokens map[string]authn.User
	loads  loads
	stop   context.CancelFunc // ends the server
	ended  chan error
}

// loads is what the nodes say they use.
type loads struct {
	mu   sync.Mutex
	live map[string]controller.Liveness
}

func (l *loads) set(node string, load messaging.Load) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live = map[string]controller.Liveness{}
	}
	l.live[node] = controller.Liveness{Heard: time.Now(), Load: load}
}

func (l *loads) get() map[string]controller.Liveness {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.live)
}

func newSite(t testing.TB, viewOptions ...view.Option) *site {
	t.Helper()
	s := &site{TB: t, tokens: map[string]authn.User{
		adminToken: {Name: "admin", Groups: []string{authn.GroupMasters}},
		guestToken: {Name: "guest"},
	}}
	log := slog.New(slog.DiscardHandler)
	broker := natstest.Server(t)
	state, err := store.Open(t.Context(), broker.JetStream(), store.Options{Storage: broker.Storage})
	if err != nil {
		t.Fatal(err)
	}
	v := view.New(state, log, viewOptions...)
	objs, err := objects.New(v, state, objects.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	_, ended := background(t, v.Run)
	select {
	case <-v.Synced():
	case err := <-ended:
		t.Fatal(err)
	}
	if err := objs.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.serve(v, objs, log)
	return s
}

func (s *site) serve(v *view.View, objs *objects.Store, log *slog.Logger) {
	s.Helper()
	page, err := web.New(web.Config{View: v, Liveness: s.loads.get, Log: log})
	if err != nil {
		s.Fatal(err)
	}
	certificate, pool := selfSigned(s)
	tokens := authn.NewStaticTokens(s.tokens)
	sessions := authn.NewSessions(tokens, time.Now)
	server, err := apiserver.New(apiserver.Config{
		Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		View: v, Objects: objs, Nodes: logs{}, Log: log,
		Authenticator: authn.Union{authn.Bearer{Tokens: tokens}, sessions},
		Mounts: map[string]apiserver.Mount{
			web.Prefix:             {Handler: page, Public: true, Streams: true},
			web.Prefix + "session": {Handler: sessions, Public: true},
		},
		Home: web.Prefix,
	})
	if err != nil {
		s.Fatal(err)
	}
	ln, err := server.Listen(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	s.url = "https://" + ln.Addr().String()
	s.stop, s.ended = background(s, func(ctx context.Context) error { return server.Serve(ctx, ln) })
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	s.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Jar: jar}
}

// background runs f until the test ends or stop is called.
func background(t testing.TB, f func(context.Context) error) (stop context.CancelFunc, ended chan error) {
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before clean-ups
	ended = make(chan error, 1)                             // one result
	go func() { ended <- f(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return cancel, ended
}

func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// logs serve every container the same lines, and end with the request.
type logs struct {
	apiserver.Nodes // there is no other way to the nodes
}

func (logs) OpenLog(ctx context.Context, node, _, container string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	text := strings.Repeat("2026-11-24T10:00:00Z GET /readyz 200 in 1 ms\n", 30) + "the last line of " + container + " on " + node + "\n"
	if !o.Follow {
		return io.NopCloser(strings.NewReader(text)), nil
	}
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, text) // a reader that has gone is no fault
		<-ctx.Done()
		_ = w.Close()
	}()
	return r, nil
}

// reply is an answer whose body closes with the test.
type reply struct {
	code   int
	header http.Header
	body   io.ReadCloser
}

// do sends a request; token is empty for one by cookie.
func (s *site) do(method, path, token string, body any, headers ...string) reply {
	s.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			s.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, bytes.NewReader(data))
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", s.url)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = resp.Body.Close() }) // a stream that was ended on purpose has nothing to say
	return reply{resp.StatusCode, resp.Header, resp.Body}
}

// must is do as the administrator for what has to succeed.
func (s *site) must(method, path string, body any, headers ...string) {
	s.Helper()
	resp := s.do(method, path, adminToken, body, headers...)
	text, err := io.ReadAll(resp.body)
	if err != nil || resp.code >= 300 {
		s.Fatalf("%s %s: %d: %s (%v)", method, path, resp.code, text, err)
	}
}

func (s *site) login() {
	s.Helper()
	if resp := s.do("POST", "/ui/session", "", `{"token":"`+adminToken+`"}`); resp.code != http.StatusOK {
		s.Fatalf("login: %d", resp.code)
	}
}

// message is one server-sent event.
type message struct{ id, event, data string }

// inbox reads a stream of messages.
type inbox struct {
	testing.TB
	body  io.Closer
	lines *bufio.Reader
	last  string // Last-Event-ID, as a browser would send it
}

func (s *site) follow(last string) *inbox {
	s.Helper()
	headers := []string{}
	if last != "" {
		headers = []string{"Last-Event-ID", last}
	}
	resp := s.do("GET", "/ui/events", adminToken, nil, headers...)
	if resp.code != http.StatusOK || resp.header.Get("Content-Type") != "text/event-stream" {
		s.Fatalf("events: %d %v", resp.code, resp.header)
	}
	return &inbox{TB: s.TB, body: resp.body, lines: bufio.NewReader(resp.body)}
}

// next reads one message; the stream's end is an error.
func (b *inbox) next() (message, error) {
	var m message
	for {
		line, err := b.lines.ReadString('\n')
		if err != nil {
			return m, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n" && m.event == "":
			continue // "retry" alone
		case line == "\n":
			if m.id != "" {
				b.last = m.id
			}
			return m, nil
		case name == "id":
			m.id = value
		case name == "event":
			m.event = value
		case name == "data":
			m.data = value
		}
	}
}

// until reads to the first message that fits, and returns all up to it.
func (b *inbox) until(what string, fits func(message) bool) []message {
	b.Helper()
	var out []message
	timer := time.AfterFunc(20*time.Second, func() { _ = b.body.Close() }) // ends the read below
	defer timer.Stop()
	for {
		m, err := b.next()
		if err != nil {
			b.Fatalf("no %s: %v after %v", what, err, events(out))
		}
		out = append(out, m)
		if fits(m) {
			return out
		}
	}
}

func isSync(m message) bool { return m.event == "sync" }

func events(messages []message) []string {
	var out []string
	for _, m := range messages {
		out = append(out, m.event)
	}
	return slices.Compact(out)
}
