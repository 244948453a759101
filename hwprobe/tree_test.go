package hwprobe

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// A captured board is a text file: lines "path = value" for files of one line, "path -> target" for symbolic links,
// "path/" for empty folders, and "path <<" before the lines of a longer file, which a line of two dots ends. A line that
// begins with # is a comment; \0 in a value is a NUL. Files end with a newline, as the kernel's do, or with a NUL, as those
// of a device tree do.

func readBoard(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".board"))
	if err != nil {
		t.Fatal(err)
	}
	board, err := parseBoard(string(data))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return board
}

func parseBoard(text string) (fstest.MapFS, error) {
	board := fstest.MapFS{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" || line[0] == '#' {
			continue
		}
		name, file, long := parseBoardLine(line)
		if file == nil || !fs.ValidPath(name) || board[name] != nil {
			return nil, fmt.Errorf("line %d: %q makes no sense, or comes twice", i+1, line)
		}
		if long {
			end := slices.Index(lines[i+1:], "..")
			if end < 0 {
				return nil, fmt.Errorf("line %d: %s has no end", i+1, name)
			}
			file.Data = []byte(strings.Join(lines[i+1:i+1+end], "\n") + "\n")
			i += end + 1
		}
		board[name] = file
	}
	return board, nil
}

func parseBoardLine(line string) (name string, file *fstest.MapFile, long bool) {
	if name, value, ok := strings.Cut(line, " = "); ok {
		data := strings.ReplaceAll(value, `\0`, "\x00")
		if !strings.HasSuffix(data, "\x00") {
			data += "\n"
		}
		return name, &fstest.MapFile{Data: []byte(data), Mode: 0o444}, false
	}
	if name, target, ok := strings.Cut(line, " -> "); ok {
		return name, &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}, false
	}
	if name, ok := strings.CutSuffix(line, " <<"); ok {
		return name, &fstest.MapFile{Mode: 0o444}, true
	}
	if name, ok := strings.CutSuffix(line, " ="); ok {
		return name, &fstest.MapFile{Data: []byte("\n"), Mode: 0o444}, false
	}
	if name, ok := strings.CutSuffix(line, "/"); ok {
		return name, &fstest.MapFile{Mode: fs.ModeDir | 0o555}, false
	}
	return "", nil, false
}

// writeBoard is the reverse of parseBoard.
func writeBoard(board fstest.MapFS) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(board)) {
		file := board[name]
		text := strings.TrimSuffix(string(file.Data), "\n")
		switch {
		case file.Mode&fs.ModeSymlink != 0:
			fmt.Fprintf(&out, "%s -> %s\n", name, text)
		case file.Mode.IsDir():
			fmt.Fprintf(&out, "%s/\n", name)
		case strings.Contains(text, "\n"):
			fmt.Fprintf(&out, "%s <<\n%s\n..\n", name, text)
		default:
			fmt.Fprintf(&out, "%s = %s\n", name, strings.ReplaceAll(text, "\x00", `\0`))
		}
	}
	return out.String()
}

// recorder is a file system that keeps what is read through it: a captured board holds just that.
type recorder struct {
	fs.FS
	board fstest.MapFS
}

// Open reads a file once only: a sensor would say something else the next time.
func (r *recorder) Open(name string) (fs.File, error) {
	r.follow(name)
	real := r.real(name)
	if file := r.board[real]; file == nil || file.Data == nil {
		data, err := fs.ReadFile(r.FS, name)
		if err != nil {
			return r.FS.Open(name)
		}
		r.board[real] = &fstest.MapFile{Data: append([]byte{}, data...), Mode: 0o444}
	}
	return r.board.Open(real)
}

func (r *recorder) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(r.FS, name)
	if err == nil {
		r.follow(name)
		mode := fs.FileMode(0o444)
		if info.IsDir() {
			mode = fs.ModeDir | 0o555
		}
		if real := r.real(name); r.board[real] == nil {
			r.keep(name, &fstest.MapFile{Mode: mode})
		}
	}
	return info, err
}

func (r *recorder) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(r.FS, name)
	if err != nil {
		return nil, err
	}
	r.follow(name)
	for _, e := range entries {
		child := name + "/" + e.Name()
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			r.link(r.real(name) + "/" + e.Name())
		case r.board[r.real(child)] == nil && e.IsDir():
			r.keep(child, &fstest.MapFile{Mode: fs.ModeDir | 0o555})
		case r.board[r.real(child)] == nil:
			r.keep(child, &fstest.MapFile{Mode: 0o444})
		}
	}
	return entries, nil
}

func (r *recorder) ReadLink(name string) (string, error) {
	target, err := fs.ReadLink(r.FS, name)
	if err == nil {
		r.follow(filepath.Dir(name))
		r.link(r.real(filepath.Dir(name)) + "/" + filepath.Base(name))
	}
	return target, err
}

func (r *recorder) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(r.FS, name) }

func (r *recorder) keep(name string, file *fstest.MapFile) { r.board[r.real(name)] = file }

// link keeps a symbolic link whose folder is real.
func (r *recorder) link(name string) {
	if target, err := fs.ReadLink(r.FS, name); err == nil {
		r.board[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	}
}

// follow keeps the links on the way to name.
func (r *recorder) follow(name string) { r.walk(name, r.link) }

// real is where name lies once all links are followed.
func (r *recorder) real(name string) string { return r.walk(name, func(string) {}) }

func (r *recorder) walk(name string, linked func(string)) string {
	at := ""
	parts := strings.Split(name, "/")
	for hops := 0; len(parts) > 0 && hops < 256; hops++ {
		next := strings.TrimPrefix(at+"/"+parts[0], "/")
		parts = parts[1:]
		target, err := fs.ReadLink(r.FS, next)
		if err != nil || filepath.IsAbs(target) {
			at = next
			continue
		}
		linked(next)
		parts = append(strings.Split(filepath.Join(at, target), "/"), parts...)
		at = ""
	}
	return at
}

func TestBoardFormat(t *testing.T) {
	for _, name := range boards(t) {
		board := readBoard(t, name)
		again, err := parseBoard(writeBoard(board))
		if err != nil {
			t.Fatal(err)
		}
		for path, file := range board {
			if other := again[path]; other == nil || !bytes.Equal(other.Data, file.Data) || other.Mode != file.Mode {
				t.Errorf("%s: %s is not read as it was written", name, path)
			}
		}
	}
	for _, text := range []string{"no line of any kind", "a <<\nb", "a = 1\na = 2", "/a = 1", "../a = 1"} {
		if _, err := parseBoard(text); err == nil {
			t.Errorf("%q was taken for a board", text)
		}
	}
}

func boards(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.board")
	if err != nil || len(files) == 0 {
		t.Fatalf("no boards: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".board")
	}
	return files
}
