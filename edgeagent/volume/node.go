package volume

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DeviceNode makes a node of the device at path for one container of a pod, owned by a user and group as the container
// calls them, and returns where it is. One that is there is made anew: the device may have another number by now. It goes
// with the pod's volumes, which must have been prepared.
func (v *Volumes) DeviceNode(uid, container, path string, user, group int) (string, error) {
	dir, err := v.podFolder(uid)
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return "", fmt.Errorf("%s is not a device", path)
	}
	dir = filepath.Join(dir, devicesFolder, container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make device node: %w", err)
	}
	node := filepath.Join(dir, url.PathEscape(path)) // no two devices have one name
	if err := os.Remove(node); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("make device node: %w", err)
	}
	if err := unix.Mknod(node, kind|0o660, int(st.Rdev)); err != nil { //nolint:gosec // as the kernel has it
		return "", fmt.Errorf("make device node: %w", &os.PathError{Op: "mknod", Path: node, Err: err})
	}
	return node, errors.Join(os.Lchown(node, user, group), os.Chmod(node, 0o660), usable(dir)) //nolint:gosec // its group may use it
}

// usable says whether nodes in dir work: a file system may be mounted without devices.
func usable(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if fs.Flags&unix.ST_NODEV != 0 {
		return fmt.Errorf("devices cannot be given to pods: the file system of %s is mounted with nodev", dir)
	}
	return nil
}
