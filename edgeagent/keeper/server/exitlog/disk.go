package exitlog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File is an open log file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
	// Size is the length in bytes.
	Size() (int64, error)
}

// Disk is the one folder a log lives in. Names are plain file names.
type Disk interface {
	// Open opens a file for reading and writing, and creates it empty when it is missing.
	Open(name string) (File, error)
	Rename(from, to string) error
	// SyncDir makes creations and renames durable.
	SyncDir() error
	Close() error
}

// OpenDisk returns the folder at path, which must exist.
func OpenDisk(path string) (Disk, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open exit log folder: %w", err)
	}
	return &folder{root: root}, nil
}

type folder struct{ root *os.Root }

// Open is Disk's.
func (d *folder) Open(name string) (File, error) {
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return plainFile{f}, nil
}

// Rename is Disk's.
func (d *folder) Rename(from, to string) error { return d.root.Rename(from, to) }

// SyncDir is Disk's.
func (d *folder) SyncDir() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Close lets the folder go.
func (d *folder) Close() error { return d.root.Close() }

type plainFile struct{ *os.File }

// Size is File's.
func (f plainFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// reserve asks the file system to keep room for a whole log, so that a disk filled by others cannot stop exits from being
// recorded. File systems that cannot are left alone.
func reserve(f File, size int64) {
	if p, ok := f.(plainFile); ok {
		_ = unix.Fallocate(int(p.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
}
