package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/packaging/oci"
)

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
		{"linux/arm64", "linux/arm64", true},
		{"linux/arm64/v8", "linux/arm64", true},
		{"linux/arm/v6", "linux/arm/v7", true},
		{"linux/arm/v7", "linux/arm/v6", false},
		{"linux/arm", "linux/arm/v7", true},
		{"linux/amd64/v3", "linux/amd64", false},
		{"linux/amd64", "linux/amd64/v3", true},
		{"windows/amd64", "linux/amd64", false},
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
		clones = append(clones, w.clone(point))
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

// clone copies the store as a crash would leave it. Another layer may be on its way meanwhile, whose files come and go: then it is copied again.
func (w *world) clone(point string) string {
	var out []byte
	var err error
	for range 20 {
		clone := filepath.Join(w.t.TempDir(), "state")
		if out, err = exec.CommandContext(w.t.Context(), "cp", "-a", w.dir, clone).CombinedOutput(); err == nil {
			return clone
		}
	}
	w.t.Errorf("clone at %s: %v %s", point, err, out)
	return ""
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
