package streaming

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"skerry.dev/skerry/messaging/channels"
)

// dial opens a websocket with one subprotocol.
func dial(t *testing.T, u *url.URL, protocol string, header http.Header) (*websocket.Conn, error) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{protocol}}
	conn, resp, err := d.DialContext(t.Context(), "ws"+strings.TrimPrefix(u.String(), "http"), header)
	if resp != nil {
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

// all reads messages until the server closes.
func all(t *testing.T, conn *websocket.Conn) []string {
	t.Helper()
	var messages []string
	for {
		_, message, err := conn.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
				t.Errorf("ended with %v", err)
			}
			return messages
		}
		messages = append(messages, string(message))
	}
}

func TestLog(t *testing.T) {
	u := serve(t, func(_ context.Context, w http.ResponseWriter, r *http.Request) error {
		return Log(w, r, io.NopCloser(strings.NewReader("one\ntwo\n")))
	})
	conn, err := dial(t, u, "binary.k8s.io", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(all(t, conn), ""); got != "one\ntwo\n" {
		t.Errorf("log %q", got)
	}
	if _, err := dial(t, u, "v4.channel.k8s.io", nil); err == nil {
		t.Error("a session's protocol is taken for a log's")
	}
}

func TestLogOfAClientThatGoes(t *testing.T) {
	in, out := io.Pipe()
	u := serve(t, func(_ context.Context, w http.ResponseWriter, r *http.Request) error { return Log(w, r, in) })
	conn, err := dial(t, u, "binary.k8s.io", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	eventually(t, "the log is closed", func() bool {
		_, err := out.Write([]byte("line\n"))
		return errors.Is(err, io.ErrClosedPipe)
	})
}

func TestOldestProtocol(t *testing.T) {
	for exit, want := range map[channels.Exit]string{
		{}:                  "\x01hi|\x03",
		{Error: "no shell"}: "\x01hi|\x03no shell",
	} {
		u := start(t, Want{Stdout: true}, func(p *process) {
			_ = p.out.Send(channels.Stdout, []byte("hi"))
			_ = p.out.SendExit(exit)
		})
		conn, err := dial(t, u, "channel.k8s.io", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(all(t, conn), "|"); got != want {
			t.Errorf("%+v: %q, want %q", exit, got, want)
		}
	}
}

func TestOrigin(t *testing.T) {
	for _, tt := range []struct {
		header http.Header
		ok     bool
	}{
		{http.Header{}, true},
		{http.Header{"Origin": {"https://api.test"}}, true},
		{http.Header{"Origin": {"https://elsewhere.test"}}, true}, // a program with a certificate
		{http.Header{"Origin": {"https://elsewhere.test"}, "Sec-Fetch-Site": {"cross-site"}}, false},
		{http.Header{"Origin": {"https://api.test"}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{http.Header{"Origin": {"null"}, "User-Agent": {"Mozilla/5.0 (X11)"}}, false},
		{http.Header{"Origin": {"https://elsewhere.test"}, "Cookie": {"a=b"}}, false},
		{http.Header{"Origin": {"https://elsewhere.test"}, "Authorization": {"Bearer x"}}, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "https://api.test/", nil)
		r.Header = tt.header
		if got := fromClient(r); got != tt.ok {
			t.Errorf("%v: %t", tt.header, got)
		}
	}
}
