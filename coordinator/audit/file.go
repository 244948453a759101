package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// file is a log file of whole lines, which is rotated by size. One goroutine uses it.
type file struct {
	path string
	max  int64 // bytes
	keep int   // rotated files

	f    *os.File // nil: to be opened
	size int64
}

// open makes the folder and the file, or goes on with the one that is there. Half a line at its end, which a power cut
// leaves, is cut off.
func (l *file) open() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	l.f = f
	if l.size, err = wholeLines(f); err == nil {
		err = l.tidy()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", l.path, err), l.close())
	}
	return nil
}

// tidy makes the file as it should be: owned only by us, without what is behind its last whole line.
func (l *file) tidy() error {
	if err := errors.Join(l.f.Chmod(0o600), l.f.Truncate(l.size)); err != nil {
		return err
	}
	_, err := l.f.Seek(l.size, 0)
	return err
}

// wholeLines is where the last whole line ends.
func wholeLines(f *os.File) (int64, error) {
	end, err := f.Seek(0, 2)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for end > 0 {
		part := buf[:min(end, int64(len(buf)))]
		start := end - int64(len(part))
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// append writes a line, whole or not at all, and rotates before when it would not fit.
func (l *file) append(line []byte) error {
	if l.f == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.size > 0 && l.size+int64(len(line)) > l.max {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.f.Write(line)
	if err != nil {
		if n > 0 { // the next open would cut it off, too
			err = errors.Join(err, l.tidy())
		}
		return err
	}
	l.size += int64(n)
	return nil
}

// rotate makes room for a new file. It moves what is there up to the first gap, so that a rotation that was cut short
// loses nothing when it is repeated.
func (l *file) rotate() error {
	if err := l.close(); err != nil {
		return err
	}
	if l.keep == 0 {
		if err := os.Remove(l.path); err != nil {
			return err
		}
		return l.open()
	}
	gap := 1
	for ; gap < l.keep; gap++ {
		if _, err := os.Lstat(l.rotated(gap)); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	for i := gap; i > 1; i-- {
		if err := os.Rename(l.rotated(i-1), l.rotated(i)); err != nil {
			return err
		}
	}
	if err := os.Rename(l.path, l.rotated(1)); err != nil {
		return err
	}
	return l.open()
}

func (l *file) rotated(i int) string { return l.path + "." + strconv.Itoa(i) }

func (l *file) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}
