package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"golang.org/x/sys/unix"
)

// write makes a file with all its parents.
func write(t testing.TB, root, name, content string, mode fs.FileMode) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), mode), os.Chmod(p, mode)); err != nil {
		t.Fatal(err)
	}
}

func mustBuild(t testing.TB, o BuildOptions) *Built {
	t.Helper()
	b, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := validate.Image(b); err != nil {
		t.Fatalf("the image does not hold together: %v", err)
	}
	return b
}

func digestOf(t testing.TB, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// rootOf lists the tar of the image's flattened file system.
func rootOf(t testing.TB, img v1.Image) string {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close() // read to its end
	var out strings.Builder
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%c %s %o %d:%d %q%s\n", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, data, h.Linkname)
	}
}

func sampleFolder(t testing.TB, reverse bool) string {
	t.Helper()
	dir := t.TempDir()
	steps := []func(){
		func() { write(t, dir, "bin/app", "#!/bin/sh\n", 0o755) },
		func() { write(t, dir, "etc/app.conf", "x=1\n", 0o644) },
		func() { write(t, dir, "etc/zz/ü", strings.Repeat("long ", 100), 0o640) },
		func() {
			if err := os.Symlink("/bin/app", filepath.Join(dir, "run")); err != nil {
				t.Fatal(err)
			}
		},
	}
	if reverse {
		slices.Reverse(steps)
	}
	for _, s := range steps {
		s()
	}
	return dir
}

// TestFolderDigestIsReproducible builds the same content made in other ways, and pins the digest: it may change only
// with a change here or of the compressor in go.mod, never with a machine.
func TestFolderDigestIsReproducible(t *testing.T) {
	opts := func(dir string) BuildOptions {
		return BuildOptions{
			Path: dir, Entrypoint: []string{"/bin/app"}, Env: []string{"B=2", "A=1"}, Labels: map[string]string{"z": "1", "a": "2"},
			Platform: "linux/arm64", ExposedPorts: []string{"80", "53/udp"},
		}
	}
	one := digestOf(t, mustBuild(t, opts(sampleFolder(t, false))))

	old := unix.Umask(0o077)
	other := sampleFolder(t, true)
	unix.Umask(old)
	if err := errors.Join(
		os.Chtimes(filepath.Join(other, "bin/app"), time.Now(), time.Unix(1e9, 5)),
		os.Chmod(filepath.Join(other, "etc"), 0o700), os.Chmod(filepath.Join(other, "etc/app.conf"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(other, "etc/app.conf"), 1234, 1234); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("TZ", "Pacific/Auckland")
	two := digestOf(t, mustBuild(t, opts(other)))
	if one != two {
		t.Errorf("the same content has digests %s and %s", one, two)
	}
	const pinned = "sha256:b9c43ac3cb23bc9b72e76ccee1810a1348add7a112f1068e5d7c1d57d8bad822"
	if one != pinned {
		t.Errorf("digest %s, want %s", one, pinned)
	}
}

func TestBuildFromFolder(t *testing.T) {
	dir := sampleFolder(t, false)
	if err := os.Link(filepath.Join(dir, "bin/app"), filepath.Join(dir, "bin/again")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := mustBuild(t, BuildOptions{
		Path: dir, Entrypoint: []string{"/run"}, Cmd: []string{"-v"}, User: "7", Workdir: "/etc", Epoch: time.Unix(1e9, 0),
	})
	want := "5 bin 755 0:0 \"\"\n0 bin/again 755 0:0 \"#!/bin/sh\\n\"\n1 bin/app 755 0:0 \"\"bin/again\n5 etc 755 0:0 \"\"\n" +
		"0 etc/app.conf 644 0:0 \"x=1\\n\"\n5 etc/zz 755 0:0 \"\"\n0 etc/zz/ü 644 0:0 \"" + strings.Repeat("long ", 100) + "\"\n2 run 777 0:0 \"\"/bin/app\n"
	if diff := cmp.Diff(want, rootOf(t, b)); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"pipe"}, b.Ignored); diff != "" {
		t.Errorf("ignored (-want +got):\n%s", diff)
	}
	c, err := b.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	wantConfig := v1.Config{Entrypoint: []string{"/run"}, Cmd: []string{"-v"}, User: "7", WorkingDir: "/etc"}
	if diff := cmp.Diff(wantConfig, c.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if !c.Created.Equal(time.Unix(1e9, 0)) || c.Architecture != runtime.GOARCH || c.OS != "linux" {
		t.Errorf("created %v, platform %s/%s", c.Created, c.OS, c.Architecture)
	}
}

// goBinary compiles a small program.
func goBinary(t testing.TB, arch, body string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "main.go", "package main\n"+body, 0o644)
	out := filepath.Join(dir, "app")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, filepath.Join(dir, "main.go"))
	cmd.Env = append(append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "CGO_ENABLED=0"), env...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, msg)
	}
	return out
}

func TestBuildFromBinary(t *testing.T) {
	for arch, want := range map[string]string{"arm64": "linux/arm64", "arm": "linux/arm/v7", "amd64": "linux/amd64"} {
		b := mustBuild(t, BuildOptions{Path: goBinary(t, arch, "func main() {}")})
		c, err := b.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if got := (v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}).String(); got != want {
			t.Errorf("platform %s, want %s", got, want)
		}
		if diff := cmp.Diff([]string{"/app"}, c.Config.Entrypoint); diff != "" {
			t.Errorf("entrypoint (-want +got):\n%s", diff)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	static := goBinary(t, "arm64", "func main() {}")
	cBinary := filepath.Join(t.TempDir(), "dynamic")
	if src := filepath.Join(filepath.Dir(static), "main.c"); os.WriteFile(src, []byte("int main(void){return 0;}"), 0o600) == nil {
		if msg, err := exec.CommandContext(t.Context(), "gcc", "-o", cBinary, src).CombinedOutput(); err != nil {
			t.Fatalf("needs gcc (apt-get install gcc): %v\n%s", err, msg)
		}
	}
	dynamicRoot := t.TempDir()
	if data, err := os.ReadFile(cBinary); err != nil {
		t.Fatal(err)
	} else {
		write(t, dynamicRoot, "bin/app", string(data), 0o755)
	}
	script := filepath.Join(t.TempDir(), "x.sh")
	write(t, filepath.Dir(script), "x.sh", "#!/bin/sh\n", 0o755)
	text := filepath.Join(t.TempDir(), "x.txt")
	write(t, filepath.Dir(text), "x.txt", strings.Repeat("no tarball ", 100), 0o644)
	layer := filepath.Join(t.TempDir(), "layer.tar")
	write(t, filepath.Dir(layer), "layer.tar", string(tarOf(t, fileEntry("a/.wh.b", ""))), 0o644)
	climbing := filepath.Join(t.TempDir(), "evil.tar")
	write(t, filepath.Dir(climbing), "evil.tar", string(tarOf(t, fileEntry("../b", ""))), 0o644)
	folder := sampleFolder(t, false)
	tests := []struct {
		name string
		o    BuildOptions
		want string
	}{
		{"missing", BuildOptions{Path: "/nonexistent/x"}, "no such file"},
		{"nothing to run", BuildOptions{Path: folder}, "give --entrypoint or --cmd"},
		{"entrypoint not there", BuildOptions{Path: folder, Entrypoint: []string{"/bin/ap"}}, "entrypoint /bin/ap is not in the folder"},
		{"dynamic binary", BuildOptions{Path: cBinary}, "CGO_ENABLED=0"},
		{"dynamic entrypoint", BuildOptions{Path: dynamicRoot, Entrypoint: []string{"/bin/app"}}, "which is not in the folder"},
		{"script", BuildOptions{Path: script}, "interpreter"},
		{"no tarball", BuildOptions{Path: text}, "want a tarball"},
		{"layer", BuildOptions{Path: layer}, "whiteouts"},
		{"climbing tarball", BuildOptions{Path: climbing}, "climbs"},
		{"other platform", BuildOptions{Path: static, Platform: "linux/amd64"}, "made for linux/arm64"},
		{"bad platform", BuildOptions{Path: static, Platform: "arm64"}, "want linux/ARCHITECTURE"},
		{"bad environment", BuildOptions{Path: static, Env: []string{"NOVALUE"}}, "want NAME=VALUE"},
		{"bad port", BuildOptions{Path: static, ExposedPorts: []string{"80x"}}, "want 1 to 65535"},
		{"bad folder", BuildOptions{Path: static, Workdir: "x"}, "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := Build(t.Context(), tt.o)
			if err == nil {
				t.Fatalf("built %s", digestOf(t, b))
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.o.Path) {
				t.Errorf("%v, want it to name the path and to say %q", err, tt.want)
			}
		})
	}
}

func TestTarballOrderDoesNotMatter(t *testing.T) {
	entries := []entry{
		{name: "./", kind: tar.TypeDir, mode: 0o755},
		{name: "./etc", kind: tar.TypeDir, mode: 0o750, uid: 5},
		hardEntry("./a", "z"),
		{name: "z", kind: tar.TypeReg, mode: 0o4755, uid: 3, gid: 4, body: "x"},
		linkEntry("l", "z"), fileEntry("etc/old", "x"), fileEntry("etc/old", "new"),
	}
	build := func(data []byte) *Built {
		file := filepath.Join(t.TempDir(), "root.tar")
		write(t, filepath.Dir(file), "root.tar", string(data), 0o644)
		return mustBuild(t, BuildOptions{Path: file, Cmd: []string{"/z"}, Platform: "linux/amd64"})
	}
	one := build(tarOf(t, entries...))
	other := slices.Clone(entries)
	slices.Reverse(other[:5])
	two, three := build(tarOf(t, other...)), build(gzipped(t, tarOf(t, entries...)))
	if a, b, c := digestOf(t, one), digestOf(t, two), digestOf(t, three); a != b || a != c {
		t.Errorf("digests %s, %s (other order), %s (compressed)", a, b, c)
	}
	want := "0 a 4755 3:4 \"x\"\n5 etc 750 5:0 \"\"\n0 etc/old 644 0:0 \"new\"\n2 l 777 0:0 \"\"z\n1 z 4755 3:4 \"\"a\n"
	if diff := cmp.Diff(want, rootOf(t, one)); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
}

func TestBuildOnBase(t *testing.T) {
	base, err := mutate.Config(empty.Image, v1.Config{Entrypoint: []string{"/base"}, Cmd: []string{"arg"}, Env: []string{"PATH=/bin", "A=old"}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := random.Layer(100, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	if base, err = mutate.AppendLayers(base, l); err != nil {
		t.Fatal(err)
	}
	b := mustBuild(t, BuildOptions{Path: sampleFolder(t, false), Base: base, Env: []string{"A=new"}})
	c, err := b.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/base"}, Cmd: []string{"arg"}, Env: []string{"PATH=/bin", "A=new"}}
	if diff := cmp.Diff(want, c.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if len(c.RootFS.DiffIDs) != 2 {
		t.Errorf("%d layers, want 2", len(c.RootFS.DiffIDs))
	}
}

func TestImageArchives(t *testing.T) {
	img := mustBuild(t, BuildOptions{Path: goBinary(t, "amd64", "func main() {}")})
	docker, oci := filepath.Join(t.TempDir(), "docker.tar"), filepath.Join(t.TempDir(), "oci.tar")
	tag, err := name.NewTag("x:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(docker, tag, img); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "tar", "-C", dir, "-cf", oci, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	if got := digestOf(t, mustBuild(t, BuildOptions{Path: oci})); got != digestOf(t, img) {
		t.Errorf("OCI archive: digest %s, want the one that was packed, %s", got, digestOf(t, img))
	}
	again := mustBuild(t, BuildOptions{Path: docker, Env: []string{"A=1"}})
	c, err := again.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(c.Config.Entrypoint, []string{"/app"}) || !cmp.Equal(c.Config.Env, []string{"A=1"}) {
		t.Errorf("docker archive: %+v", c.Config)
	}
}

func TestBuildLeavesNothing(t *testing.T) {
	scratch := t.TempDir()
	b, err := Build(t.Context(), BuildOptions{Path: sampleFolder(t, false), Cmd: []string{"/run"}, Scratch: scratch})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), BuildOptions{Path: sampleFolder(t, false), Scratch: scratch}); err == nil {
		t.Error("an image with nothing to run was built")
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func FuzzArchive(f *testing.F) {
	f.Add(tarOf(f, dirEntry("a"), fileEntry("a/b", "x"), hardEntry("c", "a/b"), linkEntry("d", "c")))
	f.Add(tarOf(f, hardEntry("a", "b"), hardEntry("b", "a")))
	f.Add(tarOf(f, fileEntry("oci-layout", "{}"), fileEntry("index.json", "{}")))
	f.Add(tarOf(f, fileEntry("manifest.json", `[{"Config":"x","Layers":["y"]}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "x.tar")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		scratch := t.TempDir()
		b, err := Build(t.Context(), BuildOptions{Path: file, Cmd: []string{"x"}, Scratch: scratch})
		if err == nil {
			if _, digestErr := b.Digest(); digestErr == nil && b.layer != nil {
				r, err := b.layer.Uncompressed()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := indexTar(t.Context(), spool(t, r)); err != nil {
					t.Errorf("what was built cannot be read: %v", err)
				}
			}
			err = b.Close()
		}
		if left, dirErr := os.ReadDir(scratch); dirErr != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v (%v)", left, dirErr, err)
		}
	})
}

func spool(t testing.TB, r io.ReadCloser) *unlinked {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(r.Close(), f.Close()) })
	return &unlinked{f}
}
