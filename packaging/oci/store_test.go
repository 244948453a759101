package oci

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"skerry.dev/skerry/packaging/registry"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func randomImage(t *testing.T, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustAdd(t *testing.T, s *Store, name string, img v1.Image) {
	t.Helper()
	if _, err := s.Add(name, img); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, i := range list {
		out = append(out, i.Name)
	}
	return out
}

func TestStore(t *testing.T) {
	s, one, two := openStore(t), randomImage(t, 1000), randomImage(t, 1000)
	mustAdd(t, s, "a:1", one)
	mustAdd(t, s, "b:1", two)
	mustAdd(t, s, "a:1", two) // moves the name
	if err := s.Tag("a:1", "c:1"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a:1", "b:1", "c:1"}, names(t, s)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	got, err := s.Image("a:1")
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, got) != digestOf(t, two) || validate.Image(got) != nil {
		t.Errorf("a:1 is %s, want %s; %v", digestOf(t, got), digestOf(t, two), validate.Image(got))
	}
	if n, err := s.Collect(); err != nil || n < 2000 {
		t.Errorf("collected %d bytes, %v, want the image that lost its name", n, err)
	}
	for _, name := range []string{"a:1", "b:1"} {
		if err := s.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Image("c:1"); err != nil || validate.Image(got) != nil {
		t.Errorf("the last name's image is damaged: %v", err)
	}
	if err := s.Remove("c:1"); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, "blobs/sha256")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := s.Image("c:1"); !errors.Is(err, ErrNoImage) {
		t.Errorf("%v, want %v", err, ErrNoImage)
	}
}

func TestStoreIsShared(t *testing.T) {
	s := openStore(t)
	var wg sync.WaitGroup
	for i := range 8 {
		img := randomImage(t, 100)
		wg.Go(func() {
			other, err := OpenStore(s.dir)
			if err == nil {
				_, err = other.Add(fmt.Sprintf("n:%d", i), img)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := names(t, s); len(got) != 8 {
		t.Errorf("%d names, want 8: %v", len(got), got)
	}
}

// flaky breaks every request body after some bytes, every n-th time.
type flaky struct {
	next  http.Handler
	seen  atomic.Int64
	bytes atomic.Int64 // of bodies that were read
	limit int64
	every int64
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method == http.MethodPatch || req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/uploads/") {
		counted := &countingBody{ReadCloser: req.Body, f: f}
		if f.every > 0 && f.seen.Add(1)%f.every == 0 {
			counted.left, counted.cut = f.limit, true
		}
		req.Body = counted
	}
	f.next.ServeHTTP(w, req)
}

type countingBody struct {
	io.ReadCloser
	f    *flaky
	left int64
	cut  bool
}

func (c *countingBody) Read(p []byte) (int, error) {
	if c.cut && c.left == 0 {
		return 0, errors.New("the link broke")
	}
	if c.cut {
		p = p[:min(int64(len(p)), c.left)]
	}
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	c.f.bytes.Add(int64(n))
	return n, err
}

func serveFlaky(t *testing.T, every, limit int64) (*flaky, string) {
	t.Helper()
	r, err := registry.New(registry.Options{Dir: t.TempDir(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{next: r, every: every, limit: limit}
	srv := httptest.NewServer(f)
	t.Cleanup(func() {
		srv.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, strings.TrimPrefix(srv.URL, "http://")
}

func parseRef(t *testing.T, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestPushOverABadLink(t *testing.T) {
	f, at := serveFlaky(t, 2, 3000) // every other request loses its link after 3000 bytes
	img := randomImage(t, 100_000)
	ref := parseRef(t, at+"/web:1")
	retries := 0
	last := map[v1.Hash]int64{}
	err := Push(t.Context(), ref, img, PushOptions{
		Chunk: 8000, Retry: time.Millisecond, Retried: func(error) { retries++ },
		Progress: func(l v1.Hash, done, _ int64) { last[l] = done },
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil || validate.Image(got) != nil {
		t.Fatalf("pull: %v, %v", err, validate.Image(got))
	}
	if retries == 0 {
		t.Error("nothing was retried: the test broke no link")
	}
	if sent, limit := f.bytes.Load(), int64(215_000); sent > limit {
		t.Errorf("%d bytes arrived for an image of 200000, want less than %d", sent, limit)
	}
	before := f.bytes.Load()
	if err := Push(t.Context(), parseRef(t, at+"/other:1"), img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.bytes.Load() != before {
		t.Errorf("%d bytes sent for what the registry has, want none", f.bytes.Load()-before)
	}
	for l, done := range last {
		if done < 100_000 {
			t.Errorf("layer %s: the last progress was %d", l, done)
		}
	}
}

func TestPushIsRefused(t *testing.T) {
	for name, status := range map[string]int{"forbidden": http.StatusForbidden, "full": http.StatusInsufficientStorage} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				switch {
				case req.URL.Path == "/v2/":
				case req.Method == http.MethodHead:
					w.WriteHeader(http.StatusNotFound)
				default:
					asked++
					w.WriteHeader(status)
				}
			}))
			defer srv.Close()
			err := Push(t.Context(), parseRef(t, strings.TrimPrefix(srv.URL, "http://")+"/a:1"), randomImage(t, 10), PushOptions{Retry: time.Millisecond})
			if err == nil || asked != 1 {
				t.Errorf("%v after %d requests, want an error after one", err, asked)
			}
		})
	}
}
