package streaming

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"skerry.dev/skerry/messaging/channels"
)

func TestSession(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		u := start(t, Want{Stdin: true, Stdout: true, Stderr: true}, func(p *process) {
			for {
				channel, payload, err := p.in.Next()
				switch {
				case err != nil:
					return
				case channel == channels.Stdin:
					_ = p.out.Send(channels.Stdout, bytes.ToUpper(payload))
				case channel == channels.Close:
					_ = p.out.Send(channels.Stderr, []byte("bye"))
					_ = p.out.SendExit(channels.Exit{Code: 7})
				}
			}
		})
		var out, errOut bytes.Buffer
		long := strings.Repeat("hello ", 1<<20)
		err := stream(t, dial(u), remotecommand.StreamOptions{Stdin: strings.NewReader(long), Stdout: &out, Stderr: &errOut})
		var code exec.CodeExitError
		if !errors.As(err, &code) || code.Code != 7 {
			t.Errorf("error %v, want exit code 7", err)
		}
		if out.String() != strings.ToUpper(long) || errOut.String() != "bye" {
			t.Errorf("output of %d bytes, want %d; errors %q", out.Len(), len(long), &errOut)
		}
	})
}

func TestTerminal(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		u := start(t, Want{Stdin: true, Stdout: true, TTY: true}, func(p *process) {
			for range 2 {
				channel, payload, err := p.in.Next()
				if err != nil || channel != channels.Resize {
					_ = p.out.SendExit(channels.Exit{Error: "no size"})
					return
				}
				_ = p.out.Send(channels.Stdout, bytes.TrimSpace(payload))
			}
			_ = p.out.SendExit(channels.Exit{})
		})
		var out bytes.Buffer
		in, typed := io.Pipe() // nobody types
		defer typed.Close()
		err := stream(t, dial(u), remotecommand.StreamOptions{
			Stdin: in, Stdout: &out, Tty: true, TerminalSizeQueue: &sizes{{Width: 80, Height: 24}, {Width: 100, Height: 50}},
		})
		if err != nil || out.String() != `{"Width":80,"Height":24}{"Width":100,"Height":50}` {
			t.Errorf("%q, %v", &out, err)
		}
	})
}

// TestEnds are the ways in which a session ends without its process's exit code: the client reads why.
func TestEnds(t *testing.T) {
	for want, run := range map[string]func(p *process){
		"no such file":                  func(p *process) { _ = p.out.SendExit(channels.Exit{Error: "no such file"}) },
		"without saying how":            func(p *process) { _ = p.out.Send(channels.Stdout, []byte("x")) },
		"was lost: unexpected EOF":      func(p *process) { _, _ = p.Write([]byte{1, 0, 0, 0, 9, 'x'}) },
		"in a way not understood":       func(p *process) { _ = p.out.Send(channels.Status, []byte("{")) },
		"not a session frame: payload ": func(p *process) { _, _ = p.Write([]byte{1, 255, 0, 0, 9}) },
	} {
		each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
			u := start(t, Want{Stdout: true}, run)
			err := stream(t, dial(u), remotecommand.StreamOptions{Stdout: io.Discard})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		})
	}
}

func TestNodeRefuses(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		u := serve(t, func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			return Session(ctx, w, r, Want{Stdin: true, Stdout: true}, func(context.Context) (net.Conn, error) {
				return nil, errors.New("container web is not running")
			})
		})
		err := stream(t, dial(u), remotecommand.StreamOptions{Stdin: endless{}, Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "container web is not running") {
			t.Errorf("error %v", err)
		}
	})
}

// TestServerStops: the client reads why, and what waits for it ends.
func TestServerStops(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		stopping, stop := context.WithCancel(t.Context())
		u := serve(t, func(_ context.Context, w http.ResponseWriter, r *http.Request) error {
			return Session(stopping, w, r, Want{Stdout: true}, func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				go func() {
					_ = channels.NewWriter(theirs).Send(channels.Stdout, []byte("x"))
					stop()
				}()
				return ours, nil
			})
		})
		err := stream(t, dial(u), remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "coordinator is stopping") {
			t.Errorf("error %v", err)
		}
	})
}

// TestDeafProcess: a process that reads nothing ends its session as any other, whatever its client sends.
func TestDeafProcess(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		u := start(t, Want{Stdin: true, Stdout: true}, func(p *process) {
			if _, _, err := p.in.Next(); err == nil { // the client has begun to send
				_ = p.out.SendExit(channels.Exit{})
			}
		})
		if err := stream(t, dial(u), remotecommand.StreamOptions{Stdin: endless{}, Stdout: io.Discard}); err != nil {
			t.Error(err)
		}
	})
}

// TestDeafClient: a client that reads nothing stops the process, and holds up nothing when it goes.
func TestDeafClient(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		var sent atomic.Int64
		ended := make(chan struct{})
		u := start(t, Want{Stdout: true}, func(p *process) {
			defer close(ended)
			for p.out.Send(channels.Stdout, make([]byte, 32<<10)) == nil {
				sent.Add(32 << 10)
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		deaf := &deafWriter{ctx: ctx, reached: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- dial(u).StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: deaf}) }()
		<-deaf.reached
		last := int64(-1)
		eventually(t, "the process is stopped", func() bool {
			now := sent.Load()
			stopped := now == last
			last = now
			return stopped
		})
		if last > 64<<20 { // what the sockets hold on the way
			t.Errorf("%d bytes are under way", last)
		}
		cancel()
		<-done
		<-ended
	})
}

// deafWriter takes nothing while ctx lasts.
type deafWriter struct {
	ctx     context.Context
	reached chan struct{}
}

func (w *deafWriter) Write([]byte) (int, error) {
	select {
	case <-w.reached:
	default:
		close(w.reached)
	}
	<-w.ctx.Done()
	return 0, io.ErrClosedPipe
}

// TestClientGoes: the process learns of it.
func TestClientGoes(t *testing.T) {
	each(t, func(t *testing.T, dial func(*url.URL) remotecommand.Executor) {
		begun, ended := make(chan struct{}), make(chan struct{})
		u := start(t, Want{Stdout: true}, func(p *process) {
			defer close(ended)
			close(begun)
			for {
				if _, _, err := p.in.Next(); err != nil {
					return
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- dial(u).StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard}) }()
		<-begun
		cancel()
		<-ended
		<-done
	})
}

// goneClient is a client that is gone while its process reads nothing: only a sign of life shows it.
type goneClient struct{ closed chan struct{} }

func (c goneClient) input(w *channels.Writer) {
	_ = w.Send(channels.Stdin, []byte("x"))
	<-c.closed
}
func (goneClient) output(byte, []byte) error { return nil }
func (goneClient) sign() error               { return io.ErrClosedPipe }
func (goneClient) end(*metav1.Status)        {}

func (c goneClient) close() {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
}

func TestClientGoesUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		began := time.Now()
		run(t.Context(), goneClient{make(chan struct{})}, ours, Want{Stdin: true})
		if took := time.Since(began); took != signInterval {
			t.Errorf("noticed after %v", took)
		}
		_ = theirs.Close()
	})
}

func TestNoUpgrade(t *testing.T) {
	u := start(t, Want{Stdout: true}, func(*process) { t.Error("the process was reached") })
	for want, header := range map[string]http.Header{
		"Upgrade request required": {},
		"websocket subprotocols":   {"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {"v1.example"}},
		"websocket: ":              {"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {"v5.channel.k8s.io"}},
		"stream protocols":         {"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"}, "X-Stream-Protocol-Version": {"channel.k8s.io"}},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, %v", want, resp.StatusCode, body, err)
		}
	}
}
