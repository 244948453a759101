package gauge

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/eviction"
)

// TestTree: links count once, are not followed, other file systems are left out, and absent means nothing.
func TestTree(t *testing.T) {
	dir := t.TempDir()
	tree, outside := filepath.Join(dir, "tree"), filepath.Join(dir, "outside")
	write := func(path string, kilobytes int) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(strings.Repeat("x", kilobytes<<10)), 0o600))
	}
	write(filepath.Join(outside, "big"), 1024)
	write(filepath.Join(tree, "a", "file"), 64)
	before, err := Tree(t.Context(), tree)
	must(t, err)
	must(t, os.Link(filepath.Join(tree, "a", "file"), filepath.Join(tree, "a", "again")))
	must(t, os.Symlink(outside, filepath.Join(tree, "link")))
	must(t, os.Mkdir(filepath.Join(tree, "mount"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(tree, "mount"), "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(filepath.Join(tree, "mount"), unix.MNT_DETACH)) })
	write(filepath.Join(tree, "mount", "big"), 1024)
	got, err := Tree(t.Context(), tree)
	must(t, err)
	if before.Bytes < 64<<10 || got.Bytes > before.Bytes+64<<10-1 || got.Inodes != before.Inodes+1 {
		t.Errorf("%+v, before %+v", got, before)
	}
	if none, err := Tree(t.Context(), filepath.Join(dir, "absent")); err != nil || none != (eviction.Disk{}) {
		t.Errorf("absent: %+v %v", none, err)
	}
	if _, err := Tree(t.Context(), filepath.Join(tree, "link")); err == nil {
		t.Error("a link was followed")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Tree(ended, tree); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// TestDeepTree ends, says so, and has counted what is beside it.
func TestDeepTree(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 2 * maxDepth {
		must(t, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	must(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 1<<20), 0o600))
	got, err := Tree(t.Context(), dir)
	if !errors.Is(err, ErrDeep) || got.Bytes < 1<<20 || got.Inodes < maxDepth {
		t.Errorf("%+v %v", got, err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,nr_inodes=100"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	must(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, 512<<10), 0o600))
	got, err := Node{Dir: dir, Images: "/", Group: "/", ReservedBytes: 1 << 20}.Read(t.Context())
	must(t, err)
	if a := got[eviction.NodeAvailable]; a != (eviction.Amount{Available: 512 << 10, Capacity: 1 << 20}) {
		t.Errorf("room: %+v", a)
	}
	if a := got[eviction.NodeInodesFree]; a.Capacity != 100 || a.Available >= 100 || a.Available < 90 {
		t.Errorf("inodes: %+v", a)
	}
	if m := got[eviction.MemoryAvailable]; m.Available <= 0 || m.Available > m.Capacity {
		t.Errorf("memory: %+v", m)
	}
	_, err = os.Stat("/sys/fs/cgroup/memory") // the group of all processes has no account in a unified hierarchy
	if m, a := got[eviction.MemoryAvailable], got[eviction.AllocatableMemory]; err == nil && (a.Capacity != m.Capacity-1<<20 || a.Available >= a.Capacity) {
		t.Errorf("memory of pods: %+v of %+v", a, m)
	}
	if a := got[eviction.PIDAvailable]; a.Available <= 0 || a.Available >= a.Capacity {
		t.Errorf("process ids: %+v", a)
	}
	if got[eviction.ImageAvailable].Capacity == 1<<20 {
		t.Error("images are measured on the wrong file system")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
