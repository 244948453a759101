package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

// mount mounts and takes care that nothing stays mounted after the test.
func (w *world) mount(id string, img Image) string {
	w.t.Helper()
	dir, err := w.store.Rootfs(w.t.Context(), id, img, Users{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := unmountAll(dir); err != nil {
			w.t.Error(err)
		}
	})
	return dir
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(parts...))
	if errors.Is(err, os.ErrNotExist) {
		return "(missing)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRootfsStacksLayers(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t,
		files(t, "./", "755 0", "a", "low", "b", "low", "d/", "755 0", "d/x", "x", "o/", "755 0", "o/old", "x"),
		files(t, "a", "high", ".wh.b", "", "d/.wh.x", "", "d/y", "y", "o/", "755 0", "o/.wh..wh..opq", "", "o/new", "n"),
	))
	dir := w.mount("c1", w.mustPull("web:1"))
	got := map[string]string{}
	for _, f := range []string{"a", "b", "d/x", "d/y", "o/old", "o/new"} {
		got[f] = read(t, dir, f)
	}
	want := map[string]string{"a": "high", "b": "(missing)", "d/x": "(missing)", "d/y": "y", "o/old": "(missing)", "o/new": "n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("content (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("root: %v, %v, want mode 755", info.Mode(), err)
	}
}

func TestRootfsLives(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t, files(t, "a", "image")))
	img := w.mustPull("web:1")
	one, two := w.mount("one", img), w.mount("two", img)
	if err := os.WriteFile(filepath.Join(one, "a"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, two, "a"); got != "image" {
		t.Errorf("another container sees %q", got)
	}
	if again := w.mount("one", img); again != one || read(t, again, "a") != "mine" {
		t.Errorf("mounted again: %s %q", again, read(t, again, "a"))
	}
	// A boot: the mount is gone, what was written is not.
	if err := w.store.Unmount("one"); err != nil {
		t.Fatal(err)
	}
	w.open()
	if got := read(t, w.mount("one", img), "a"); got != "mine" {
		t.Errorf("after a boot: %q, want %q", got, "mine")
	}
	if ids, err := w.store.List(); err != nil || !cmp.Equal(ids, []string{"one", "two"}) {
		t.Errorf("list: %v, %v", ids, err)
	}
	for range 2 { // repeating is fine
		for _, id := range []string{"one", "two"} {
			if err := w.store.RemoveRootfs(id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ids, err := w.store.List(); err != nil || len(ids) != 0 {
		t.Errorf("list after removal: %v, %v", ids, err)
	}
	for _, dir := range []string{"containers", "run/rootfs", "run/users"} {
		if left, err := os.ReadDir(filepath.Join(w.dir, dir)); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

func TestRootfsRefusesIDs(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"", ".", "..", "a/b", "../../x", strings.Repeat("x", 129)} {
		if _, err := w.store.Rootfs(t.Context(), id, Image{}, Users{}); err == nil {
			t.Errorf("Rootfs(%q): no error", id)
		}
		if err := errors.Join(w.store.Unmount(id), w.store.RemoveRootfs(id)); err == nil {
			t.Errorf("RemoveRootfs(%q): no error", id)
		}
	}
	if _, err := w.store.Rootfs(t.Context(), "c1", Image{Digest: "sha256:00"}, Users{}); !errors.Is(err, ErrNotPresent) {
		t.Errorf("an image that is not here: %v, want %v", err, ErrNotPresent)
	}
}

func TestRootfsOfManyLayers(t *testing.T) {
	w := newWorld(t)
	var layers []v1.Layer
	for i := range 130 { // more than the 64 of old overlay mounts, and more than one page of paths
		layers = append(layers, files(t, fmt.Sprintf("f%d", i), fmt.Sprint(i), "top", fmt.Sprint(i)))
	}
	w.push("deep:1", imageOf(t, layers...))
	img := w.mustPull("deep:1")
	dir := w.mount("c1", img)
	if read(t, dir, "f0") != "0" || read(t, dir, "f129") != "129" || read(t, dir, "top") != "129" {
		t.Errorf("f0 %q f129 %q top %q", read(t, dir, "f0"), read(t, dir, "f129"), read(t, dir, "top"))
	}

	// The way of older kernels.
	lower, err := w.store.lowerDirs(mountFile{Image: img.Digest, Layers: img.layers})
	if err != nil {
		t.Fatal(err)
	}
	old := overlay{lower: lower, upper: t.TempDir(), work: t.TempDir(), target: t.TempDir()}
	// Folders of one file system are wanted for the two upper ones.
	old.work = filepath.Join(filepath.Dir(old.upper), "work")
	if err := os.Mkdir(old.work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mountOld(old); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unmountAll(old.target); err != nil {
			t.Error(err)
		}
	}()
	if got := read(t, old.target, "f0"); got != "0" {
		t.Errorf("old mount: f0 %q", got)
	}
}

// TestImpliedFoldersKeepTheirOwner stacks a layer that brings a file without describing its folder, as some builders do.
func TestImpliedFoldersKeepTheirOwner(t *testing.T) {
	w := newWorld(t)
	w.push("web:1", imageOf(t,
		files(t, "home/", "755 0", "home/me/", "750 7", "home/me/a", "a", "tmp/", "1777 0"),
		files(t, "home/me/b", "b", "tmp/x", "x", "new/y", "y"),
	))
	dir := w.mount("c1", w.mustPull("web:1"))
	for name, want := range map[string]string{"home": "755 0", "home/me": "750 7", "tmp": "1777 0", "new": "755 0"} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%o %d", st.Mode&0o7777, st.Uid); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if read(t, dir, "home/me/a") != "a" || read(t, dir, "home/me/b") != "b" {
		t.Error("the files of the mended folder are gone")
	}
}

// TestImpliedFolderThroughALink must neither follow a layer's link on the host nor put a folder in its place.
func TestImpliedFolderThroughALink(t *testing.T) {
	w := newWorld(t)
	link := layer(t, func(tw *tar.Writer) error {
		return errors.Join(
			tw.WriteHeader(&tar.Header{Name: "usr/", Typeflag: tar.TypeDir, Mode: 0o711}),
			tw.WriteHeader(&tar.Header{Name: "lib", Typeflag: tar.TypeSymlink, Linkname: "/usr"}),
			tw.WriteHeader(&tar.Header{Name: "lib/sub/f", Typeflag: tar.TypeReg, Mode: 0o644}),
		)
	})
	w.push("web:1", imageOf(t, files(t, "usr/", "755 0", "lib/", "755 3", "lib/sub/", "700 3"), link))
	dir := w.mount("c1", w.mustPull("web:1"))
	if to, err := os.Readlink(filepath.Join(dir, "lib")); err != nil || to != "/usr" {
		t.Errorf("lib: %q, %v, want a link to /usr", to, err)
	}
	if got := read(t, dir, "usr/sub/f"); got != "" {
		t.Errorf("usr/sub/f: %q", got)
	}
}

func TestCollect(t *testing.T) {
	w := newWorld(t)
	shared := files(t, "shared", "s")
	w.push("a:1", imageOf(t, shared, files(t, "a", "a")))
	w.push("b:1", imageOf(t, shared, files(t, "b", "b")))
	w.push("c:1", imageOf(t, shared, files(t, "c", "c")))
	a, b, c := w.mustPull("a:1"), w.mustPull("b:1"), w.mustPull("c:1")
	w.mount("c1", b) // stands on b
	now := time.Now()

	if got, err := w.store.Collect(t.Context(), nil, Policy{HighPercent: 100}, now.Add(time.Hour)); err != nil || len(got.Images) != 0 {
		t.Fatalf("disk with room: %+v, %v, want nothing", got, err)
	}
	full := Policy{HighPercent: 1, LowPercent: 1} // any disk with something on it
	if got, err := w.store.Collect(t.Context(), nil, full, now); !errors.Is(err, ErrStillFull) || len(got.Images) != 0 {
		t.Fatalf("all just used: %+v, %v, want nothing", got, err)
	}
	got, err := w.store.Collect(t.Context(), map[string]bool{a.Digest: true}, full, now.Add(time.Hour))
	if !errors.Is(err, ErrStillFull) || !cmp.Equal(got.Images, []string{c.Digest}) || got.Layers != 1 {
		t.Fatalf("full disk: %+v, %v, want only the image that nobody needs", got, err)
	}
	if err := w.store.Remove(b.Digest, now.Add(time.Hour)); !errors.Is(err, ErrInUse) {
		t.Errorf("removing what a container stands on: %v, want %v", err, ErrInUse)
	}
	if err := errors.Join(w.store.RemoveRootfs("c1"), w.store.Remove(b.Digest, now.Add(time.Hour)), w.store.Remove(a.Digest, now.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if left := w.leftovers(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCollectAll: a node that is short has every image go that may, and no other.
func TestCollectAll(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"used:1", "pinned:1", "young:1", "idle:1"} {
		w.push(name, imageOf(t, files(t, name, name)))
	}
	used, _, idle := w.mustPull("used:1"), w.mustPull("pinned:1"), w.mustPull("idle:1")
	later := time.Now().Add(time.Hour)
	roomy := Policy{HighPercent: 100, All: true, Pinned: []string{w.ref("pinned:1"), w.ref("never-pulled:1")}}
	if got, err := w.store.Collect(t.Context(), nil, roomy, time.Now()); err != nil || len(got.Images) != 0 {
		t.Fatalf("all just used: %+v, %v", got, err)
	}
	got, err := w.store.Collect(t.Context(), map[string]bool{used.Digest: true}, roomy, later)
	if err != nil || !cmp.Equal(got.Images, []string{idle.Digest}) {
		t.Fatalf("%+v, %v, want only the idle one gone", got, err)
	}
	if _, err := w.store.Collect(t.Context(), nil, Policy{Pinned: []string{"NOT A NAME"}}, later); !errors.Is(err, ErrInvalidName) {
		t.Errorf("a name that is none: %v", err)
	}
}

func TestOldPartsGo(t *testing.T) {
	w := newWorld(t)
	part := filepath.Join(w.dir, "images/parts/00")
	if err := os.WriteFile(part, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	room := Policy{HighPercent: 100}
	for _, tt := range []struct {
		after time.Duration
		parts int
	}{{24 * time.Hour, 0}, {8 * 24 * time.Hour, 1}} {
		got, err := w.store.Collect(t.Context(), nil, room, time.Now().Add(tt.after))
		if err != nil || got.Parts != tt.parts {
			t.Errorf("after %v: %+v, %v, want %d parts", tt.after, got, err, tt.parts)
		}
	}
}

func TestCredentialsFor(t *testing.T) {
	config := `{"auths":{
		"https://index.docker.io/v1/":{"auth":"aHViOnB3"},
		"reg.example":{"username":"all","password":"1"},
		"reg.example/team":{"username":"team","password":"2"},
		"*.wild.example":{"identitytoken":"t"}}}`
	tests := []struct {
		ref  string
		want Credentials
	}{
		{"nginx", Credentials{Username: "hub", Password: "pw"}},
		{"reg.example/web:1", Credentials{Username: "all", Password: "1"}},
		{"reg.example/team/web:1", Credentials{Username: "team", Password: "2"}},
		{"reg.example/teams/web:1", Credentials{Username: "all", Password: "1"}},
		{"eu.wild.example/web", Credentials{Token: "t"}},
		{"wild.example/web", Credentials{}},
		{"other.example/web", Credentials{}},
	}
	for _, tt := range tests {
		got, err := CredentialsFor(tt.ref, []byte(`{"elsewhere.example":{"auth":"YTpi"}}`), []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.ref, got, tt.want)
		}
	}
	if _, err := CredentialsFor("nginx", []byte(`secret, not JSON`)); err == nil || strings.Contains(err.Error(), "secret, not") {
		t.Errorf("bad secret: %v, want an error that does not quote it", err)
	}
}

func FuzzCredentialsFor(f *testing.F) {
	f.Add("nginx", []byte(`{"auths":{"a":{"auth":"YTpi"}}}`))
	f.Add("a/b@sha256:00", []byte(`{"a":{"username":"x"}}`))
	f.Fuzz(func(_ *testing.T, ref string, secret []byte) {
		_, _ = CredentialsFor(ref, secret) // must not panic
	})
}

// TestRootfsOfUsers: inside a user namespace files belong to whom the image says, and what is written belongs to nobody outside.
func TestRootfsOfUsers(t *testing.T) {
	w := newWorld(t)
	img := func() Image {
		w.push("web:1", imageOf(t, files(t, "./", "755 0", "a", "low", "d/", "755 7", "d/x", "x")))
		return w.mustPull("web:1")
	}()
	const first = 1 << 20
	err := netns.Owned(unix.CLONE_NEWNET, first, 1<<16, func(path string) error {
		users := Users{Path: path, FirstID: first}
		dir, err := w.store.Rootfs(t.Context(), "c1", img, users)
		if err != nil {
			return err
		}
		if got := read(t, dir, "a"); got != "low" {
			t.Errorf("a: %q", got)
		}
		for name, want := range map[string]int{".": first, "a": first, "d": first + 7} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			if uid, _ := owner(info); uid != want {
				t.Errorf("%s belongs to %d, want %d", name, uid, want)
			}
		}
		// Copied up, a file keeps its owner.
		if err := os.Chmod(filepath.Join(dir, "d/x"), 0o600); err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(w.dir, "containers/c1/upper/d/x"))
		if err != nil {
			return err
		}
		if uid, _ := owner(info); uid != first {
			t.Errorf("copied up, x belongs to %d", uid)
		}
		if err := w.store.Unmount("c1"); err != nil {
			return err
		}
		if _, err := w.store.Rootfs(t.Context(), "c1", img, Users{}); err == nil {
			t.Error("the root file system changed its owner")
		}
		return w.store.RemoveRootfs("c1")
	})
	if err != nil {
		t.Fatal(err)
	}
}
