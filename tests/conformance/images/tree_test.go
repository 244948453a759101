package images

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tree.tar")
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("code"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := tree{"usr/bin/su": {mode: 0o755 | fs.ModeSetuid, source: program}}
	tr.symlink("bin/sh", "/bin/busybox")
	tr.dir(0o777|fs.ModeSticky, "tmp")
	tr.text("etc/passwd", "root\n")
	if err := tr.write(file); err != nil {
		t.Fatal(err)
	}
	want := `755 bin/
777 bin/sh -> /bin/busybox
755 etc/
644 etc/passwd "root\n"
1777 tmp/
755 usr/
755 usr/bin/
4755 usr/bin/su "code"
`
	if diff := cmp.Diff(want, listing(t, file)); diff != "" {
		t.Errorf("tarball (-want +got):\n%s", diff)
	}
}

func listing(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	r := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%o %s", h.Mode, h.Name)
		content, err := io.ReadAll(r)
		switch {
		case err != nil:
			t.Fatal(err)
		case h.Linkname != "":
			fmt.Fprintf(&b, " -> %s", h.Linkname)
		case h.Typeflag == tar.TypeReg:
			fmt.Fprintf(&b, " %q", content)
		}
		b.WriteString("\n")
	}
}

// This machine is a Debian too.
func TestTakeBringsLibraries(t *testing.T) {
	tr := tree{}
	if err := tr.take("/", "usr/bin/env"); err != nil {
		t.Fatal(err)
	}
	var loader, libc bool
	for name, e := range tr {
		loader = loader || strings.HasPrefix(filepath.Base(name), "ld-linux")
		libc = libc || filepath.Base(name) == "libc.so.6"
		if info, err := os.Lstat(e.source); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: %q is no file: %v", name, e.source, err)
		}
	}
	if !loader || !libc {
		t.Errorf("loader %t, libc %t in %v", loader, libc, tr)
	}
	if err := tr.take("/", "usr/bin/no-such-program"); err == nil {
		t.Error("no error for a program that is not there")
	}
}
