package wire

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewConn(fds[0]); err != nil {
		t.Fatal(err)
	}
	if b, err = NewConn(fds[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() }) // some tests close them themselves
	return a, b
}

func TestPacketsAndFiles(t *testing.T) {
	a, b := pair(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	big, err := Encode(Frame{Op: "x"}, strings.Repeat("y", MaxFrameBytes-100))
	if err != nil {
		t.Fatal(err)
	}
	for _, packet := range [][]byte{[]byte("one"), big} {
		if err := a.Send(packet, w); err != nil {
			t.Fatal(err)
		}
		got, files, err := b.Recv()
		if err != nil || string(got) != string(packet) || len(files) != 1 {
			t.Fatalf("got %d bytes, %d files, %v", len(got), len(files), err)
		}
		if _, err := files[0].WriteString("!"); err != nil {
			t.Error(err)
		}
		CloseAll(files)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "!!" {
		t.Errorf("through the descriptors: %q, %v", got, err)
	}
}

func TestBounds(t *testing.T) {
	a, _ := pair(t)
	if err := a.Send(make([]byte, MaxFrameBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large packet: got %v", err)
	}
	if err := a.Send([]byte("x"), make([]*os.File, MaxFiles+1)...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("many descriptors: got %v", err)
	}
	if _, err := Encode(Frame{Op: "x"}, strings.Repeat("y", MaxFrameBytes)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large body: got %v", err)
	}
}

func TestPeerGone(t *testing.T) {
	a, b := pair(t)
	if !a.Alive() {
		t.Error("not alive")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if a.Alive() {
		t.Error("alive without a peer")
	}
	a.Hangup()
	if _, _, err := a.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("receive: got %v", err)
	}
	if err := a.Send([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("send: got %v", err)
	}
}

func TestDeadlineAndClose(t *testing.T) {
	a, _ := pair(t)
	if err := a.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Recv(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: got %v", err)
	}
	if err := a.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, _, err := a.Recv()
		ended <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("close: got %v", err)
	}
}

// TestTooManyFiles: descriptors beyond the bound break the packet and are closed.
func TestTooManyFiles(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := NewConn(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	many := make([]int, MaxFiles+8)
	for i := range many {
		many[i] = fds[1]
	}
	if err := unix.Sendmsg(fds[1], []byte(`{"op":"x"}`), unix.UnixRights(many...), nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fds[1]); err != nil {
		t.Fatal(err)
	}
	if _, files, err := conn.Recv(); !errors.Is(err, ErrTooLarge) || len(files) != 0 {
		t.Errorf("got %d files, %v", len(files), err)
	}
	if _, _, err := conn.Recv(); !errors.Is(err, io.EOF) { // the peer's end was among them
		t.Errorf("a descriptor stayed open: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, packet := range []string{
		"", "{}", "null", `{"op":""}`, `{"op":"x","more":1}`, `{"op":"x","other":1}`, `{"op":"x"}{}`, `{"op":"x"} x`,
		`{"op":"` + strings.Repeat("x", maxOpBytes+1) + `"}`, strings.Repeat(" ", MaxFrameBytes+1),
	} {
		if f, err := Decode([]byte(packet)); err == nil {
			t.Errorf("%.40q: got %+v", packet, f)
		}
	}
	var target Target
	for _, body := range []string{"", `{"id":1}`, `{"id":"x","y":2}`, `{"id":"x"}1`} {
		if err := DecodeBody(Frame{Op: "x", Body: json.RawMessage(body)}, &target); err == nil {
			t.Errorf("body %q: got %+v", body, target)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"op":"hello","body":{"version":1}}`, `{"op":"kill","body":{"id":"c","number":9,"all":true}}`, `{"op":"exec","body":{"id":"c","spec":{},"has":[true,false,true]}}`,
		`{"op":"exits","code":"notfound","error":"x","more":true}`, `{"op":"x","body":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		frame, err := Decode(packet)
		if err != nil {
			return
		}
		for _, body := range []any{&Hello{}, &Target{}, &Signal{}, &Since{}, &IDs{}, &Deadline{}, &Exec{}, &Started{}} {
			_ = DecodeBody(frame, body) // any outcome but a panic
		}
		again, err := Encode(frame, nil)
		if err != nil {
			if errors.Is(err, ErrTooLarge) { // escaping can only grow it
				return
			}
			t.Fatal(err)
		}
		if back, err := Decode(again); err != nil || back.Op != frame.Op || back.Code != frame.Code || back.More != frame.More {
			t.Errorf("%q became %q: %v", packet, again, err)
		}
	})
}
