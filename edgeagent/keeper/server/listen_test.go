package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// TestFarewell: a request that is never answered does not keep a keeper from going.
func TestFarewell(t *testing.T) {
	dir, err := os.MkdirTemp("", "k") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l.farewell = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	asked, answer, gone := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		gone <- l.run(ctx, func(context.Context, *wire.Conn) {
			close(asked)
			<-answer
		})
	}()
	conn, err := wire.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	cancel()
	if err := <-gone; !errors.Is(err, errUnanswered) {
		t.Errorf("got %v", err)
	}
	close(answer)
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}
