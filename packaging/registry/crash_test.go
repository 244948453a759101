package registry_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"skerry.dev/skerry/packaging/registry"
)

// TestCrashDuringPush clones the folder after each request of a push, as if the power went there: a registry over the
// clone serves the old image or the new one, whole, and takes the push.
func TestCrashDuringPush(t *testing.T) {
	dir := t.TempDir()
	r, err := registry.New(registry.Options{Dir: dir, ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mu sync.Mutex
	var clones []string
	armed := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock() // one request at a time, so that a clone is one moment
		defer mu.Unlock()
		r.ServeHTTP(w, req)
		if armed && req.Method != http.MethodGet && req.Method != http.MethodHead {
			clones = append(clones, clone(t, dir))
		}
	}))
	defer srv.Close()
	old := pushRandom(t, srv, "web:1")
	mu.Lock()
	armed = true
	mu.Unlock()
	now := pushRandom(t, srv, "web:1")
	if len(clones) < 9 { // three layers and a configuration, begun and ended, and the manifest
		t.Fatalf("%d clones, want 9 or more", len(clones))
	}
	for _, c := range clones {
		_, again := serve(t, registry.Options{Dir: c})
		tag, err := name.NewTag(host(again) + "/web:1")
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote.Image(tag)
		if err != nil {
			t.Fatalf("after a crash: %v", err)
		}
		if d := digestString(t, got); d != digestString(t, old) && d != digestString(t, now) {
			t.Errorf("after a crash: %s, want the old image or the new one", d)
		}
		if err := validate.Image(got); err != nil {
			t.Errorf("after a crash: %v", err)
		}
		if err := remote.Write(tag, now); err != nil {
			t.Errorf("push after a crash: %v", err)
		}
	}
}

func clone(t *testing.T, dir string) string {
	to := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", dir, to).CombinedOutput(); err != nil {
		t.Errorf("clone: %v %s", err, out)
	}
	return to
}

// TestPushesBesideCollection pushes images whose blobs are garbage at that moment, while it is being collected: some
// are mounted in time and some are gone, and every image that was pushed must be whole.
func TestPushesBesideCollection(t *testing.T) {
	dir := t.TempDir()
	r, srv := serve(t, registry.Options{Dir: dir, Grace: 30 * time.Minute})
	busy, err := name.NewTag(host(srv) + "/busy:1")
	if err != nil {
		t.Fatal(err)
	}
	collected := 0
	for range 20 {
		img := pushRandom(t, srv, "seed:1")
		if got := do(t, "DELETE", srv.URL+"/v2/seed/manifests/"+digestString(t, img), nil); got.status != http.StatusAccepted {
			t.Fatalf("delete: %d %s", got.status, got.body)
		}
		makeOld(t, dir)
		var wg sync.WaitGroup
		wg.Go(func() {
			got, err := r.Collect(t.Context(), time.Now())
			if err != nil {
				t.Error(err)
			}
			collected += got.Blobs
		})
		if err := remote.Write(busy, img); err != nil {
			t.Error(err)
		}
		wg.Wait()
		got, err := remote.Image(busy)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(got); err != nil {
			t.Fatalf("pushed beside a collection: %v", err)
		}
	}
	if collected == 0 {
		t.Error("nothing was collected: the test tests nothing")
	}
}

// makeOld makes everything look an hour old.
func makeOld(t *testing.T, dir string) {
	t.Helper()
	hourAgo := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(p, hourAgo, hourAgo))
	})
	if err != nil {
		t.Fatal(err)
	}
}
