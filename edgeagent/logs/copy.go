package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// pollEvery is how often a followed log is looked at, while somebody follows it.
const pollEvery = 100 * time.Millisecond

// maxLine is the longest line read as one; what is longer comes in pieces. The keeper writes far shorter ones.
const maxLine = 64 << 10

// errLimit ends a copy whose byte limit is reached.
var errLimit = errors.New("byte limit reached")

// Copy writes the wanted part of a log to w. With Follow it goes on until ended says that the instance has ended and all
// of its log is written, or ctx ends, which is no error. ErrNoLog: there is nothing to read.
func (f *Folder) Copy(ctx context.Context, w io.Writer, r Request, ended func() bool) error {
	if err := errors.Join(checkName("pod uid", r.UID), checkName("container", r.Container)); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return fmt.Errorf("%w of container %s", ErrNoLog, r.Container)
	}
	defer func() { _ = root.Close() }() // a descriptor of a folder
	c := &copier{root: root, dir: filepath.Join(r.UID, r.Container), w: w, o: r.Options, left: r.LimitBytes, lineStart: true}
	err = c.run(ctx, ended)
	if errors.Is(err, errLimit) || (ctx.Err() != nil && errors.Is(err, ctx.Err())) {
		return nil
	}
	return err
}

type copier struct {
	root      *os.Root
	dir       string
	w         io.Writer
	o         Options
	left      int64 // of LimitBytes
	lineStart bool
	current   *os.File // the file without a number, read to its end
}

func (c *copier) run(ctx context.Context, ended func() bool) error {
	names, err := list(c.root, c.dir)
	if err != nil {
		return err
	}
	attempt, ok := instance(names, c.o.Previous)
	if !ok {
		if c.o.Previous {
			return fmt.Errorf("%w of an instance before the present one", ErrNoLog)
		}
		return fmt.Errorf("%w of container %s", ErrNoLog, filepath.Base(c.dir))
	}
	defer c.close()
	if err := c.existing(parts(names, attempt)); err != nil {
		return err
	}
	if !c.o.Follow || c.o.Previous {
		return nil
	}
	return c.follow(ctx, filepath.Join(c.dir, strconv.Itoa(attempt)+suffix), ended)
}

func (c *copier) close() {
	if c.current != nil {
		_ = c.current.Close() // only read from
	}
}

// existing copies what is there. The newest file stays open: following goes on from where reading ended.
func (c *copier) existing(names []string) error {
	files, err := c.open(names)
	if err != nil {
		return err
	}
	skip, err := c.tailStart(files)
	for i, f := range files {
		last := i == len(files)-1
		if err == nil && i >= skip {
			err = c.lines(f)
		}
		if last {
			c.current = f
			continue
		}
		_ = f.Close() // only read from
	}
	return err
}

func (c *copier) open(names []string) ([]*os.File, error) {
	var files []*os.File
	for _, n := range names {
		f, err := c.root.Open(filepath.Join(c.dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away since we looked
		}
		if err != nil {
			for _, g := range files {
				_ = g.Close() // only read from
			}
			return nil, fmt.Errorf("open log: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// tailStart moves the files' positions to the last lines that are wanted and returns the first file that has any.
func (c *copier) tailStart(files []*os.File) (int, error) {
	want := c.o.Tail
	if want < 0 {
		return 0, nil
	}
	for i, file := range slices.Backward(files) {
		at, found, err := lastLines(file, want)
		if err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		if _, err := file.Seek(at, io.SeekStart); err != nil {
			return 0, fmt.Errorf("read log: %w", err)
		}
		if want -= found; want <= 0 {
			return i, nil
		}
	}
	return 0, nil
}

// lastLines returns where the last n lines of f begin, and how many of them f has.
func lastLines(f *os.File, n int64) (offset, found int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	end := info.Size()
	if n == 0 {
		return end, 0, nil
	}
	buf := make([]byte, 32<<10)
	for start := end; start > 0; {
		size := min(int64(len(buf)), start)
		start -= size
		if _, err := f.ReadAt(buf[:size], start); err != nil {
			return 0, 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || start+i == end-1 {
				continue
			}
			if found++; found == n {
				return start + i + 1, found, nil
			}
		}
	}
	if end > 0 {
		found++
	}
	return 0, found, nil
}

// lines copies whole lines from f's position on and leaves the position behind the last whole line.
func (c *copier) lines(f *os.File) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	r := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			_, err = f.Seek(at, io.SeekStart)
			return err
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read log: %w", err)
		}
		at += int64(len(line))
		if err := c.line(line); err != nil {
			return err
		}
	}
}

// line writes one entry. What is not a log line (a file damaged by a power cut) is left out.
func (c *copier) line(raw []byte) error {
	raw = trimEnd(raw)
	l, err := ParseLine(raw)
	if err != nil || (c.o.Stream != "" && l.Stream != c.o.Stream) || l.Time.Before(c.o.Since) {
		return nil //nolint:nilerr // said above
	}
	out := make([]byte, 0, len(raw)+1)
	if c.o.Timestamps && c.lineStart {
		out = l.Time.AppendFormat(out, time.RFC3339Nano)
		out = append(out, ' ')
	}
	out = append(out, l.Text...)
	if !l.Partial {
		out = append(out, '\n')
	}
	c.lineStart = !l.Partial
	return c.write(out)
}

func trimEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	return b
}

func (c *copier) write(b []byte) error {
	limited := c.o.LimitBytes > 0
	if limited && int64(len(b)) >= c.left {
		b = b[:c.left]
	}
	c.left -= int64(len(b))
	if _, err := c.w.Write(b); err != nil {
		return fmt.Errorf("send log: %w", err)
	}
	if limited && c.left <= 0 {
		return errLimit
	}
	return nil
}

// follow copies what is added to the file at path, and goes over to the new file when it is rotated.
func (c *copier) follow(ctx context.Context, path string, ended func() bool) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		over := ended()
		if err := c.catchUp(path); err != nil {
			return err
		}
		if over {
			return nil // it had ended before the last look
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *copier) catchUp(path string) error {
	if c.current != nil {
		if err := c.lines(c.current); err != nil {
			return err
		}
	}
	fresh, err := c.root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // in the middle of a rotation
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if c.current != nil && same(c.current, fresh) {
		return fresh.Close()
	}
	if c.current != nil {
		// Lines may have come between our last look and the rotation.
		if err := errors.Join(c.lines(c.current), c.current.Close()); err != nil {
			return errors.Join(err, fresh.Close())
		}
	}
	c.current = fresh
	return c.lines(fresh)
}

func same(a, b *os.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
