package images

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// tree is a root file system that is being put together. Names have no leading slash.
type tree map[string]entry

// entry is a file, a folder or a link.
type entry struct {
	mode    fs.FileMode // permission bits, and setuid
	folder  bool
	link    string // target of a symbolic link
	source  string // path of the content on this machine; empty means content
	content []byte
}

func (t tree) dir(mode fs.FileMode, names ...string) {
	for _, name := range names {
		t[name] = entry{folder: true, mode: mode}
	}
}

func (t tree) text(name, content string) { t[name] = entry{mode: 0o644, content: []byte(content)} }

func (t tree) program(name, source string) { t[name] = entry{mode: 0o755, source: source} }

func (t tree) symlink(name, target string) { t[name] = entry{link: target} }

// folder takes everything below a folder of this machine.
func (t tree) folder(name, source string) error {
	return filepath.WalkDir(source, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		below, err := filepath.Rel(source, file)
		t[path.Join(name, below)] = entry{mode: 0o644, source: file}
		return err
	})
}

// take takes a dynamically linked program of Debian with the libraries and the loader that it needs.
func (t tree) take(debian, name string) error {
	if _, have := t[name]; have {
		return nil
	}
	resolved, err := resolve(debian, name)
	if err != nil {
		return fmt.Errorf("take %s of Debian: %w", name, err)
	}
	t.program(name, resolved)
	needs, err := libraries(resolved)
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", name, err)
	}
	for _, library := range needs {
		found, err := find(debian, library)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := t.take(debian, found); err != nil {
			return err
		}
	}
	return nil
}

// resolve follows links within Debian's root. Where Debian has moved a folder into /usr, the file is found there.
func resolve(debian, name string) (string, error) {
	if _, err := os.Lstat(filepath.Join(debian, name)); errors.Is(err, fs.ErrNotExist) {
		name = path.Join("usr", name)
	}
	for range 10 {
		file := filepath.Join(debian, name)
		target, err := os.Readlink(file)
		switch {
		case errors.Is(err, unix.EINVAL): // not a link
			return file, nil
		case err != nil:
			return "", err
		case path.IsAbs(target):
			name = target
		default:
			name = path.Join(path.Dir(name), target)
		}
	}
	return "", fmt.Errorf("%s: too many links", name)
}

// libraries returns what the loader looks for: names, and the path of the loader itself.
func libraries(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	needs, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(p.Open())
		if err != nil {
			return nil, err
		}
		needs = append(needs, strings.TrimRight(string(loader), "\x00"))
	}
	return needs, nil
}

// find returns where Debian keeps a library, relative to its root.
func find(debian, library string) (string, error) {
	if path.IsAbs(library) {
		return library[1:], nil
	}
	for _, pattern := range []string{"lib/*-linux-gnu*", "usr/lib/*-linux-gnu*"} {
		found, err := filepath.Glob(filepath.Join(debian, pattern, library))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return filepath.Rel(debian, found[0])
		}
	}
	return "", fmt.Errorf("library %s is in none of the packages", library)
}

// write writes the tree as a tarball, folders first, the same bytes for the same tree.
func (t tree) write(file string) (err error) {
	t.addFolders()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w := tar.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := t[name].write(w, name); err != nil {
			return fmt.Errorf("write %s into %s: %w", name, file, err)
		}
	}
	return w.Close()
}

func (t tree) addFolders() {
	for _, name := range slices.Collect(maps.Keys(t)) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, have := t[dir]; !have {
				t.dir(0o755, dir)
			}
		}
	}
}

func (e entry) write(w *tar.Writer, name string) error {
	h := tar.Header{Name: name, Mode: int64(e.mode.Perm())}
	if e.mode&fs.ModeSetuid != 0 {
		h.Mode |= 0o4000
	}
	if e.mode&fs.ModeSticky != 0 {
		h.Mode |= 0o1000
	}
	switch {
	case e.folder:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return w.WriteHeader(&h)
	case e.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.link, 0o777
		return w.WriteHeader(&h)
	case e.source != "":
		return e.copy(w, &h)
	}
	h.Typeflag, h.Size = tar.TypeReg, int64(len(e.content))
	if err := w.WriteHeader(&h); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(e.content))
	return err
}

func (e entry) copy(w *tar.Writer, h *tar.Header) error {
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
