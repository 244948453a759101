package image

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// overlay is one mount. lower is topmost first.
type overlay struct {
	lower       []string
	upper, work string
	target      string
	users       string // path of the user namespace that the files' owners are meant in; empty for the node's own
}

// mountOverlay mounts with the new mount API, which takes any number of layers, and on kernels before 6.8 with the old
// one, whose options must fit into one page: there layers are named by short descriptor paths, some 200 of them.
func mountOverlay(o overlay) error {
	err := mountNew(o)
	if o.users == "" && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		if old := mountOld(o); old != nil {
			return fmt.Errorf("mount overlay of %d layers at %s: %w (the folder's file system must be able to hold overlays: ext4, xfs, btrfs)", len(o.lower), o.target, old)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("mount overlay of %d layers at %s: %w", len(o.lower), o.target, err)
	}
	return nil
}

func mountNew(o overlay) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	mnt, err := shifted(fs, o)
	if err = errors.Join(err, unix.Close(fs)); err != nil {
		return err
	}
	err = unix.MoveMount(mnt, "", unix.AT_FDCWD, o.target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return errors.Join(err, unix.Close(mnt))
}

// shifted configures the overlay over layers whose owners are those of the user namespace, if there is one: each layer is a mount of its
// own then, which nobody else sees.
func shifted(fs int, o overlay) (int, error) {
	if o.users == "" {
		return configure(fs, o)
	}
	users, err := os.Open(o.users)
	if err != nil {
		return -1, err
	}
	defer func() { _ = users.Close() }() // a handle
	lower := make([]string, len(o.lower))
	for i, dir := range o.lower {
		tree, err := shift(dir, int(users.Fd()))
		if err != nil {
			return -1, fmt.Errorf("shift owners of %s: %w", dir, err)
		}
		defer func() { _ = unix.Close(tree) }() // the overlay has its own
		lower[i] = "/proc/self/fd/" + strconv.Itoa(tree)
	}
	o.lower = lower
	return configure(fs, o)
}

// shift returns a mount of dir in which owners are what they are called in the user namespace.
func shift(dir string, users int) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users)})
	if err != nil {
		return -1, errors.Join(os.NewSyscallError("mount_setattr", err), unix.Close(tree))
	}
	return tree, nil
}

func configure(fs int, o overlay) (int, error) {
	options := [][2]string{{"source", "skerry"}}
	for _, dir := range o.lower {
		options = append(options, [2]string{"lowerdir+", dir})
	}
	options = append(options, [2]string{"upperdir", o.upper}, [2]string{"workdir", o.work})
	for _, kv := range options {
		if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
			return -1, fmt.Errorf("overlay option %s=%s: %w", kv[0], kv[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
}

func mountOld(o overlay) error {
	names := make([]string, len(o.lower))
	for i, dir := range o.lower {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open layer %s: %w", dir, err)
		}
		defer unix.Close(fd) // only a path
		names[i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	data := "lowerdir=" + strings.Join(names, ":") + ",upperdir=" + escape(o.upper) + ",workdir=" + escape(o.work)
	if len(data) >= os.Getpagesize() {
		return fmt.Errorf("%d layers are too many for this kernel (6.8 takes any number): %w", len(o.lower), unix.E2BIG)
	}
	return unix.Mount("skerry", o.target, "overlay", unix.MS_NODEV, data)
}

// escape quotes what separates options.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `:`, `\:`).Replace(dir)
}

// isMountPoint says whether something is mounted at path. A path that is missing is none.
func isMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// unmountAll unmounts everything at path. Detached, so that a process that still looks does not keep it.
func unmountAll(path string) error {
	for {
		mounted, err := isMountPoint(path)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
}

func owner(info os.FileInfo) (uid, gid int) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid)
	}
	return 0, 0
}
