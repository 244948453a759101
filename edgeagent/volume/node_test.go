package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDeviceNode(t *testing.T) {
	needRoot(t)
	v, refs := setUp(t, `containers: [{name: app, image: a}]`)
	must(t, v.Prepare(refs))
	for range 2 { // again at each start
		node, err := v.DeviceNode("u1", "app", "/dev/full", 1000, 2000)
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Lstat(node, &st))
		if st.Mode != unix.S_IFCHR|0o660 || st.Rdev != unix.Mkdev(1, 7) || st.Uid != 1000 || st.Gid != 2000 {
			t.Errorf("%s is %o, %d:%d, of %d:%d", node, st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Uid, st.Gid)
		}
	}
	if _, err := v.DeviceNode("u1", "app", "/dev/none", 0, 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	if _, err := v.DeviceNode("u1", "app", "/etc/passwd", 0, 0); err == nil || !strings.Contains(err.Error(), "not a device") {
		t.Errorf("a file: %v", err)
	}
	must(t, v.Remove("u1"))
	if _, err := os.Stat(filepath.Join(v.dir, "u1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestDeviceNodesApart: devices whose paths look alike are not one.
func TestDeviceNodesApart(t *testing.T) {
	needRoot(t)
	v, refs := setUp(t, `containers: [{name: app, image: a}]`)
	must(t, v.Prepare(refs))
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	nodes := map[string]bool{}
	for _, name := range []string{"a_b", "a/b"} {
		path := filepath.Join(dir, name)
		must(t, unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 7))))
		node, err := v.DeviceNode("u1", "app", path, 0, 0)
		must(t, err)
		nodes[node] = true
	}
	if len(nodes) != 2 {
		t.Errorf("one node for two devices: %v", nodes)
	}
}

// TestDeviceNodeWhereThereAreNone: a file system without devices is an error that says so, not a node that does not work.
func TestDeviceNodeWhereThereAreNone(t *testing.T) {
	needRoot(t)
	v, _ := setUp(t, `containers: [{name: app, image: a}]`)
	must(t, unix.Mount("tmpfs", v.dir, "tmpfs", unix.MS_NODEV, ""))
	t.Cleanup(func() { must(t, unix.Unmount(v.dir, unix.MNT_DETACH)) })
	if _, err := v.DeviceNode("u1", "app", "/dev/full", 0, 0); err == nil || !strings.Contains(err.Error(), "nodev") {
		t.Errorf("got %v", err)
	}
}
