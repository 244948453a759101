package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/packaging/oci"
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

func TestPullGivesTheImage(t *testing.T) {
	w := newWorld(t)
	digest := w.push("apps/web:1", imageOf(t, files(t, "a", "one"), files(t, "b", "two!")))
	img := w.mustPull("apps/web:1")
	want := Image{
		Name: w.ref("apps/web:1"), Digest: digest, RepoDigest: w.ref("apps/web") + "@" + digest,
		SizeBytes: 7, Fetched: true, FetchedBytes: img.FetchedBytes, ID: img.ID, Config: img.Config, layers: img.layers,
	}
	if diff := cmp.Diff(want, img, cmp.AllowUnexported(Image{})); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/run"}, img.Config.Config.Cmd); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	again := w.mustPull("apps/web:1")
	if again.Fetched || again.Digest != digest {
		t.Errorf("second pull: fetched %v, digest %s", again.Fetched, again.Digest)
	}
	listed := w.store.Images()
	if len(listed) != 1 || !cmp.Equal(listed[0].Names, []string{w.ref("apps/web") + "@" + digest, w.ref("apps/web:1")}) {
		t.Errorf("listed %+v", listed)
	}
	w.open() // a restarted agent knows it still
	if got := w.store.Images(); len(got) != 1 {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestPolicies(t *testing.T) {
	w := newWorld(t)
	old := w.push("web:1", imageOf(t, files(t, "a", "old")))
	w.mustPull("web:1")
	now := w.push("web:1", imageOf(t, files(t, "a", "new")))
	pull := func(ref string, p corev1.PullPolicy) string {
		t.Helper()
		img, err := w.store.Pull(t.Context(), w.ref(ref), p, Credentials{})
		if err != nil {
			return Reason(err)
		}
		return img.Digest
	}
	if got := pull("web:1", corev1.PullIfNotPresent); got != old {
		t.Errorf("IfNotPresent: %s, want %s", got, old)
	}
	if got := pull("web:1", corev1.PullNever); got != old {
		t.Errorf("Never, present: %s, want %s", got, old)
	}
	if got := pull("web:2", corev1.PullNever); got != "ErrImageNeverPull" {
		t.Errorf("Never, absent: %s", got)
	}
	if got := pull("web:1", corev1.PullAlways); got != now {
		t.Errorf("Always: %s, want %s", got, now)
	}
	if got := pull("web:2", corev1.PullAlways); got != "ErrImagePull" {
		t.Errorf("Always, nowhere: %s", got)
	}
	if got := pull("web@"+old, corev1.PullAlways); got != old {
		t.Errorf("by digest: %s, want %s", got, old)
	}
	if got := pull("WEB:1", corev1.PullAlways); got != "InvalidImageName" {
		t.Errorf("capitals: %s", got)
	}
}

// TestCutOffNodeStartsWhatItHas takes the registry away: Always must not keep a node from starting its work.
func TestCutOffNodeStartsWhatItHas(t *testing.T) {
	w := newWorld(t)
	digest := w.push("web:1", imageOf(t, files(t, "a", "x")))
	w.mustPull("web:1")
	w.srv.Close()
	img := w.mustPull("web:1")
	if !img.Stale || img.Digest != digest {
		t.Errorf("stale %v, digest %s, want the image that is here", img.Stale, img.Digest)
	}
	if _, err := w.pull("other:1"); !errors.Is(err, ErrUnavailable) || Reason(err) != "RegistryUnavailable" {
		t.Errorf("an image that is not here: %v, want %v", err, ErrUnavailable)
	}
}

func TestRegistryRefuses(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t, files(t, "a", "x")))
	if _, err := w.pull("web:2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v, want %v", err, ErrNotFound)
	}
	w.setBroken(func(rw http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		user, password, _ := req.BasicAuth()
		if user == "me" && password == "secret" {
			return false
		}
		registry.Challenge(rw, "test", "log in")
		return true
	})
	if _, err := w.pull("web:1"); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("no credentials: %v, want %v", err, ErrUnauthorized)
	}
	if _, err := w.store.Pull(t.Context(), w.ref("web:1"), corev1.PullAlways, Credentials{Username: "me", Password: "secret"}); err != nil {
		t.Errorf("right credentials: %v", err)
	}
}

func TestCutLinkGoesOnFromTheByte(t *testing.T) {
	w := newWorld(t)
	l := files(t, "big", noise(1_000_000))
	size, err := l.Size()
	if err != nil {
		t.Fatal(err)
	}
	w.push("big:1", imageOf(t, l))
	w.setBroken(cutting(300_000))
	w.mustPull("big:1")
	var ranges []string
	for _, b := range w.blobs[1:] { // the first is the configuration
		ranges = append(ranges, strings.TrimSpace(b[6:]))
	}
	want := []string{"", "bytes=300000-", "bytes=600000-", "bytes=900000-"}
	if diff := cmp.Diff(want, ranges); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
	if extra := w.sent - size; extra < 0 || extra > 2000 { // the configuration went over the link too
		t.Errorf("%d bytes went over the link for a layer of %d", w.sent, size)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "images/parts")); err != nil || len(left) != 0 {
		t.Errorf("parts left: %v, %v", left, err)
	}
}

// TestStoppedPullGoesOn stops an agent in the middle of a layer, and starts another: after a boot only what was synced
// counts, else every byte.
func TestStoppedPullGoesOn(t *testing.T) {
	for name, tt := range map[string]struct {
		boot bool
		want string
	}{
		"restart of the agent": {false, "bytes=20000000-"},
		"power cut":            {true, fmt.Sprintf("bytes=%d-", syncEvery)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.push("big:1", imageOf(t, files(t, "big", noise(24<<20))))
			ctx, cancel := context.WithCancel(t.Context())
			w.setBroken(func(rw http.ResponseWriter, req *http.Request, next http.Handler) bool {
				if !largeBlob(req) {
					return false
				}
				rw = &stall{ResponseWriter: rw, left: 20_000_000, stalled: func() { waitForSize(t, w, 20_000_000); cancel() }, until: req.Context().Done()}
				next.ServeHTTP(rw, req)
				return true
			})
			if _, err := w.store.Pull(ctx, w.ref("big:1"), corev1.PullAlways, Credentials{}); !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped pull: %v", err)
			}
			w.setBroken(nil)
			w.blobs = nil
			if tt.boot {
				if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
					t.Fatal(err)
				}
			}
			w.open()
			w.mustPull("big:1")
			if got := w.blobs[len(w.blobs)-1][6:]; strings.TrimSpace(got) != tt.want {
				t.Errorf("went on with %q, want %q", got, tt.want)
			}
		})
	}
}

// stall lets left bytes through and then brings nothing.
type stall struct {
	http.ResponseWriter
	left    int
	stalled func()
	until   <-chan struct{}
}

func (s *stall) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p[:min(len(p), s.left)])
	if s.left -= n; s.left > 0 || err != nil {
		return n, err
	}
	if f, ok := s.ResponseWriter.(*counted).ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	s.stalled()
	<-s.until
	return n, http.ErrAbortHandler
}

// waitForSize waits until the only part has the size.
func waitForSize(t *testing.T, w *world, size int64) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join(w.dir, "images/parts"))
		if err != nil || len(entries) != 1 {
			continue
		}
		if info, err := entries[0].Info(); err == nil && info.Size() == size {
			return
		}
	}
	t.Errorf("the part never had %d bytes", size)
}

func TestServerWithoutRanges(t *testing.T) {
	w := newWorld(t)
	w.push("big:1", imageOf(t, files(t, "big", noise(100_000))))
	first := true
	w.setBroken(func(rw http.ResponseWriter, req *http.Request, next http.Handler) bool {
		if !largeBlob(req) {
			return false
		}
		req.Header.Del("Range")
		limit := 1 << 30
		if first && len(w.blobs) > 1 {
			limit, first = 50_000, false
		}
		next.ServeHTTP(&cut{ResponseWriter: rw, left: limit}, req)
		return true
	})
	w.mustPull("big:1")
}

func TestWrongContentIsRefused(t *testing.T) {
	tests := map[string]func(rw http.ResponseWriter, req *http.Request, next http.Handler){
		"other bytes": func(rw http.ResponseWriter, req *http.Request, next http.Handler) {
			next.ServeHTTP(flip{rw}, req)
		},
		"more bytes": func(rw http.ResponseWriter, req *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, req)
			_, _ = rw.Write(append(rec.Body.Bytes(), "more"...))
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.push("web:1", imageOf(t, files(t, "a", noise(10_000))))
			seen := 0
			w.setBroken(func(rw http.ResponseWriter, req *http.Request, next http.Handler) bool {
				if seen++; !largeBlob(req) || seen < 4 { // ping, manifest, configuration
					return false
				}
				spoil(rw, req, next)
				return true
			})
			if _, err := w.pull("web:1"); !errors.Is(err, ErrCorrupt) || Reason(err) != "ErrImagePull" {
				t.Errorf("%v, want %v", err, ErrCorrupt)
			}
			if left := w.leftovers(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			w.setBroken(nil)
			w.mustPull("web:1") // and nothing of it is remembered
		})
	}
}

type flip struct{ http.ResponseWriter }

func (f flip) Write(p []byte) (int, error) {
	spoilt := bytes.Clone(p)
	spoilt[len(spoilt)-1] ^= 1
	return f.ResponseWriter.Write(spoilt)
}

func TestSpoiltPartIsFetchedAnew(t *testing.T) {
	w := newWorld(t)
	l := files(t, "a", noise(10_000))
	w.push("web:1", imageOf(t, l))
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	part, marker := w.store.partPath(d), filepath.Join(w.dir, "run/pulls", d.Hex)
	if err := errors.Join(os.WriteFile(part, make([]byte, 5000), 0o600), os.WriteFile(marker, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	w.mustPull("web:1")
}

func TestHostileLayer(t *testing.T) {
	w := newWorld(t)
	w.push("evil:1", imageOf(t, files(t, "../../../evil", "x")))
	if _, err := w.pull("evil:1"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("%v, want %v", err, ErrCorrupt)
	}
	if left := w.leftovers(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBombIsStopped(t *testing.T) {
	w := newWorld(t)
	w.store.opts.Limits = oci.Limits{Bytes: 1000}
	w.push("bomb:1", imageOf(t, files(t, "a", strings.Repeat("x", 2000))))
	if _, err := w.pull("bomb:1"); !errors.Is(err, oci.ErrTooLarge) {
		t.Errorf("%v, want %v", err, oci.ErrTooLarge)
	}
	if left := w.leftovers(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestConcurrentPullsShare(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t, files(t, "a", noise(200_000)), files(t, "b", noise(100_000))))
	w.push("web:2", imageOf(t, files(t, "a", noise(200_000)), files(t, "c", noise(1000))))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := w.pull(fmt.Sprintf("web:%d", i%2+1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if limit := int64(330_000); w.sent > limit {
		t.Errorf("%d bytes went over the link, want less than %d: each layer once", w.sent, limit)
	}
}

// TestGivingUpLeavesOthersAlone cancels one of two pulls of the same layer: the other gets it.
func TestGivingUpLeavesOthersAlone(t *testing.T) {
	w := newWorld(t)
	l := files(t, "a", noise(100_000))
	w.push("web:1", imageOf(t, l))
	digest, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	asked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.setBroken(func(_ http.ResponseWriter, req *http.Request, _ http.Handler) bool {
		if largeBlob(req) && strings.HasSuffix(req.URL.Path, digest.Hex) {
			once.Do(func() { close(asked) })
			<-release
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1) // one result
	go func() {
		_, err := w.store.Pull(ctx, w.ref("web:1"), corev1.PullAlways, Credentials{})
		first <- err
	}()
	<-asked
	second := make(chan error, 1) // one result
	go func() {
		_, err := w.pull("web:1")
		second <- err
	}()
	for deadline := time.Now().Add(30 * time.Second); waiters(w.store) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the second pull never joined the first")
		}
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled pull: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("other pull: %v", err)
	}
}

func waiters(s *Store) int {
	s.layers.mu.Lock()
	defer s.layers.mu.Unlock()
	n := 0
	for _, f := range s.layers.now {
		n += f.waiters
	}
	return n
}

func TestPlatforms(t *testing.T) {
	w := newWorld(t)
	arm := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	riscv := v1.Platform{OS: "linux", Architecture: "riscv64"}
	mine := w.store.opts.Platform
	index := func(platforms ...v1.Platform) v1.ImageIndex {
		var adds []mutate.IndexAddendum
		for _, p := range platforms {
			img := withPlatform(t, imageOf(t, files(t, "arch", p.String())), p)
			adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
		}
		return mutate.AppendManifests(empty.Index, adds...)
	}
	push := func(ref string, i v1.ImageIndex) {
		tag, err := name.ParseReference(w.ref(ref))
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(tag, i); err != nil {
			t.Fatal(err)
		}
	}
	push("multi:1", index(arm, mine, riscv))
	img := w.mustPull("multi:1")
	if img.Config.Architecture != mine.Architecture {
		t.Errorf("architecture %s, want %s", img.Config.Architecture, mine.Architecture)
	}
	push("foreign:1", index(arm, riscv))
	_, err := w.pull("foreign:1")
	want := "no image for linux/" + mine.Architecture + ", has: linux/arm/v6, linux/riscv64"
	if !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	w.push("single:1", withPlatform(t, imageOf(t, files(t, "a", "x")), riscv))
	if _, err := w.pull("single:1"); !errors.Is(err, ErrNoPlatform) || !strings.Contains(err.Error(), "has: linux/riscv64") {
		t.Errorf("%v, want %v", err, ErrNoPlatform)
	}
}

func TestVariantFits(t *testing.T) {
	tests := []struct {
		has, want string
		ok        bool
	}{
		{"linux/arm64", "linux/arm64", true}, {"linux/arm64/v8", "linux/arm64", true}, {"linux/arm/v6", "linux/arm/v7", true},
		{"linux/arm/v7", "linux/arm/v6", false}, {"linux/arm", "linux/arm/v7", true}, {"linux/amd64/v3", "linux/amd64", false},
		{"linux/amd64", "linux/amd64/v3", true}, {"windows/amd64", "linux/amd64", false},
	}
	for _, tt := range tests {
		has, err1 := v1.ParsePlatform(tt.has)
		want, err2 := v1.ParsePlatform(tt.want)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if got := fits(*has, *want) > 0; got != tt.ok {
			t.Errorf("%s on %s: %v, want %v", tt.has, tt.want, got, tt.ok)
		}
	}
}

// TestCrashAnywhere clones the disk at each step of a pull, as if the power went there, and opens every clone: the
// image is there and complete or not there, and another pull makes it good.
func TestCrashAnywhere(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t, files(t, "a", "one"), files(t, "b/c", "two")))
	old := w.mustPull("web:1")
	now := w.push("web:1", imageOf(t, files(t, "a", "one"), files(t, "b/d", "three"), files(t, "e", "four")))
	var clones []string
	var mu sync.Mutex
	w.store.step = func(point string) {
		mu.Lock()
		defer mu.Unlock()
		clone := filepath.Join(t.TempDir(), "state")
		if out, err := exec.CommandContext(t.Context(), "cp", "-a", w.dir, clone).CombinedOutput(); err != nil {
			t.Errorf("clone at %s: %v %s", point, err, out)
		}
		clones = append(clones, clone)
	}
	w.mustPull("web:1")
	if len(clones) < 7 { // three steps for each of two layers, and the record
		t.Fatalf("%d steps, want 7 or more", len(clones))
	}
	for _, clone := range clones {
		w.dir = clone
		w.open()
		here, err := w.store.Pull(t.Context(), w.ref("web:1"), corev1.PullNever, Credentials{})
		if err != nil || here.Digest != old.Digest && here.Digest != now {
			t.Errorf("after a crash: %s, %v, want the old image or the new one", here.Digest, err)
		}
		if got := w.mustPull("web:1"); got.Digest != now {
			t.Errorf("after the next pull: %s, want %s", got.Digest, now)
		}
		checkContent(t, w, "web:1", map[string]string{"a": "one", "b/d": "three", "e": "four"})
	}
}

func checkContent(t *testing.T, w *world, ref string, want map[string]string) {
	t.Helper()
	img := w.mustPull(ref)
	got := map[string]string{}
	for _, id := range img.layers {
		root := filepath.Join(w.store.layerPath(id), "fs")
		for name := range want {
			if data, err := os.ReadFile(filepath.Join(root, name)); err == nil {
				got[name] = string(data)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
}

func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	for name, size := range map[string]int{"while fetching": 3 << 20, "while unpacking": 1200 << 10} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.dir = smallDisk(t, "2m")
			w.open()
			w.push("big:1", imageOf(t, files(t, "big", noise(size))))
			_, err := w.pull("big:1")
			if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "no space") {
				t.Fatalf("%v, want %v", err, ErrNoSpace)
			}
			if left := w.leftovers(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
			w.push("small:1", imageOf(t, files(t, "a", "x")))
			w.mustPull("small:1")
		})
	}
}
