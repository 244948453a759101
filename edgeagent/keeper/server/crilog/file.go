// Package crilog writes what containers print to files in the format of the container runtime interface:
// "<RFC 3339 time> stdout F <line>", P instead of F for a part of a line.
//
// Its neighbour is keeper/server, which hands it the reading ends of a container's pipes. It must not know containers. It never blocks a container for good: what cannot
// be written, because the disk is full, is read, dropped and counted, and the count is written when writing works again.
package crilog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// File is one container's log with its rotated predecessors path.1 (newest), path.2 and so on. Safe for concurrent use.
type File struct {
	path     string
	maxBytes int64
	maxFiles int

	mu      sync.Mutex
	file    *os.File // nil when it cannot be opened
	closed  bool
	size    int64
	dropped drops
}

// drops counts what was not written since the last successful write.
type drops struct {
	lines int
	bytes int64
	cause error
}

// Open opens the log for appending and makes its folder when missing. maxBytes bounds each file, maxFiles (at least one) all of them. A
// line that a crash cut short is ended.
func Open(path string, maxBytes int64, maxFiles int) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &File{path: path, maxBytes: maxBytes, maxFiles: maxFiles}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	if endsInLine(f, l.size) {
		return nil
	}
	n, err := f.Write([]byte{'\n'})
	l.size += int64(n)
	return err
}

func endsInLine(f *os.File, size int64) bool {
	if size == 0 {
		return true
	}
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return err != nil || last[0] == '\n'
}

// Close closes the file. What a pump still writes after it is dropped.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// write appends whole formatted lines, rotating before them when they would not fit. It reports nothing: what fails is counted and noted later.
func (l *File) write(data []byte, lines int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.put(data, now); err != nil {
		l.dropped.lines += lines
		l.dropped.bytes += int64(len(data))
		l.dropped.cause = err
	}
}

func (l *File) put(data []byte, now time.Time) error {
	if l.closed {
		return os.ErrClosed
	}
	if l.size > 0 && l.size+int64(len(data)) > l.maxBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.dropped.lines > 0 {
		if err := l.append(l.dropped.note(now)); err != nil {
			return err
		}
		l.dropped = drops{}
	}
	return l.append(data)
}

// append writes all of data or, as far as the disk lets us, none of it.
func (l *File) append(data []byte) error {
	n, err := l.file.Write(data)
	if err == nil {
		l.size += int64(n)
		return nil
	}
	if n > 0 {
		if cut := l.file.Truncate(l.size); cut != nil {
			l.size += int64(n)
			return errors.Join(err, cut)
		}
	}
	return err
}

func (d drops) note(now time.Time) []byte {
	text := fmt.Sprintf("[skerry: %d lines, %d bytes were not logged: %v]", d.lines, d.bytes, d.cause)
	return appendLine(nil, now, "stderr", true, []byte(text))
}

// rotate moves the files one number up, dropping the oldest, and starts a new one. A crash in between leaves a gap in the numbers, no loss.
func (l *File) rotate() error {
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
		l.file = nil
	}
	for i := l.maxFiles - 1; i > 0; i-- {
		if err := os.Rename(l.name(i-1), l.name(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if l.maxFiles == 1 {
		if err := os.Truncate(l.path, 0); err != nil {
			return err
		}
	}
	l.size = 0
	return l.open()
}

func (l *File) name(i int) string {
	if i == 0 {
		return l.path
	}
	return l.path + "." + strconv.Itoa(i)
}

// appendLine formats one line, or a part of one.
func appendLine(dst []byte, now time.Time, stream string, full bool, text []byte) []byte {
	dst = now.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, ' ')
	dst = append(dst, stream...)
	if full {
		dst = append(dst, " F "...)
	} else {
		dst = append(dst, " P "...)
	}
	return append(append(dst, text...), '\n')
}

// Discard reads r to its end and drops everything, for containers without a log.
func Discard(r io.Reader) {
	buf := takeBuffer()
	defer buffers.Put(buf)
	for {
		if _, err := r.Read(buf[:]); err != nil {
			return
		}
	}
}
