package embedded_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
)

// echo answers each API request with who the server says has asked.
func echo(t *testing.T, core *nats.Conn) {
	t.Helper()
	_, err := core.Subscribe(messaging.APIGroup+".>", func(m *nats.Msg) {
		c, err := messaging.CallerOf(m.Header)
		check(t, m.Respond(fmt.Appendf(nil, "%s|%v", c.ID, err)))
	})
	check(t, err)
	check(t, core.Flush())
}

const subject = messaging.APIGroup + ".pods.list"

func TestServerSaysWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.registry.users["alice"] = embedded.UserGrant{Name: "alice", API: true}
	w.registry.users["bob"] = embedded.UserGrant{Name: "bob", API: true}
	echo(t, w.core)
	const forged = `{"acc":"USERS","user":"id of bob"}`
	for _, name := range []string{"alice", "bob"} {
		nc := connect(t, messaging.ConnectOptions{URLs: []string{w.server.ClientURL()}, Token: name, InboxPrefix: "_INBOX." + name, Name: `"},"user":"id of bob`})
		for what, headers := range map[string]nats.Header{
			"none":         nil,
			"forged":       {"Nats-Request-Info": {forged}},
			"forged twice": {"Nats-Request-Info": {forged, forged}, "X": {"y"}},
			"other case":   {"nats-request-info": {forged}, "NATS-REQUEST-INFO": {forged}},
		} {
			answer, err := nc.RequestMsg(&nats.Msg{Subject: subject, Header: headers}, 5*time.Second)
			check(t, err)
			if want := w.registry.ids[name] + "|<nil>"; string(answer.Data) != want {
				t.Errorf("%s of %s: %q, want %q", what, name, answer.Data, want)
			}
		}
	}
}

// Headers that the client library would not write: folded, with blanks, without end, with the name inside a value.
func TestHeadersOfAnotherMakeAreNoWayAround(t *testing.T) {
	w := newWorld(t)
	w.registry.users["alice"] = embedded.UserGrant{Name: "alice", API: true}
	echo(t, w.core)
	const forged = `{"acc":"USERS","user":"id of bob"}`
	taken := 0
	for i, head := range []string{
		"Nats-Request-Info:" + forged + "\r\n", "Nats-Request-Info: " + forged + "\r\nNats-Request-Info: " + forged + "\r\n",
		"Nats-Request-Info : " + forged + "\r\n", " Nats-Request-Info: " + forged + "\r\n", "A: b\r\n Nats-Request-Info: " + forged + "\r\n",
		"A: b\nNats-Request-Info: " + forged + "\r\n", "A: b\rNats-Request-Info: " + forged + "\r\n", "Nats-Request-Info: " + forged + "\n\r\n",
		"A: Nats-Request-Info: " + forged + "\r\nNats-Request-Info: " + forged + "\r\n", "Nats-Request-Info\r\nNats-Request-Info: " + forged + "\r\n",
		"Nats-Request-Info:\r\n\t" + forged + "\r\n", "\x00Nats-Request-Info: " + forged + "\r\n",
		"Nats-Request-InfoNats-Request-Info: " + forged + "\r\n", "\r\n\r\nNats-Request-Info: " + forged + "\r\n",
		"A: b\nNats-Request-Info: " + forged + "\n\nB: c\r\n", "A: b\nNats-Request-Info: " + forged + "\n\r\nB: c\r\n",
		"A: b\nNats-Request-Info: " + forged + "\n\r\n", "Nats-Request-Info: {}\r\nA: b\nNats-Request-Info: " + forged + "\n\n\r\n",
		"XNats-Request-Info: a\r\nNats-Request-Info: " + forged + "\r\n", ":Nats-Request-Info: " + forged + "\r\n",
	} {
		answer := raw(t, w.server, "alice", "NATS/1.0\r\n"+head+"\r\n")
		if i == 0 && answer == "" {
			t.Fatal("no answer to well-formed headers")
		}
		// It is known for what it is, or not at all, or what it says is taken for what it says, which nobody knows.
		switch {
		case strings.Contains(answer, w.registry.ids["alice"]+"|<nil>"), strings.Contains(answer, messaging.ErrNoCaller.Error()), answer == "":
		case strings.Contains(answer, "id of bob|<nil>"):
			taken++
		default:
			t.Errorf("headers %q are answered %q", head, answer)
		}
	}
	if taken == 0 {
		t.Error("no header got through: if client library and server now read them alike, IDs need be no secret")
	}
}

// raw sends a request by hand and returns its answer; nothing when there is none before that of a plain request.
func raw(t *testing.T, s *embedded.Server, token, header string) string {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(s.ClientURL(), "nats://"))
	check(t, err)
	defer nc.Close()
	check(t, nc.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = fmt.Fprintf(nc, "CONNECT {\"auth_token\":%q,\"headers\":true,\"verbose\":false,\"protocol\":1}\r\nSUB _INBOX.%s.> 1\r\nHPUB %s _INBOX.%s.1 %d %d\r\n%s\r\nPUB %s _INBOX.%s.last 0\r\n\r\nPING\r\n",
		token, token, subject, token, len(header), len(header), header, subject, token)
	check(t, err)
	var all strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(all.String(), ".last 1 ") && !strings.Contains(all.String(), "-ERR") {
		n, err := nc.Read(buf)
		if err != nil {
			return ""
		}
		all.Write(buf[:n])
	}
	_, text, _ := strings.Cut(all.String(), ".1 1 ")
	text, _, _ = strings.Cut(text, "MSG _INBOX."+token+".last")
	return text
}

// What the coordinator itself sends, or others make it send, is nobody's.
func TestNobodyVouchesForOthers(t *testing.T) {
	w := newWorld(t)
	echo(t, w.core)
	answer, err := w.core.Request(subject, nil, 5*time.Second)
	check(t, err)
	if !strings.HasPrefix(string(answer.Data), "|"+messaging.ErrNoCaller.Error()) {
		t.Errorf("got %q", answer.Data)
	}
	for _, said := range [][]string{nil, {}, {"{"}, {`{"acc":"USERS"}`}, {`{"acc":"NODES","user":"a"}`}, {`{"acc":"CORE","user":"a"}`}, {`{"acc":"USERS","user":"a"}`, `{"acc":"USERS","user":"a"}`}} {
		if c, err := messaging.CallerOf(nats.Header{"Nats-Request-Info": said}); !errors.Is(err, messaging.ErrNoCaller) || c != (messaging.Caller{}) && c.ID != "" && c.Account == messaging.UsersAccount {
			t.Errorf("%q: %v %v", said, c, err)
		}
	}
}

// The server writes who it speaks of into its log, which others read.
func TestLogHasNoSecrets(t *testing.T) {
	var log lockedBuffer
	r := newRegistry()
	r.users["alice"] = embedded.UserGrant{Name: "alice", API: true}
	s := start(t, embedded.Options{Auth: r, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	alice := connect(t, messaging.ConnectOptions{URLs: []string{s.ClientURL()}, Token: "alice", InboxPrefix: "_INBOX.alice"})
	sub, err := alice.SubscribeSync("$KV.>")
	check(t, err)
	if _, err := sub.NextMsg(20 * time.Second); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "alice") || strings.Contains(text, r.ids["alice"]) {
		t.Errorf("alice's ID is %s, and the log says %s", r.ids["alice"], text)
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A connection ends when what was granted does not hold any more, and comes back with what is granted then.
func TestChangedGrantEndsConnection(t *testing.T) {
	w := newWorld(t)
	mine := messaging.EventSubject("default", "pods", "web", "added")
	w.registry.users["alice"] = embedded.UserGrant{Name: "alice", API: true, Events: []string{messaging.EventAll}}
	w.registry.users["bob"] = embedded.UserGrant{Name: "bob", API: true}
	ended := make(chan string, 10)
	options := func(name string) messaging.ConnectOptions {
		return messaging.ConnectOptions{URLs: []string{w.server.ClientURL()}, Token: name, InboxPrefix: "_INBOX." + name, OnDisconnect: func(*nats.Conn, error) {
			select {
			case ended <- name:
			default: // it goes on trying after the test has seen enough
			}
		}}
	}
	alice, bob := connect(t, options("alice")), connect(t, options("bob"))
	heard, err := alice.SubscribeSync(mine)
	check(t, err)
	check(t, alice.Flush())
	w.registry.change(func() { w.registry.users["alice"] = embedded.UserGrant{Name: "alice", API: true} })
	select {
	case name := <-ended:
		if name != "alice" {
			t.Fatalf("%s's connection ended", name)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the connection goes on")
	}
	for end := time.Now().Add(20 * time.Second); !alice.IsConnected(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("she does not come back")
		}
	}
	_, err = heard.NextMsg(10 * time.Second) // the client subscribes anew by itself
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("she subscribes again: %v", err)
	}
	w.registry.change(func() { delete(w.registry.users, "alice") })
	select {
	case name := <-ended:
		if name != "alice" {
			t.Errorf("%s's connection ended", name)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the connection of a user who is no more goes on")
	}
	if !bob.IsConnected() {
		t.Error("bob's connection has ended")
	}
}

// A certificate of the cluster's CA is a login, and nobody else's is.
func TestCertificateLogin(t *testing.T) {
	r := newRegistry()
	r.users["carol"] = embedded.UserGrant{Name: "carol", API: true}
	ours, err := messaging.OpenAuthority(t.TempDir(), time.Now())
	check(t, err)
	theirs, err := messaging.OpenAuthority(t.TempDir(), time.Now())
	check(t, err)
	serving, err := serverTLS(ours, time.Now())
	check(t, err)
	serving.ClientCAs, serving.ClientAuth = pool(ours), tls.VerifyClientCertIfGiven
	s := start(t, embedded.Options{Auth: r, TLS: serving})
	core := connect(t, s.CoordinatorOptions())
	echo(t, core)
	login := func(a *messaging.Authority, name string) (*nats.Conn, error) {
		certPEM, keyPEM, err := a.Client(name, []string{"devs"}, time.Now())
		check(t, err)
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		check(t, err)
		nc, err := nats.Connect(strings.Replace(s.ClientURL(), "nats:", "tls:", 1), nats.TLSHandshakeFirst(), nats.CustomInboxPrefix("_INBOX.carol"),
			nats.Secure(&tls.Config{RootCAs: pool(ours), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}))
		if err == nil {
			t.Cleanup(nc.Close)
		}
		return nc, err
	}
	nc, err := login(ours, "carol")
	check(t, err)
	answer, err := nc.Request(subject, nil, 5*time.Second)
	check(t, err)
	if string(answer.Data) != r.ids["carol"]+"|<nil>" {
		t.Errorf("got %q", answer.Data)
	}
	if _, err := login(ours, "dave"); err == nil {
		t.Error("a user whom nobody knows is let in")
	}
	if _, err := login(theirs, "carol"); err == nil {
		t.Error("another authority's certificate is let in")
	}
}

func pool(a *messaging.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(a.PEM())
	return p
}
