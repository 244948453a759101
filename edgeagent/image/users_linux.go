package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ProbeUsers tries whether root file systems below dir can belong to a user namespace, whose path is users. It says why they cannot. It
// leaves nothing, also when it fails.
func ProbeUsers(dir, users string) (err error) {
	if err := reachable(filepath.Join(dir, usersFolder)); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, "probe")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	o := overlay{upper: tmp + "/upper", work: tmp + "/work", target: tmp + "/target", lower: []string{tmp + "/lower"}, users: users}
	for _, d := range []string{o.upper, o.work, o.target, o.lower[0]} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := mountOverlay(o); err != nil {
		return err
	}
	return unix.Unmount(o.target, unix.MNT_DETACH)
}

// reachable says whether anybody can come to dir: the root of a user namespace is nobody outside of it.
func reachable(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("folder %s has mode %04o: others must be able to pass through it (chmod o+x)", d, info.Mode().Perm())
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}
