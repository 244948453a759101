package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to set owners and to make whiteouts: run the tests as root")
	}
}

// entry is a tar entry in few words.
type entry struct {
	name, link string
	kind       byte
	mode       int64
	uid, gid   int
	body       string
	xattrs     map[string]string
	major      int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{
			Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Gid: e.gid,
			Size: int64(len(e.body)), ModTime: time.Unix(1e9, 0), Devmajor: e.major, PAXRecords: map[string]string{},
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		for k, v := range e.xattrs {
			h.PAXRecords[paxXattr+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func dirEntry(name string) entry        { return entry{name: name, kind: tar.TypeDir, mode: 0o755} }
func fileEntry(name, body string) entry { return entry{name: name, kind: tar.TypeReg, body: body} }
func linkEntry(name, to string) entry   { return entry{name: name, kind: tar.TypeSymlink, link: to} }
func hardEntry(name, to string) entry   { return entry{name: name, kind: tar.TypeLink, link: to} }

func sum(data []byte) v1.Hash {
	s := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s[:])}
}

// listing prints a tree: one line per entry, files with their content, links with their target.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		line, err := describe(p)
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&out, "%s %s\n", rel, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func describe(p string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return "", err
	}
	own := fmt.Sprintf("%o %d:%d", st.Mode&0o7777, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		buf := make([]byte, 8)
		if n, err := unix.Lgetxattr(p, opaqueXattr, buf); err == nil && string(buf[:n]) == "y" {
			own += " opaque"
		}
		return "dir " + own, nil
	case unix.S_IFLNK:
		to, err := os.Readlink(p)
		return "link to " + to, err
	case unix.S_IFCHR:
		return fmt.Sprintf("whiteout %d", st.Rdev), nil
	case unix.S_IFIFO:
		return "fifo " + own, nil
	}
	data, err := os.ReadFile(p)
	return fmt.Sprintf("file %s %q", own, data), err
}

func TestUnpack(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name    string
		entries []entry
		want    string
		implied []string
		skipped []string
	}{
		{
			"files, owners and modes",
			[]entry{
				{name: "./", kind: tar.TypeDir, mode: 0o755},
				{name: "./etc/", kind: tar.TypeDir, mode: 0o750, uid: 1, gid: 2},
				{name: "./etc/passwd", kind: tar.TypeReg, mode: 0o4755, uid: 3, gid: 4, body: "root"},
				linkEntry("./etc/mtab", "/proc/mounts"),
				hardEntry("./etc/shadow", "./etc/passwd"),
				{name: "./run", kind: tar.TypeFifo, mode: 0o622, uid: 5},
			},
			"etc dir 750 1:2\netc/mtab link to /proc/mounts\netc/passwd file 4755 3:4 \"root\"\netc/shadow file 4755 3:4 \"root\"\nrun fifo 622 5:0\n",
			nil, nil,
		},
		{
			"whiteouts",
			[]entry{
				dirEntry("a"), fileEntry("a/.wh.gone", ""), fileEntry("a/.wh..wh..opq", ""), fileEntry("a/.wh..wh.plnk", ""),
				fileEntry("a/.wh.both", ""), fileEntry("a/both", "mine"), fileEntry(".wh.top", ""),
			},
			"a dir 755 0:0 opaque\na/both file 644 0:0 \"mine\"\na/gone whiteout 0\ntop whiteout 0\n",
			nil, nil,
		},
		{
			"parents that are only implied",
			[]entry{dirEntry("a"), fileEntry("a/b/c/d", "x"), fileEntry("e/.wh.f", "")},
			"a dir 755 0:0\na/b dir 755 0:0\na/b/c dir 755 0:0\na/b/c/d file 644 0:0 \"x\"\ne dir 755 0:0\ne/f whiteout 0\n",
			[]string{"a/b", "a/b/c", "e"},
			nil,
		},
		{
			"absolute link as a parent stays inside",
			[]entry{dirEntry("usr"), linkEntry("bin", "/usr"), fileEntry("bin/sh", "sh"), linkEntry("up", "../../../usr"), fileEntry("up/x", "x")},
			"bin link to /usr\nup link to ../../../usr\nusr dir 755 0:0\nusr/sh file 644 0:0 \"sh\"\nusr/x file 644 0:0 \"x\"\n",
			nil, nil,
		},
		{
			"a link is replaced, not written through",
			[]entry{linkEntry("passwd", "/etc/passwd"), fileEntry("passwd", "ours"), linkEntry("d", "/etc"), dirEntry("d"), fileEntry("d/x", "x")},
			"d dir 755 0:0\nd/x file 644 0:0 \"x\"\npasswd file 644 0:0 \"ours\"\n",
			nil, nil,
		},
		{
			"a folder is replaced by a file and back",
			[]entry{dirEntry("a"), fileEntry("a/b", "x"), fileEntry("a", "file"), dirEntry("c"), fileEntry("c", "file"), dirEntry("c"), fileEntry("c/d", "y")},
			"a file 644 0:0 \"file\"\nc dir 755 0:0\nc/d file 644 0:0 \"y\"\n",
			nil, nil,
		},
		{
			"a dangling link as a parent becomes a folder",
			[]entry{linkEntry("a", "/nowhere"), fileEntry("a/b", "x")},
			"a dir 755 0:0\na/b file 644 0:0 \"x\"\n",
			[]string{"a"},
			nil,
		},
		{
			"devices are left out",
			[]entry{{name: "sda", kind: tar.TypeBlock, major: 8}, {name: "hide", kind: tar.TypeChar}, fileEntry("x", "")},
			"x file 644 0:0 \"\"\n",
			nil,
			[]string{"sda", "hide"},
		},
		{
			"absolute names are relative",
			[]entry{fileEntry("/abs", "x"), hardEntry("/abs2", "/abs"), hardEntry("abs", "abs2")},
			"abs file 644 0:0 \"x\"\nabs2 file 644 0:0 \"x\"\n",
			nil, nil,
		},
		{
			"foreign attributes are dropped",
			[]entry{{name: "d", kind: tar.TypeDir, mode: 0o700, xattrs: map[string]string{opaqueXattr: "y", "trusted.overlay.redirect": "/etc"}}},
			"d dir 700 0:0\n",
			nil, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, data := t.TempDir(), tarOf(t, tt.entries...)
			got, err := Unpack(t.Context(), bytes.NewReader(data), dir, Layer{Digest: sum(data), DiffID: sum(data)}, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, listing(t, dir)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.implied, got.Implied); diff != "" {
				t.Errorf("implied (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.skipped, got.Skipped); diff != "" {
				t.Errorf("skipped (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackKeepsCapabilitiesAndTimes(t *testing.T) {
	needRoot(t)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service+ep
	data := tarOf(t, dirEntry("d"), entry{name: "d/ping", kind: tar.TypeReg, mode: 0o755, uid: 7, xattrs: map[string]string{"security.capability": capability}})
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), bytes.NewReader(data), dir, Layer{}, Limits{}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(dir, "d/ping"), "security.capability", buf)
	if err != nil || string(buf[:n]) != capability {
		t.Errorf("capability %q, %v, want %q", buf[:max(n, 0)], err, capability)
	}
	for _, name := range []string{"d", "d/ping"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.ModTime().Unix() != 1e9 {
			t.Errorf("%s: time %v, %v, want 1e9", name, info.ModTime(), err)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name    string
		entries []entry
		limits  Limits
		want    error
	}{
		{"climbing file", []entry{fileEntry("../x", "x")}, Limits{}, ErrCorrupt},
		{"climbing in the middle", []entry{fileEntry("a/../../x", "x")}, Limits{}, ErrCorrupt},
		{"climbing hard link", []entry{hardEntry("x", "../../etc/passwd")}, Limits{}, ErrCorrupt},
		{"hard link to nothing", []entry{hardEntry("x", "y")}, Limits{}, ErrCorrupt},
		{"hard link out through a link", []entry{linkEntry("e", "/etc"), hardEntry("x", "e/passwd")}, Limits{}, ErrCorrupt},
		{"hard link to a folder", []entry{dirEntry("d"), hardEntry("x", "d")}, Limits{}, ErrCorrupt},
		{"whiteout of the parent", []entry{fileEntry("a/.wh...", "")}, Limits{}, ErrCorrupt},
		{"root as a link", []entry{linkEntry("/", "x")}, Limits{}, ErrCorrupt},
		{"loop of links", []entry{linkEntry("a", "b"), linkEntry("b", "a"), fileEntry("a/x", "")}, Limits{}, unix.ELOOP},
		{"too many bytes", []entry{fileEntry("x", strings.Repeat("x", 4096))}, Limits{Bytes: 4095}, ErrTooLarge},
		{"too many entries", []entry{fileEntry("x", ""), fileEntry("y", "")}, Limits{Entries: 1}, ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Unpack(t.Context(), bytes.NewReader(tarOf(t, tt.entries...)), t.TempDir(), Layer{}, tt.limits)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestUnpackVerifies(t *testing.T) {
	needRoot(t)
	plain := tarOf(t, fileEntry("x", "hello"))
	other := sum([]byte("other"))
	for name, packed := range map[string][]byte{"plain": plain, "gzip": gzipped(t, plain), "zstd": zstded(t, plain)} {
		t.Run(name, func(t *testing.T) {
			right := Layer{Digest: sum(packed), DiffID: sum(plain)}
			got, err := Unpack(t.Context(), bytes.NewReader(packed), t.TempDir(), right, Limits{})
			if err != nil || got.DiffID != sum(plain) || got.Bytes != 5 {
				t.Errorf("right digests: %+v, %v", got, err)
			}
			for _, wrong := range []Layer{{Digest: other, DiffID: sum(plain)}, {Digest: sum(packed), DiffID: other}} {
				if _, err := Unpack(t.Context(), bytes.NewReader(packed), t.TempDir(), wrong, Limits{}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("wrong digest: %v, want %v", err, ErrCorrupt)
				}
			}
			if _, err := Unpack(t.Context(), bytes.NewReader(packed[:len(packed)/5]), t.TempDir(), Layer{}, Limits{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("a part of it: %v, want %v", err, ErrCorrupt)
			}
		})
	}
}

func gzipped(t testing.TB, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zstded(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(data, nil)
}

func TestUnpackStopsBombs(t *testing.T) {
	needRoot(t)
	packed := gzipped(t, tarOf(t, fileEntry("zeros", strings.Repeat("\x00", 8<<20))))
	_, err := Unpack(t.Context(), bytes.NewReader(packed), t.TempDir(), Layer{}, Limits{Ratio: 100, RatioFrom: 1 << 20})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want %v", err, ErrTooLarge)
	}
	trailing := gzipped(t, append(tarOf(t, fileEntry("x", "")), make([]byte, 8<<20)...))
	if _, err := Unpack(t.Context(), bytes.NewReader(trailing), t.TempDir(), Layer{}, Limits{Bytes: 1 << 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("zeros behind the end: %v, want %v", err, ErrTooLarge)
	}
}

func TestUnpackStopsWithItsContext(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	cancel(why)
	if _, err := Unpack(ctx, bytes.NewReader(tarOf(t, fileEntry("x", ""))), t.TempDir(), Layer{}, Limits{}); !errors.Is(err, why) {
		t.Errorf("%v, want %v", err, why)
	}
}

// FuzzUnpack looks for layers that reach out of their folder: a canary beside it must stay alone and unchanged.
func FuzzUnpack(f *testing.F) {
	needRoot(f)
	f.Add(tarOf(f, dirEntry("a"), linkEntry("a/b", "/"), fileEntry("a/b/c", "x"), hardEntry("h", "a/b/c"), fileEntry("a/.wh.z", "")))
	f.Add(tarOf(f, linkEntry("l", "../canary"), fileEntry("l", "x"), fileEntry("l/x", "y"), fileEntry("/../canary", "z")))
	f.Add(tarOf(f, entry{name: "d", kind: tar.TypeDir, xattrs: map[string]string{opaqueXattr: "y"}}, fileEntry("d/.wh..wh..opq", "")))
	f.Add(gzipped(f, tarOf(f, fileEntry("x", "x"))))
	f.Add(zstded(f, tarOf(f, fileEntry("x", "x"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		inside, canary := filepath.Join(base, "layer"), filepath.Join(base, "canary")
		if err := errors.Join(os.Mkdir(inside, 0o700), os.WriteFile(canary, []byte("alive"), 0o600)); err != nil {
			t.Fatal(err)
		}
		// Most inputs are errors; what counts is where they wrote.
		_, _ = Unpack(t.Context(), bytes.NewReader(data), inside, Layer{}, Limits{Bytes: 1 << 20, Entries: 100})
		entries, err := os.ReadDir(base)
		if err != nil || len(entries) != 2 {
			t.Fatalf("beside the layer: %v, %v", entries, err)
		}
		if got, err := os.ReadFile(canary); err != nil || string(got) != "alive" {
			t.Fatalf("canary: %q, %v", got, err)
		}
	})
}
