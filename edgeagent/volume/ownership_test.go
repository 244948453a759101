package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOwnership: a volume with all that is in it becomes the group's, unless its folder is already and that is enough. Links stay what
// they are, and what they lead to as well.
func TestOwnership(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files to a group: run the tests with sudo")
	}
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	fill := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	fill(outside, 0o600)
	if err := os.MkdirAll(filepath.Join(dir, "v", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	fill(filepath.Join(dir, "v", "below", "file"), 0o600)
	fill(filepath.Join(dir, "v", "tool"), 0o711)
	if err := os.Symlink(outside, filepath.Join(dir, "v", "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	apply := func(o ownership) string {
		t.Helper()
		if err := o.apply(root, "v"); err != nil {
			t.Fatal(err)
		}
		return modes(t, dir)
	}
	all := "outside -rw------- 0, v dgrwxrwxrwx 1234, v/below dgrwxrwx--- 1234, v/below/file -rw-rw---- 1234, v/link Lrwxrwxrwx 1234, v/tool -rwxrwx--x 1234"
	if got := apply(ownership{group: 1234}); got != all {
		t.Errorf("got\n%s\nwant\n%s", got, all)
	}
	fill(filepath.Join(dir, "v", "tool"), 0o600)
	if got := apply(ownership{group: 1234}); !strings.Contains(got, "v/tool -rw-------") {
		t.Errorf("it was looked through although its folder is right:\n%s", got)
	}
	if got := apply(ownership{group: 1234, always: true}); !strings.Contains(got, "v/tool -rw-rw----") {
		t.Errorf("it was not looked through:\n%s", got)
	}
	if got := apply(ownership{group: 77}); strings.Contains(got, "1234") {
		t.Errorf("not all changed hands:\n%s", got)
	}
}

// TestOwnershipUnreadable: a volume whose folder cannot be read to its end is not taken for done.
func TestOwnershipUnreadable(t *testing.T) {
	for err, want := range map[error]error{fs.ErrPermission: fs.ErrPermission, fs.ErrNotExist: nil, nil: nil} {
		if got := (ownership{}).visit(nil, ".", nil, err); !errors.Is(got, want) {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

// modes lists what is in dir with modes and groups.
func modes(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		out = append(out, fmt.Sprintf("%s %s %d", strings.TrimPrefix(path, dir+"/"), info.Mode(), info.Sys().(*syscall.Stat_t).Gid))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, ", ")
}
