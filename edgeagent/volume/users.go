package volume

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ProbeUsers tries whether volumes below dir, and those in memory, can be shown with the owners that they have in a user namespace, whose
// path is users. It says why they cannot.
func ProbeUsers(dir, users string) (err error) {
	// A folder of its own: one with other pods' mounts below it may not be cloned alone.
	tmp, err := os.MkdirTemp(dir, "probe")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp)) }()
	ns, err := os.Open(users)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }() // a handle
	disk, err := unix.OpenTree(unix.AT_FDCWD, tmp, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: tmp, Err: err}
	}
	memory, err := memoryTree()
	if err != nil {
		return errors.Join(err, unix.Close(disk))
	}
	for name, tree := range map[string]int{dir: disk, "tmpfs": memory} {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
		if e := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, attr); e != nil {
			err = errors.Join(err, fmt.Errorf("shift owners of %s: %w", name, os.NewSyscallError("mount_setattr", e)))
		}
		err = errors.Join(err, unix.Close(tree))
	}
	return err
}

// memoryTree is a tmpfs that is mounted nowhere.
func memoryTree() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	tree := -1
	if err = unix.FsconfigCreate(fs); err == nil {
		tree, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	}
	return tree, errors.Join(err, unix.Close(fs))
}
