package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging/embedded"
)

// Batches of a stream are staged in memory while the server runs, also after one that was killed; nothing stays behind.
func TestStage(t *testing.T) {
	folder := t.TempDir()
	abandoned := runStaged(t, folder, func(string) {})
	if _, err := os.Stat(abandoned); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind: %v", abandoned, err)
	}
	if err := os.Mkdir(abandoned, 0o700); err != nil {
		t.Fatal(err)
	}
	link := stageOf(folder) // as after a kill
	if err := errors.Join(os.RemoveAll(link), os.Symlink(abandoned, link)); err != nil {
		t.Fatal(err)
	}
	runStaged(t, folder, func(target string) {
		if target == abandoned {
			t.Error("the folder of the server before is used again")
		}
	})
	if _, err := os.Stat(abandoned); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s of the killed server is left behind: %v", abandoned, err)
	}
}

// runStaged runs a server with a staged stream while f looks, and returns where it staged.
func runStaged(t *testing.T, folder string, f func(target string)) (target string) {
	t.Helper()
	s, err := embedded.New(embedded.Options{StoreDir: folder, Port: -1, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	nc := connect(t, s.CoordinatorOptions())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KV_state", Subjects: []string{"$KV.state.>"}, AllowAtomicPublish: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stage("nothing"); err == nil {
		t.Error("a stream that does not exist is staged")
	}
	if err := s.Stage("KV_state"); err != nil {
		t.Fatal(err)
	}
	if target, err = os.Readlink(stageOf(folder)); err != nil {
		t.Fatal(err)
	}
	f(target)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return target
}

func stageOf(folder string) string {
	return filepath.Join(folder, "jetstream", "CORE", "streams", "KV_state", "batches")
}
