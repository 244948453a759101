package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// peer is the other end of a client: it answers connection after connection with a script.
func peer(t *testing.T, talk func(*wire.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 8)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			if conn, err := wire.NewConn(c); err == nil {
				talk(conn)
				_ = conn.Close()
			}
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		<-ended
		_ = unix.Close(fd)
	})
	return path
}

// answer receives one request and sends the frames.
func answer(conn *wire.Conn, frames ...string) string {
	packet, _, err := conn.Recv()
	if err != nil {
		return ""
	}
	f, err := wire.Decode(packet)
	if err != nil {
		return ""
	}
	for _, frame := range frames {
		_ = conn.Send([]byte(frame)) // the client may have gone, which its test sees
	}
	return f.Op
}

func hello(version int) string {
	return fmt.Sprintf(`{"op":"hello","body":{"version":%d,"boot":"b"}}`, version)
}

func TestDialRefusesOtherVersion(t *testing.T) {
	path := peer(t, func(c *wire.Conn) { answer(c, hello(wire.Version+1)) })
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	if _, err := Dial(t.Context(), "/nonexistent/socket"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestRestartedKeeper: a connection whose keeper has gone is replaced without the caller's notice, one that breaks in the middle is reported.
func TestRestartedKeeper(t *testing.T) {
	path := peer(t, func(c *wire.Conn) { // each connection lives for a handshake and one request
		if answer(c, hello(wire.Version)) == wire.OpHello {
			answer(c, `{"op":"list","more":true,"body":[{"id":"a","state":"running","createdAt":"2026-01-01T00:00:00Z"}]}`, `{"op":"list","body":[]}`)
		}
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for range 3 {
		all, err := c.List(t.Context())
		if err != nil || len(all) != 1 || all[0].ID != "a" || all[0].State != Running {
			t.Errorf("got %+v, %v", all, err)
		}
	}
	if c.Boot() != "b" {
		t.Errorf("boot %q", c.Boot())
	}
}

func TestBrokenReply(t *testing.T) {
	for name, reply := range map[string][]string{
		"nothing": nil, "half a list": {`{"op":"list","more":true,"body":[]}`}, "not JSON": {"x"}, "unknown field": {`{"op":"list","y":1}`},
	} {
		path := peer(t, func(c *wire.Conn) {
			answer(c, hello(wire.Version))
			answer(c, reply...)
		})
		c, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.List(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
		_ = c.Close()
	}
}

func TestRefusals(t *testing.T) {
	for code, want := range codes {
		path := peer(t, func(c *wire.Conn) {
			answer(c, hello(wire.Version))
			answer(c, fmt.Sprintf(`{"op":"start","code":%q,"error":"because"}`, code))
		})
		c, err := Dial(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		err = c.Start(t.Context(), "x")
		if !errors.Is(err, want) || err.Error() != "because" || Code(err) != code {
			t.Errorf("%s: got %v with code %s", code, err, Code(err))
		}
		_ = c.Close()
	}
}

func TestCancelledAndClosed(t *testing.T) {
	path := peer(t, func(c *wire.Conn) {
		answer(c, hello(wire.Version))
		answer(c)  // a request that gets no answer
		c.Hangup() // until the client goes
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Start(ctx, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Start(t.Context(), "x"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: got %v", err)
	}
}

// TestHungKeeper: who does not even shake hands is no keeper.
func TestHungKeeper(t *testing.T) {
	c := &Client{path: peer(t, func(c *wire.Conn) { answer(c); c.Hangup() }), handshake: 10 * time.Millisecond}
	if _, err := c.List(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
