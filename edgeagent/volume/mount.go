package volume

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts memory at path, if it is not there already. Zero bytes means the kernel's default, half of the memory.
func mountTmpfs(path string, bytes int64) error {
	mounted, err := mountedAt(path)
	if err != nil || slices.Contains(mounted, path) {
		return err
	}
	options := "mode=0755"
	if bytes > 0 {
		options += ",size=" + strconv.FormatInt(bytes, 10)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	return nil
}

// mountedAt lists the mount points at and below path, deepest first.
func mountedAt(path string) ([]string, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return below(info, path), nil
}

// below parses mountinfo (proc(5)): the fifth field is the mount point, with octal escapes.
func below(info []byte, path string) []string {
	var points []string
	for s := bufio.NewScanner(bytes.NewReader(info)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 5 {
			continue
		}
		if p := unescape(f[4]); p == path || strings.HasPrefix(p, path+"/") {
			points = append(points, p)
		}
	}
	slices.SortFunc(points, func(a, b string) int { return len(b) - len(a) })
	return points
}

var unescaper = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func unescape(s string) string { return unescaper.Replace(s) }

// Remove unmounts and removes everything of a pod. None is no error. It removes no file before every mount is gone:
// behind a mount there may be somebody else's data.
func (v *Volumes) Remove(uid string) error {
	dir, err := v.podFolder(uid)
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	if err := unmountBelow(dir); err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	root, err := os.OpenRoot(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("remove volumes: %w", err)
	}
	err = root.RemoveAll(filepath.Base(dir))
	return errors.Join(err, root.Close())
}

func unmountBelow(dir string) error {
	points, err := mountedAt(dir)
	if err != nil {
		return err
	}
	for _, p := range points {
		if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	left, err := mountedAt(dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%s is still mounted", left[0])
	}
	return err
}

// Pods lists the UIDs that have a folder.
func (v *Volumes) Pods() ([]string, error) {
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var uids []string
	for _, e := range entries {
		uids = append(uids, e.Name())
	}
	return uids, err
}
