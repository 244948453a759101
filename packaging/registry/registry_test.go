package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/packaging/registry"
)

// serve starts a registry on a loopback port.
func serve(t *testing.T, o registry.Options) (*registry.Registry, *httptest.Server) {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.ReserveBytes = -1
	return serveExactly(t, o)
}

func serveExactly(t *testing.T, o registry.Options) (*registry.Registry, *httptest.Server) {
	t.Helper()
	r, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(r)
	t.Cleanup(func() {
		srv.Close()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, srv
}

func host(srv *httptest.Server) string { return strings.TrimPrefix(srv.URL, "http://") }

func pushRandom(t *testing.T, srv *httptest.Server, ref string) v1.Image {
	t.Helper()
	img, err := random.Image(4096, 3)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(host(srv) + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img, remote.WithContext(t.Context())); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return img
}

// answer is what the tests look at of a response.
type answer struct {
	status int
	header http.Header
	body   string
}

func do(t *testing.T, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close() // read to its end below
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(data)}
}

func (a answer) code(t *testing.T) string {
	t.Helper()
	var b struct{ Errors []struct{ Code string } }
	if err := json.Unmarshal([]byte(a.body), &b); err != nil || len(b.Errors) != 1 {
		t.Fatalf("error answer %q: want one error in JSON (%v)", a.body, err)
	}
	return b.Errors[0].Code
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestImageComesBackAsPushed(t *testing.T) {
	dir := t.TempDir()
	_, first := serve(t, registry.Options{Dir: dir})
	img := pushRandom(t, first, "apps/web:1")
	first.Close()

	_, srv := serve(t, registry.Options{Dir: dir}) // a restart
	tag, err := name.NewTag(host(srv) + "/apps/web:1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(tag, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := digestString(t, got), digestString(t, img); a != b {
		t.Fatalf("pulled %s, pushed %s", a, b)
	}
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil { // verifies the digest
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func digestString(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestRefusals(t *testing.T) {
	_, srv := serve(t, registry.Options{MaxBlobBytes: 64})
	absent := digestOf([]byte("absent"))
	missingLayer := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":1},"layers":[]}`, absent)
	huge := `{"schemaVersion":2,"x":"` + strings.Repeat("x", registry.MaxManifestBytes) + `"}`
	const image = "application/vnd.oci.image.manifest.v1+json"
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown path", "GET", "/v2/a/b", "", 404, "UNSUPPORTED"},
		{"not below v2", "GET", "/v1/", "", 404, "UNSUPPORTED"},
		{"capital name", "GET", "/v2/A/tags/list", "", 400, "NAME_INVALID"},
		{"climbing name", "GET", "/v2/..%2f..%2fetc/tags/list", "", 400, "NAME_INVALID"},
		{"reserved name", "GET", "/v2/_layers/tags/list", "", 400, "NAME_INVALID"},
		{"unknown repository", "GET", "/v2/a/tags/list", "", 404, "NAME_UNKNOWN"},
		{"bad page size", "GET", "/v2/_catalog?n=x", "", 400, "UNSUPPORTED"},
		{"bad digest", "GET", "/v2/a/blobs/sha256:zz", "", 400, "DIGEST_INVALID"},
		{"unknown algorithm", "GET", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", "", 400, "DIGEST_INVALID"},
		{"unknown blob", "GET", "/v2/a/blobs/" + absent, "", 404, "BLOB_UNKNOWN"},
		{"delete unknown blob", "DELETE", "/v2/a/blobs/" + absent, "", 404, "BLOB_UNKNOWN"},
		{"unknown tag", "GET", "/v2/a/manifests/1", "", 404, "MANIFEST_UNKNOWN"},
		{"bad tag", "GET", "/v2/a/manifests/-1", "", 400, "MANIFEST_INVALID"},
		{"unknown manifest", "GET", "/v2/a/manifests/" + absent, "", 404, "MANIFEST_UNKNOWN"},
		{"delete unknown manifest", "DELETE", "/v2/a/manifests/" + absent, "", 404, "MANIFEST_UNKNOWN"},
		{"manifest not JSON", "PUT", "/v2/a/manifests/1", "nope", 400, "MANIFEST_INVALID"},
		{"manifest of schema 1", "PUT", "/v2/a/manifests/1", `{"schemaVersion":1}`, 400, "MANIFEST_INVALID"},
		{"manifest of another type", "PUT", "/v2/a/manifests/1", `{"schemaVersion":2,"mediaType":"x/y"}`, 400, "MANIFEST_INVALID"},
		{"manifest with a bad digest", "PUT", "/v2/a/manifests/1", `{"schemaVersion":2,"layers":[{"digest":"../../x"}]}`, 400, "MANIFEST_INVALID"},
		{"manifest before its blobs", "PUT", "/v2/a/manifests/1", missingLayer, 404, "MANIFEST_BLOB_UNKNOWN"},
		{"manifest of another digest", "PUT", "/v2/a/manifests/" + absent, `{"schemaVersion":2}`, 400, "DIGEST_INVALID"},
		{"manifest too large", "PUT", "/v2/a/manifests/1", huge, 413, "SIZE_INVALID"},
		{"unknown upload", "PATCH", "/v2/a/blobs/uploads/" + strings.Repeat("a", 26), "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"climbing upload", "PATCH", "/v2/a/blobs/uploads/..", "x", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"wrong digest", "POST", "/v2/a/blobs/uploads/?digest=" + absent, "present", 400, "DIGEST_INVALID"},
		{"blob too large", "POST", "/v2/a/blobs/uploads/?digest=" + absent, strings.Repeat("x", 65), 413, "SIZE_INVALID"},
		{"method", "PATCH", "/v2/a/manifests/1", "", 405, "UNSUPPORTED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := do(t, tt.method, srv.URL+tt.path, strings.NewReader(tt.body), "Content-Type", image)
			if got.status != tt.status || got.code(t) != tt.code {
				t.Errorf("%d %s, want %d %s", got.status, got.body, tt.status, tt.code)
			}
		})
	}
}

func TestReadOnlyRefusesChanges(t *testing.T) {
	_, srv := serve(t, registry.Options{ReadOnly: true})
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		if got := do(t, method, srv.URL+"/v2/a/blobs/uploads/", nil); got.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d, want 405", method, got.status)
		}
	}
	if got := do(t, "GET", srv.URL+"/v2/", nil); got.status != http.StatusOK {
		t.Errorf("GET: %d, want 200", got.status)
	}
}

func TestChunkedUploadGoesOnAfterARestart(t *testing.T) {
	dir := t.TempDir()
	_, first := serve(t, registry.Options{Dir: dir})
	blob := bytes.Repeat([]byte("0123456789"), 1000)
	begun := do(t, "POST", first.URL+"/v2/a/blobs/uploads/", nil)
	location := begun.header.Get("Location")
	if got := do(t, "PATCH", first.URL+location, bytes.NewReader(blob[:4000]), "Content-Range", "0-3999"); got.status != http.StatusAccepted {
		t.Fatalf("first chunk: %d %s", got.status, got.body)
	}
	first.Close()

	_, srv := serve(t, registry.Options{Dir: dir})
	status := do(t, "GET", srv.URL+location, nil)
	if status.status != http.StatusNoContent || status.header.Get("Range") != "0-3999" {
		t.Fatalf("status: %d, Range %q, want 204 and 0-3999", status.status, status.header.Get("Range"))
	}
	again := do(t, "PATCH", srv.URL+location, bytes.NewReader(blob[:10]), "Content-Range", "0-9")
	if again.status != http.StatusRequestedRangeNotSatisfiable || again.header.Get("Range") != "0-3999" {
		t.Fatalf("repeated chunk: %d, Range %q, want 416 and 0-3999", again.status, again.header.Get("Range"))
	}
	done := do(t, "PUT", srv.URL+location+"?digest="+digestOf(blob), bytes.NewReader(blob[4000:]))
	if done.status != http.StatusCreated {
		t.Fatalf("last chunk: %d %s", done.status, done.body)
	}
	part := do(t, "GET", srv.URL+done.header.Get("Location"), nil, "Range", "bytes=9990-")
	if part.status != http.StatusPartialContent || part.body != "0123456789" {
		t.Errorf("range: %d %q, want 206 and the last ten bytes", part.status, part.body)
	}
}

// TestBrokenChunkIsKept cuts the connection in the middle of a chunk: what arrived counts.
func TestBrokenChunkIsKept(t *testing.T) {
	_, srv := serve(t, registry.Options{})
	location := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/", nil).header.Get("Location")
	conn := dial(t, srv)
	if _, err := fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", location); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the four bytes count", func() bool {
		return do(t, "GET", srv.URL+location, nil).header.Get("Range") == "0-3"
	})
}

// TestNewRequestTakesOverUpload leaves a request hanging on a dead link; its client comes back and goes on at once.
func TestNewRequestTakesOverUpload(t *testing.T) {
	_, srv := serve(t, registry.Options{})
	blob := []byte("halfwhole")
	location := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/", nil).header.Get("Location")
	conn := dial(t, srv)
	if _, err := fmt.Fprintf(conn, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf", location); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the four bytes count", func() bool {
		return do(t, "GET", srv.URL+location, nil).header.Get("Range") == "0-3"
	})
	done := do(t, "PUT", srv.URL+location+"?digest="+digestOf(blob), strings.NewReader("whole"))
	if done.status != http.StatusCreated {
		t.Fatalf("%d %s, want 201", done.status, done.body)
	}
}

func dial(t *testing.T, srv *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestListsComeInPages(t *testing.T) {
	_, srv := serve(t, registry.Options{})
	for i := range 5 {
		pushRandom(t, srv, fmt.Sprintf("web:%d", i))
		pushRandom(t, srv, fmt.Sprintf("app/%d:x", i))
	}
	tests := []struct {
		path, key string
		want      []string
	}{
		{"/v2/web/tags/list?n=2", "tags", []string{"0", "1", "2", "3", "4"}},
		{"/v2/_catalog?n=4", "repositories", []string{"app/0", "app/1", "app/2", "app/3", "app/4", "web"}},
		{"/v2/_catalog?n=0", "repositories", nil},
		{"/v2/_catalog?last=app/30", "repositories", []string{"app/4", "web"}},
	}
	for _, tt := range tests {
		var got []string
		for next := tt.path; next != ""; {
			page := do(t, "GET", srv.URL+next, nil)
			var list map[string]json.RawMessage
			var names []string
			if err := errors.Join(json.Unmarshal([]byte(page.body), &list), json.Unmarshal(list[tt.key], &names)); err != nil {
				t.Fatalf("%s: %s: %v", next, page.body, err)
			}
			got = append(got, names...)
			next = strings.TrimSuffix(strings.TrimPrefix(page.header.Get("Link"), "<"), `>; rel="next"`)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.path, diff)
		}
	}
}

func TestDeletedImageIsCollected(t *testing.T) {
	dir := t.TempDir()
	r, srv := serve(t, registry.Options{Dir: dir, Grace: time.Hour})
	keep := pushRandom(t, srv, "web:keep")
	gone := pushRandom(t, srv, "web:gone")
	if got := do(t, "DELETE", srv.URL+"/v2/web/manifests/"+digestString(t, gone), nil); got.status != http.StatusAccepted {
		t.Fatalf("delete: %d %s", got.status, got.body)
	}
	if got := do(t, "GET", srv.URL+"/v2/web/manifests/gone", nil); got.status != http.StatusNotFound {
		t.Fatalf("tag after delete: %d, want 404", got.status)
	}
	fresh, err := r.Collect(t.Context(), time.Now())
	if err != nil || fresh != (registry.Collected{}) {
		t.Fatalf("within the grace: %+v, %v, want nothing", fresh, err)
	}
	later, err := r.Collect(t.Context(), time.Now().Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if later.Blobs != 5 || later.Links != 4 { // manifest, config, three layers
		t.Errorf("collected %+v, want 5 blobs and 4 links", later)
	}
	if n := countBlobs(t, dir); n != 5 {
		t.Errorf("%d blobs left, want the 5 of the other image", n)
	}
	if got := do(t, "GET", srv.URL+"/v2/web/manifests/keep", nil); got.header.Get("Docker-Content-Digest") != digestString(t, keep) {
		t.Errorf("the other image: %d %s", got.status, got.body)
	}
}

func countBlobs(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestPushAfterLookIsSafeFromCollection looks at an old blob as pushes do, and then collects: the look must keep it.
func TestPushAfterLookIsSafeFromCollection(t *testing.T) {
	r, srv := serve(t, registry.Options{Grace: time.Hour})
	blob := []byte("config")
	location := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/?digest="+digestOf(blob), bytes.NewReader(blob)).header.Get("Location")
	if got := do(t, "HEAD", srv.URL+location, nil); got.status != http.StatusOK {
		t.Fatalf("head: %d", got.status)
	}
	if _, err := r.Collect(t.Context(), time.Now().Add(59*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := do(t, "HEAD", srv.URL+location, nil); got.status != http.StatusOK {
		t.Fatalf("within the grace: %d, want 200", got.status)
	}
	got, err := r.Collect(t.Context(), time.Now().Add(2*time.Hour))
	if err != nil || got.Blobs != 1 || got.Links != 1 {
		t.Fatalf("after the grace: %+v, %v, want one blob and one link", got, err)
	}
	if got := do(t, "HEAD", srv.URL+location, nil); got.status != http.StatusNotFound {
		t.Fatalf("after the grace: %d, want 404", got.status)
	}
}

func TestUntaggedManifestsGoWhenAskedTo(t *testing.T) {
	r, srv := serve(t, registry.Options{Grace: time.Hour, KeepUntagged: time.Hour})
	old := pushRandom(t, srv, "web:1")
	now := pushRandom(t, srv, "web:1")
	got, err := r.Collect(t.Context(), time.Now().Add(2*time.Hour))
	if err != nil || got.Manifests != 1 {
		t.Fatalf("%+v, %v, want one manifest", got, err)
	}
	if a := do(t, "GET", srv.URL+"/v2/web/manifests/"+digestString(t, old), nil); a.status != http.StatusNotFound {
		t.Errorf("untagged: %d, want 404", a.status)
	}
	if a := do(t, "GET", srv.URL+"/v2/web/manifests/"+digestString(t, now), nil); a.status != http.StatusOK {
		t.Errorf("tagged: %d, want 200", a.status)
	}
}

func TestIdleUploadsAreDropped(t *testing.T) {
	r, srv := serve(t, registry.Options{Grace: time.Hour})
	empty := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/", nil).header.Get("Location")
	begun := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/", nil).header.Get("Location")
	do(t, "PATCH", srv.URL+begun, strings.NewReader("x"))
	if got, err := r.Collect(t.Context(), time.Now().Add(2*time.Hour)); err != nil || got.Uploads != 2 {
		t.Fatalf("%+v, %v, want two uploads", got, err)
	}
	for _, l := range []string{empty, begun} {
		if a := do(t, "GET", srv.URL+l, nil); a.status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", l, a.status)
		}
	}
}

// TestFullDisk pushes into a file system that is too small: the answer says so, nothing half is seen, and the space
// is given back.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small file system: run the tests as root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, reserve := range []int64{-1, 512 << 10} {
		_, srv := serveExactly(t, registry.Options{Dir: dir, ReserveBytes: reserve})
		blob := bytes.Repeat([]byte("x"), 3<<20)
		got := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/?digest="+digestOf(blob), bytes.NewReader(blob))
		if got.status != http.StatusInsufficientStorage || got.code(t) != "STORAGE_FULL" {
			t.Errorf("reserve %d: %d %s, want 507 STORAGE_FULL", reserve, got.status, got.body)
		}
		small := []byte("small")
		if got := do(t, "POST", srv.URL+"/v2/a/blobs/uploads/?digest="+digestOf(small), bytes.NewReader(small)); got.status != http.StatusCreated {
			t.Errorf("reserve %d: afterwards %d %s, want 201", reserve, got.status, got.body)
		}
		if uploads, err := os.ReadDir(filepath.Join(dir, "uploads")); err != nil || len(uploads) != 0 {
			t.Errorf("reserve %d: %v left in uploads (%v), want nothing", reserve, uploads, err)
		}
	}
}

func TestChallenge(t *testing.T) {
	w := httptest.NewRecorder()
	registry.Challenge(w, "skerry", "log in")
	if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != `Basic realm="skerry"` {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if !strings.Contains(w.Body.String(), "UNAUTHORIZED") {
		t.Errorf("body %s", w.Body)
	}
}

func FuzzParsePath(f *testing.F) {
	r, err := registry.New(registry.Options{Dir: f.TempDir(), ReadOnly: true})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"a/tags/list", "a/blobs/uploads/", "../../etc/manifests/x", "a/_layers/manifests/latest", "a/blobs/sha256:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.URL.Path = "/v2/" + path
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code >= 500 {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}
