package image

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// overlay is one mount. lower is topmost first.
type overlay struct {
	lower       []string
	upper, work string
	target      string
}

// mountOverlay mounts with the new mount API, which takes any number of layers, and on kernels before 6.8 with the old
// one, whose options must fit into one page: there layers are named by short descriptor paths, some 200 of them.
func mountOverlay(o overlay) error {
	err := mountNew(o)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
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
	mnt, err := configure(fs, o)
	if err = errors.Join(err, unix.Close(fs)); err != nil {
		return err
	}
	err = unix.MoveMount(mnt, "", unix.AT_FDCWD, o.target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return errors.Join(err, unix.Close(mnt))
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
