package crilog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string, maxBytes int64, maxFiles int) *File {
	t.Helper()
	l, err := Open(path, maxBytes, maxFiles)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// chunks is a source that gives its pieces one read at a time.
type chunks struct{ pieces [][]byte }

func (c *chunks) Ready() error { return nil }

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

// entries reads a log back as "stream tag text" without times.
func entries(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		at, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse(time.RFC3339Nano, at); !ok || err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		out = append(out, rest)
	}
	return out
}

func TestPump(t *testing.T) {
	full := strings.Repeat("x", maxPartBytes)
	for _, c := range []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"lines", []string{"a\nb\n"}, []string{"stdout F a", "stdout F b"}},
		{"empty lines", []string{"\n\n"}, []string{"stdout F ", "stdout F "}},
		{"in pieces", []string{"a", "b", "c\nd", "\n"}, []string{"stdout F abc", "stdout F d"}},
		{"no newline at the end", []string{"a\nb"}, []string{"stdout F a", "stdout P b"}},
		{"as long as a part", []string{full, "\n"}, []string{"stdout P " + full, "stdout F "}},
		{"as long as a part at once", []string{full + "\n"}, []string{"stdout P " + full, "stdout F "}},
		{"longer than a part", []string{full + "yz\nq\n"}, []string{"stdout P " + full, "stdout F yz", "stdout F q"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "deep", "log")
			src := &chunks{}
			for _, p := range c.pieces {
				src.pieces = append(src.pieces, []byte(p))
			}
			Pump(open(t, path, 1<<30, 1), "stdout", src)
			if got := entries(t, path); strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got %.200q\nwant %.200q", got, c.want)
			}
		})
	}
}

func TestRotation(t *testing.T) {
	for _, files := range []int{1, 2, 3} {
		path := filepath.Join(t.TempDir(), "log")
		l := open(t, path, 100, files)
		for i := range 20 {
			l.write(fmt.Appendf(nil, "%039d\n", i), 1, time.Time{})
		}
		names, err := filepath.Glob(path + "*")
		if err != nil || len(names) != files {
			t.Errorf("%d files: got %v, %v", files, names, err)
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.HasSuffix(data, []byte("19\n")) || len(data) > 100 {
			t.Errorf("%d files: newest is %q, %v", files, data, err)
		}
	}
}

// TestTornLine: a line that a crash cut short is ended, not continued.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path, 1<<20, 1).write([]byte("whole\n"), 1, time.Time{})
	if data, err := os.ReadFile(path); err != nil || string(data) != "torn\nwhole\n" {
		t.Errorf("got %q, %v", data, err)
	}
}

// TestClosedStaysClosed: a pump that is late does not bring a removed log back.
func TestClosedStaysClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := open(t, path, 1<<20, 1)
	if err := errors.Join(l.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	Pump(l, "stdout", &chunks{pieces: [][]byte{[]byte("late\n")}})
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is back: %v", err)
	}
}

func TestSymlinkRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 1<<20, 1); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
}

// TestFullDisk: the pump goes on when nothing can be written, and says afterwards what is missing.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs as a full disk")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	l := open(t, path, 1<<20, 1)
	line := strings.Repeat("x", 1000) + "\n"
	Pump(l, "stdout", &chunks{pieces: bytes.SplitAfter([]byte(strings.Repeat(line, 100)), []byte("\n"))})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	Pump(l, "stdout", &chunks{pieces: [][]byte{[]byte("after\n")}})
	got := entries(t, path)
	if len(got) < 3 || got[len(got)-1] != "stdout F after" {
		t.Fatalf("end of the log: %.100q", got[len(got)-1])
	}
	note := got[len(got)-2]
	var lines, size int
	if _, err := fmt.Sscanf(note, "stderr F [skerry: %d lines, %d bytes were not logged:", &lines, &size); err != nil {
		t.Fatalf("note %q: %v", note, err)
	}
	if kept := len(got) - 2; lines == 0 || kept+lines != 100 {
		t.Errorf("kept %d, dropped %d of 100", kept, lines)
	}
}

func FuzzPump(f *testing.F) {
	f.Add([]byte("a\nb"), 1)
	f.Add(bytes.Repeat([]byte("x"), 3*maxPartBytes), 1000)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		path := filepath.Join(t.TempDir(), "log")
		src := &chunks{}
		if cut > 0 && cut < len(data) {
			src.pieces = [][]byte{data[:cut:cut], data[cut:]}
		} else if len(data) > 0 {
			src.pieces = [][]byte{data}
		}
		Pump(open(t, path, 1<<30, 1), "stdout", src)
		var back []byte
		for _, e := range entries(t, path) {
			text := strings.TrimPrefix(e, "stdout ")
			back = append(back, text[2:]...)
			if text[0] == 'F' {
				back = append(back, '\n')
			}
		}
		want := data
		if len(data) > 0 && data[len(data)-1] != '\n' {
			want = append(append([]byte(nil), data...), '\n')
		}
		if !bytes.Equal(bytes.TrimSuffix(back, []byte("\n")), bytes.TrimSuffix(want, []byte("\n"))) {
			t.Errorf("got back %.100q of %.100q", back, want)
		}
	})
}
