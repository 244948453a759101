package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/messaging/embedded"
)

// TestFullDisk: a server whose disk is full goes on reading, says what to do, and ends to be started anew once there is
// room. The new one has what was acknowledged and stores again.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk: run the tests with sudo")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=40m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	store := filepath.Join(disk, "store")
	s, ended := run(t, store)
	stream := streamOn(t, s)
	if _, err := stream.publish("before"); err != nil {
		t.Fatal(err)
	}
	if err := s.Room(16 << 20); err != nil {
		t.Errorf("no room on an empty disk: %v", err)
	}
	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	if err := s.Room(4 << 20); err == nil || !strings.Contains(err.Error(), store) || !strings.Contains(err.Error(), "full") {
		t.Errorf("room on a full disk: %v", err)
	}
	for s.Room(0) == nil { // until the server has met the end of its disk
		if _, err := stream.publish(strings.Repeat("x", 1<<16)); err != nil {
			t.Log(err)
		}
	}
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "before" {
		t.Errorf("reading from a full disk: %v", err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended while there was no room: %v", err)
	default:
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "start anew") {
		t.Fatalf("ended with %v", err)
	}
	s, _ = run(t, store)
	stream = streamOn(t, s)
	if m, err := stream.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "before" {
		t.Errorf("lost what was acknowledged: %v", err)
	}
	if _, err := stream.publish("after"); err != nil {
		t.Error(err)
	}
}

// run starts a server that the test may see end.
func run(t *testing.T, store string) (*embedded.Server, <-chan error) {
	t.Helper()
	s, err := embedded.New(embedded.Options{StoreDir: store})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before clean-ups that use the server
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- s.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	<-s.Ready()
	return s, ended
}

type testStream struct {
	jetstream.Stream
	t  *testing.T
	js jetstream.JetStream
}

func streamOn(t *testing.T, s *embedded.Server) testStream {
	t.Helper()
	js, err := jetstream.New(connect(t, s.CoordinatorOptions()))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	return testStream{Stream: stream, t: t, js: js}
}

// publish gives up soon: a server that has given up does not answer.
func (s testStream) publish(text string) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	return s.js.Publish(ctx, "s", []byte(text), jetstream.WithRetryAttempts(0))
}

// fill writes until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<16)
	for err == nil {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
