package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"

	"skerry.dev/skerry/packaging/registry"
)

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

// TestOwnWayToARegistry pulls from a registry that no network leads to, as nodes do over their one connection.
func TestOwnWayToARegistry(t *testing.T) {
	w := newWorld(t)
	digest := w.push("web:1", imageOf(t, files(t, "a", noise(1000))))
	w.store.opts.Transports = map[string]http.RoundTripper{api.RegistryHost: overStream{w.srv.Listener.Addr().String()}}
	img, err := w.store.Pull(t.Context(), api.RegistryHost+"/web:1", corev1.PullAlways, Credentials{})
	if err != nil {
		t.Fatal(err)
	}
	if img.RepoDigest != api.RegistryHost+"/web@"+digest {
		t.Errorf("image %s, want the registry's name in it", img.RepoDigest)
	}
}

// overStream refuses what does not look like http to the registry's own name.
type overStream struct{ to string }

func (o overStream) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "http" || req.URL.Host != api.RegistryHost {
		return nil, fmt.Errorf("unexpected request to %s", req.URL)
	}
	req = req.Clone(req.Context())
	req.URL.Host = o.to
	return http.DefaultTransport.RoundTrip(req)
}
