package streaming

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"skerry.dev/skerry/messaging/channels"
)

// patience is for whatever must come to be.
const patience = 30 * time.Second

// serve answers each request with handle, as the API server does, and ends ctx with the test. When the test ends, nothing
// of this package or of the SPDY library may run any more.
func serve(t *testing.T, handle func(ctx context.Context, w http.ResponseWriter, r *http.Request) error) *url.URL {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before clean-ups
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := handle(ctx, w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
		eventually(t, "everything ends", func() bool { return running() == "" })
	})
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// running are the goroutines that run code of ours or of the SPDY library.
func running() string {
	buf := make([]byte, 1<<20)
	var out []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "streaming.running") || strings.Contains(g, "streaming.Test") || strings.Contains(g, "streaming.podServer") {
			continue
		}
		if strings.Contains(g, "apiserver/streaming.") || strings.Contains(g, "moby/spdystream") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s\n%s", patience, what, running())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// process is the node's end of a session.
type process struct {
	net.Conn
	in  *channels.Reader
	out *channels.Writer
}

// start serves sessions with a process.
func start(t *testing.T, want Want, run func(p *process)) *url.URL {
	t.Helper()
	return serve(t, func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		return Session(ctx, w, r, want, func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				run(&process{Conn: theirs, in: channels.NewReader(theirs), out: channels.NewWriter(theirs)})
				_ = theirs.Close()
			}()
			return ours, nil
		})
	})
}

// each runs a test with every protocol that clients speak.
func each(t *testing.T, test func(t *testing.T, dial func(*url.URL) remotecommand.Executor)) {
	t.Helper()
	for name, dial := range map[string]func(u *url.URL) (remotecommand.Executor, error){
		"websocket": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, u.String())
		},
		"SPDY": func(u *url.URL) (remotecommand.Executor, error) {
			return remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, u)
		},
	} {
		t.Run(name, func(t *testing.T) {
			test(t, func(u *url.URL) remotecommand.Executor {
				e, err := dial(u)
				if err != nil {
					t.Fatal(err)
				}
				return e
			})
		})
	}
}

// stream runs a session of a client to its end.
func stream(t *testing.T, e remotecommand.Executor, o remotecommand.StreamOptions) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := e.StreamWithContext(ctx, o)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Fatalf("the session does not end\n%s", running())
	}
	return err
}

// sizes are a terminal's.
type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return &next
}

// endless is input that never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, bytes.Repeat([]byte("x"), len(b))), nil }
