package server

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"skerry.dev/skerry/edgeagent/keeper"
)

// TestDeleteWaitsForTheEnd: between the moment an exit is known and the moment the container is at rest, nothing of it is removed.
func TestDeleteWaitsForTheEnd(t *testing.T) {
	s := &Server{shelf: shelf{dir: t.TempDir()}, containers: make(map[string]*container), cfg: Config{RunDir: t.TempDir(), CgroupParent: "/skerry-test/none"}}
	folder := filepath.Join(s.shelf.dir, "c")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	c := newContainer(&keeper.Spec{ID: "c", CgroupPath: "/skerry-test/none/c"}, "i")
	c.exited(keeper.Exit{ID: "c"})
	if err := s.add(c); err != nil {
		t.Fatal(err)
	}
	ending, stop := context.WithCancel(t.Context())
	stop() // the keeper ends while delete waits
	if err := s.remove(ending, "c"); !errors.Is(err, context.Canceled) {
		t.Errorf("not at rest: got %v", err)
	}
	if _, err := os.Stat(folder); err != nil {
		t.Errorf("not at rest: %v", err)
	}
	close(c.ended)
	if err := s.remove(t.Context(), "c"); err != nil {
		t.Errorf("at rest: %v", err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("at rest: %v", err)
	}
}
