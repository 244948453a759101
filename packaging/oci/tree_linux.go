package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// opaqueXattr makes overlayfs hide what lower layers have in a folder.
const opaqueXattr = "trusted.overlay.opaque"

// tree writes below one folder, through its descriptor. Folders are opened with RESOLVE_IN_ROOT, so that links in the
// layer lead where they would inside the container and never out; last elements are never followed.
type tree struct {
	root int

	// folders remembers each folder that was made: whether the layer described it, and its times and mode, which are
	// set at the end because writing into a folder changes or forbids them.
	folders map[string]*folderState
	// whiteouts are made at the end: a layer may hide a name of a lower layer and bring its own.
	whiteouts []string

	parent   int // open descriptor of parentOf, -1 for none: layers come folder by folder
	parentOf string
}

type folderState struct {
	explicit bool
	mode     uint32
	modTime  time.Time
}

func openTree(dir string) (*tree, error) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return &tree{root: fd, folders: map[string]*folderState{}, parent: -1}, nil
}

func (t *tree) close() error {
	return errors.Join(t.dropParent(), unix.Close(t.root))
}

func (t *tree) dropParent() error {
	if t.parent < 0 {
		return nil
	}
	fd := t.parent
	t.parent = -1
	return unix.Close(fd)
}

// implied lists the folders that no entry describes.
func (t *tree) implied() []string {
	var out []string
	for name, f := range t.folders {
		if !f.explicit {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// openDir opens a folder below the root, following links as chroot would.
func (t *tree) openDir(dir string) (int, error) {
	return retryAgain(func() (int, error) {
		return unix.Openat2(t.root, dir, &unix.OpenHow{
			Flags:   unix.O_DIRECTORY | unix.O_RDONLY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
	})
}

// retryAgain repeats what a rename elsewhere on the system can disturb: openat2 says EAGAIN then.
func retryAgain(f func() (int, error)) (int, error) {
	for range 128 {
		fd, err := f()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return f()
}

// at opens the parent of name, making it if needed, and returns its descriptor, good until the next call.
func (t *tree) at(name string) (parent int, base string, err error) {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if t.parent >= 0 && t.parentOf == dir {
		return t.parent, base, nil
	}
	if err := t.dropParent(); err != nil {
		return -1, "", err
	}
	fd, err := t.openDir(dir)
	if errors.Is(err, unix.ENOENT) {
		fd, err = t.makeParents(dir)
	}
	if err != nil {
		return -1, "", fmt.Errorf("open folder %q: %w", dir, err)
	}
	t.parent, t.parentOf = fd, dir
	return fd, base, nil
}

// makeParents makes dir and its parents as folders that the layer implies.
func (t *tree) makeParents(dir string) (int, error) {
	done := ""
	for part := range strings.SplitSeq(dir, "/") {
		next := path.Join(done, part)
		fd, err := t.openDir(next)
		if err == nil {
			err = unix.Close(fd)
		} else if errors.Is(err, unix.ENOENT) {
			err = t.implyFolder(done, part)
		}
		if err != nil {
			return -1, err
		}
		done = next
	}
	return t.openDir(dir)
}

func (t *tree) implyFolder(dir, base string) error {
	parent, err := t.openDir(path.Join(".", dir))
	if err != nil {
		return err
	}
	err = unix.Mkdirat(parent, base, 0o755)
	if errors.Is(err, unix.EEXIST) { // a link that leads nowhere stands in the way
		err = errors.Join(removeAt(parent, base), unix.Mkdirat(parent, base, 0o755))
	}
	if err = errors.Join(err, unix.Close(parent)); err != nil {
		return err
	}
	t.folders[path.Join(dir, base)] = &folderState{mode: 0o755, modTime: time.Unix(0, 0)}
	return nil
}

// clear removes what an earlier entry of the same name made.
func (t *tree) clear(parent int, base, name string) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		t.forget(name)
	}
	return removeAt(parent, base)
}

func (t *tree) forget(name string) {
	for f := range t.folders {
		if f == name || strings.HasPrefix(f, name+"/") {
			delete(t.folders, f)
		}
	}
}

// removeAt removes base, with all below it when it is a folder.
func removeAt(parent int, base string) error {
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", parent))
	if err != nil {
		return err
	}
	return errors.Join(root.RemoveAll(base), root.Close())
}

func (t *tree) folder(name string, h *tar.Header) error {
	if name == "." {
		return t.describe(t.root, name, h)
	}
	parent, base, err := t.at(name)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(parent, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		err = t.keepFolder(parent, base, name)
	}
	if err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(t.describe(fd, name, h), unix.Close(fd))
}

// keepFolder leaves a folder that is there, and replaces anything else by one.
func (t *tree) keepFolder(parent int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := t.clear(parent, base, name); err != nil {
		return err
	}
	return unix.Mkdirat(parent, base, 0o700)
}

// describe sets what can be set at once, and keeps the rest for finish.
func (t *tree) describe(fd int, name string, h *tar.Header) error {
	t.folders[name] = &folderState{explicit: true, mode: modeBits(h), modTime: h.ModTime}
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	return setXattrs(fd, h)
}

func modeBits(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

func (t *tree) file(name string, h *tar.Header, body io.Reader) error {
	parent, base, err := t.at(name)
	if err != nil {
		return err
	}
	if err := t.clear(parent, base, name); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	_, err = io.Copy(f, body)
	if err != nil && !errors.As(err, new(*os.PathError)) {
		err = readError(err)
	}
	if err == nil {
		err = finishFile(f, h)
	}
	return errors.Join(err, f.Close())
}

// finishFile sets owner, mode, attributes and times. Changing the owner clears setuid and capabilities, so it is first.
func finishFile(f *os.File, h *tar.Header) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if err := unix.Fchmod(fd, modeBits(h)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	if err := setXattrs(fd, h); err != nil {
		return err
	}
	return setTimes(fd, h.ModTime)
}

func (t *tree) symlink(name string, h *tar.Header) error {
	if h.Linkname == "" || strings.ContainsRune(h.Linkname, 0) {
		return fmt.Errorf("%w: symbolic link to nothing", ErrCorrupt)
	}
	parent, base, err := t.at(name)
	if err != nil {
		return err
	}
	if err := t.clear(parent, base, name); err != nil {
		return err
	}
	if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
		return err
	}
	return t.ownNode(parent, base, h)
}

// ownNode sets the owner of something that must not be opened.
func (t *tree) ownNode(parent int, base string, h *tar.Header) error {
	if err := unix.Fchownat(parent, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	return nil
}

func (t *tree) fifo(name string, h *tar.Header) error {
	parent, base, err := t.at(name)
	if err != nil {
		return err
	}
	if err := t.clear(parent, base, name); err != nil {
		return err
	}
	if err := unix.Mknodat(parent, base, unix.S_IFIFO|0o600, 0); err != nil {
		return err
	}
	if err := t.ownNode(parent, base, h); err != nil {
		return err
	}
	if err := unix.Fchmodat(parent, base, modeBits(h), 0); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return nil
}

// link makes a hard link to an earlier entry of the same layer.
func (t *tree) link(name, target string) error {
	if name == target {
		return fmt.Errorf("%w: hard link to itself", ErrCorrupt)
	}
	from, err := t.openDir(path.Dir(target))
	if err != nil {
		return fmt.Errorf("%w: hard link to %q: %w", ErrCorrupt, target, err)
	}
	err = t.linkFrom(from, path.Base(target), name)
	return errors.Join(err, unix.Close(from))
}

func (t *tree) linkFrom(from int, target, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, target, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("%w: hard link to %q, which the layer does not hold: %w", ErrCorrupt, target, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("%w: hard link to folder %q", ErrCorrupt, target)
	}
	parent, base, err := t.at(name)
	if err != nil {
		return err
	}
	var there unix.Stat_t
	if unix.Fstatat(parent, base, &there, unix.AT_SYMLINK_NOFOLLOW) == nil && there.Ino == st.Ino {
		return nil // the same file already: removing it first would lose it
	}
	if err := t.clear(parent, base, name); err != nil {
		return err
	}
	return unix.Linkat(from, target, parent, base, 0)
}

// opaque hides what lower layers have in dir.
func (t *tree) opaque(dir string) error {
	parent, _, err := t.at(path.Join(dir, "x"))
	if err != nil {
		return err
	}
	if err := unix.Fsetxattr(parent, opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("hide lower folder %q: %w", dir, err)
	}
	return nil
}

func (t *tree) whiteout(name string) error {
	if _, _, err := t.at(name); err != nil {
		return err
	}
	t.whiteouts = append(t.whiteouts, name)
	return nil
}

// finish makes the whiteouts, and then sets modes and times of folders.
func (t *tree) finish() error {
	for _, name := range t.whiteouts {
		parent, base, err := t.at(name)
		if err != nil {
			return fmt.Errorf("hide %q: %w", name, err)
		}
		err = unix.Mknodat(parent, base, unix.S_IFCHR, 0)
		if err != nil && !errors.Is(err, unix.EEXIST) { // what the layer brings itself stays
			return fmt.Errorf("hide %q: %w", name, err)
		}
	}
	for name, f := range t.folders {
		if err := t.finishFolder(name, f); err != nil {
			return fmt.Errorf("finish folder %q: %w", name, err)
		}
	}
	return nil
}

func (t *tree) finishFolder(name string, f *folderState) error {
	fd, err := t.openDir(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // a later entry replaced it
	}
	if err != nil {
		return err
	}
	err = unix.Fchmod(fd, f.mode)
	if err == nil {
		err = setTimes(fd, f.modTime)
	}
	return errors.Join(err, unix.Close(fd))
}
