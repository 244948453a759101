package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/packaging/registry"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to set owners and to mount: run the tests as root")
	}
}

// world is a registry whose link can be broken, and a store that pulls from it.
type world struct {
	t     *testing.T
	dir   string
	srv   *httptest.Server
	store *Store

	mu     sync.Mutex
	blobs  []string // "digest-prefix range" of each blob request
	sent   int64    // bytes of blobs
	broken func(w http.ResponseWriter, req *http.Request, next http.Handler) bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	needRoot(t)
	reg, err := registry.New(registry.Options{Dir: t.TempDir(), ReserveBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir()}
	w.srv = httptest.NewServer(w.middle(reg))
	t.Cleanup(func() {
		w.srv.Close()
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	w.open()
	return w
}

// open starts a store on the folder, as a restarted agent does.
func (w *world) open() {
	w.t.Helper()
	s, err := New(Options{Dir: w.dir, Retry: time.Millisecond, Log: slog.New(slog.NewTextHandler(w.t.Output(), nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
}

func (w *world) middle(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		w.mu.Lock()
		broken := w.broken
		isBlob := req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/sha256:")
		if isBlob {
			w.blobs = append(w.blobs, strings.TrimSpace(filepath.Base(req.URL.Path)[7:13]+" "+req.Header.Get("Range")))
			rw = &counted{ResponseWriter: rw, w: w}
		}
		w.mu.Unlock()
		if broken == nil || !broken(rw, req, next) {
			next.ServeHTTP(rw, req)
		}
	})
}

func (w *world) setBroken(f func(http.ResponseWriter, *http.Request, http.Handler) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = f
}

// counted counts what goes over the link.
type counted struct {
	http.ResponseWriter
	w *world
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.sent += int64(n)
	return n, err
}

// cutting lets limit bytes of each blob through and then cuts the connection.
func cutting(limit int) func(http.ResponseWriter, *http.Request, http.Handler) bool {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) bool {
		if !largeBlob(req) {
			return false
		}
		next.ServeHTTP(&cut{ResponseWriter: w, left: limit}, req)
		return true
	}
}

func largeBlob(req *http.Request) bool {
	return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/sha256:")
}

type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		if f, ok := c.ResponseWriter.(*counted).ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	return n, err
}

func (w *world) ref(s string) string { return strings.TrimPrefix(w.srv.URL, "http://") + "/" + s }

func (w *world) push(ref string, img v1.Image) string {
	w.t.Helper()
	tag, err := name.ParseReference(w.ref(ref))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		w.t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	return d.String()
}

func (w *world) pull(ref string) (Image, error) {
	return w.store.Pull(w.t.Context(), w.ref(ref), corev1.PullAlways, Credentials{})
}

func (w *world) mustPull(ref string) Image {
	w.t.Helper()
	img, err := w.pull(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// leftovers lists what must not stay behind after a pull that failed for good.
func (w *world) leftovers() []string {
	var out []string
	for _, dir := range []string{"images/tmp", "images/parts", "images/layers", "images/records", "images/refs", "run/pulls"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, dir))
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	return out
}

func layer(t testing.TB, write func(*tar.Writer) error) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := errors.Join(write(tw), tw.Close()); err != nil {
		t.Fatal(err)
	}
	return static.NewLayer(buf.Bytes(), types.OCIUncompressedLayer)
}

// files makes a layer of name, content pairs; a name that ends in / is a folder whose content is its mode and uid.
func files(t testing.TB, pairs ...string) v1.Layer {
	return layer(t, func(tw *tar.Writer) error {
		for i := 0; i+1 < len(pairs); i += 2 {
			h := &tar.Header{Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1])), Typeflag: tar.TypeReg}
			if strings.HasSuffix(h.Name, "/") {
				var err error
				mode, uid, _ := strings.Cut(pairs[i+1], " ")
				h.Typeflag, h.Size = tar.TypeDir, 0
				if h.Mode, err = strconv.ParseInt(mode, 8, 64); err != nil {
					return err
				}
				if h.Uid, err = strconv.Atoi(uid); err != nil {
					return err
				}
			}
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := io.WriteString(tw, pairs[i+1]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// noise is content that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails
	return string(b)
}

func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Cmd: []string{"/run"}, Env: []string{"A=b"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func withPlatform(t testing.TB, img v1.Image, p v1.Platform) v1.Image {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Variant = p.OS, p.Architecture, p.Variant
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}
