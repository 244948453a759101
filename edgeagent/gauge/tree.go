package gauge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/eviction"
)

// Bounds of a walk: it holds one descriptor for each level, and remembers files with several names.
const (
	maxDepth = 512
	maxLinks = 1 << 16
	atOnce   = 256 // names read of a folder
	sector   = 512 // what stat counts in
)

// ErrDeep means that a tree is deeper than anybody needs; the deepest of it was not counted.
var ErrDeep = errors.New("folders are nested too deeply to be measured")

// Tree measures what is at path and below it on the same file system. A file with several names counts once. What vanishes
// meanwhile does not count, nor does a path that is not there. With an error the result is what was counted so far.
func Tree(ctx context.Context, path string) (eviction.Disk, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return eviction.Disk{}, nil
	}
	if err != nil {
		return eviction.Disk{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	w := walk{ctx: ctx, seen: map[uint64]bool{}}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.sum, errors.Join(&os.PathError{Op: "stat", Path: path, Err: err}, unix.Close(fd))
	}
	w.device = uint64(st.Dev) //nolint:unconvert // 32 bits on some machines
	w.count(&st)
	if err := w.folder(os.NewFile(uintptr(fd), path), 1); err != nil {
		return w.sum, fmt.Errorf("measure %s: %w", path, err)
	}
	return w.sum, nil
}

type walk struct {
	ctx    context.Context //nolint:containedctx // of one call
	device uint64
	seen   map[uint64]bool // inodes with several names
	sum    eviction.Disk
}

func (w *walk) count(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR && len(w.seen) < maxLinks {
		if w.seen[st.Ino] {
			return
		}
		w.seen[st.Ino] = true
	}
	w.sum.Bytes += st.Blocks * sector
	w.sum.Inodes++
}

// folder counts what is in f, and closes it.
func (w *walk) folder(f *os.File, depth int) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if depth > maxDepth {
		return ErrDeep
	}
	var deep error
	for {
		names, err := f.Readdirnames(atOnce)
		for _, name := range names {
			if err := w.entry(f, name, depth); err != nil {
				deep = err
			}
			if err := w.ctx.Err(); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) {
				err = nil
			}
			return errors.Join(deep, err)
		}
	}
}

func (w *walk) entry(parent *os.File, name string, depth int) error {
	var st unix.Stat_t
	fd := int(parent.Fd()) //nolint:gosec // a descriptor
	err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || err == nil && uint64(st.Dev) != w.device { //nolint:unconvert // 32 bits on some machines
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: name, Err: err}
	}
	w.count(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	child, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil // it was there a moment ago
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	return w.folder(os.NewFile(uintptr(child), name), depth+1)
}
