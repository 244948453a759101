package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// source is what an image is built from: sorted entries, or a whole image.
type source struct {
	kind    string
	entries []sourceEntry
	ignored []string
	image   v1.Image // of an archive that is one

	program program // of the binary, or of the entrypoint
	binary  string  // path of the binary in the image
	closers []io.Closer
}

// sourceEntry is one entry of the layer to be. open is nil for all but regular files.
type sourceEntry struct {
	header tar.Header
	open   func() (io.ReadCloser, error)
}

func (s *source) close() {
	for _, c := range s.closers {
		_ = c.Close() // only reading
	}
}

// programName is what errors call the program.
func (s *source) programName() string {
	if s.binary != "" {
		return "the binary"
	}
	return "the entrypoint"
}

// openSource finds out what path is.
func openSource(ctx context.Context, o BuildOptions) (*source, error) {
	info, err := os.Stat(o.Path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return folderSource(o)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("want a folder, a tarball or a static binary")
	}
	magic, err := readMagic(o.Path)
	if err != nil {
		return nil, err
	}
	if isELF(magic) {
		return binarySource(o)
	}
	if bytes.HasPrefix(magic, []byte("#!")) {
		return nil, errors.New("a script needs its interpreter beside it: put both into a folder and give that, or use --base")
	}
	return archiveSource(ctx, o)
}

func readMagic(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 4)
	n, err := io.ReadFull(f, magic)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return magic[:n], errors.Join(err, f.Close())
}

// binarySource makes an image of one program.
func binarySource(o BuildOptions) (*source, error) {
	f, err := os.Open(o.Path)
	if err != nil {
		return nil, err
	}
	p, err := readProgram(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if p.interpreter != "" && o.Base == nil {
		return nil, fmt.Errorf("%w: it wants %s at run time; link it statically (Go: CGO_ENABLED=0 go build; C: -static) or give a --base image that has it",
			ErrDynamic, p.interpreter)
	}
	name := filepath.Base(o.Path)
	return &source{
		kind: "binary", program: p, binary: "/" + name,
		entries: []sourceEntry{{
			header: tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755},
			open:   func() (io.ReadCloser, error) { return os.Open(o.Path) },
		}},
	}, nil
}

// folderSource walks a folder. Nothing outside of it is read: links are stored, not followed.
func folderSource(o BuildOptions) (*source, error) {
	root, err := os.OpenRoot(o.Path)
	if err != nil {
		return nil, err
	}
	s := &source{kind: "folder", closers: []io.Closer{root}}
	links := map[inode]string{}
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		return s.addFile(root, name, links)
	})
	if err == nil {
		err = s.findProgram(o)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// addFile adds one file of a folder. What differs between machines that hold the same files is left out.
func (s *source) addFile(root *os.Root, name string, links map[inode]string) error {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	h := tar.Header{Name: name, Mode: 0o644}
	switch mode := info.Mode(); {
	case mode.IsDir():
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
	case mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
	case mode.IsRegular():
		if mode&0o100 != 0 {
			h.Mode = 0o755
		}
		return s.addRegular(root, name, h, info, links)
	default:
		s.ignored = append(s.ignored, name)
		return nil
	}
	s.entries = append(s.entries, sourceEntry{header: h})
	return nil
}

// addRegular keeps hard links as such. The walk is in order of names, so the first name is the file.
func (s *source) addRegular(root *os.Root, name string, h tar.Header, info fs.FileInfo, links map[inode]string) error {
	id, several := inodeOf(info)
	if first := links[id]; several && first != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		s.entries = append(s.entries, sourceEntry{header: h})
		return nil
	}
	links[id] = name
	h.Typeflag = tar.TypeReg
	s.entries = append(s.entries, sourceEntry{header: h, open: func() (io.ReadCloser, error) { return root.Open(name) }})
	return nil
}

// findProgram looks at the entrypoint, when it is a program in the source: its platform is the image's, and a dynamic
// one needs its loader.
func (s *source) findProgram(o BuildOptions) error {
	command := slices.Concat(o.Entrypoint, o.Cmd)
	if len(command) == 0 || !path.IsAbs(command[0]) {
		return nil
	}
	e := s.find(command[0], 0)
	if e == nil || e.open == nil {
		if o.Base == nil && s.find(command[0], 40) == nil {
			return fmt.Errorf("entrypoint %s is not in the %s", command[0], s.kind)
		}
		return nil
	}
	p, ok, err := inspect(e)
	if err != nil || !ok {
		return err
	}
	s.program = p
	if p.interpreter != "" && o.Base == nil && s.find(p.interpreter, 0) == nil {
		return fmt.Errorf("%w: %s wants %s, which is not in the %s; link it statically, add the loader and its libraries, or give a --base image that has them",
			ErrDynamic, command[0], p.interpreter, s.kind)
	}
	return nil
}

// inspect reads the ELF headers of an entry; ok is false for other files.
func inspect(e *sourceEntry) (p program, ok bool, err error) {
	r, err := e.open()
	if err != nil {
		return p, false, err
	}
	defer r.Close() // only reading
	at, seekable := r.(io.ReaderAt)
	magic := make([]byte, 4)
	if n, err := io.ReadFull(r, magic); err != nil || !isELF(magic[:n]) {
		return p, false, nil //nolint:nilerr // too short for a program
	}
	if !seekable {
		rest, err := io.ReadAll(r)
		if err != nil {
			return p, false, err
		}
		at = bytes.NewReader(append(magic, rest...))
	}
	p, err = readProgram(at)
	return p, err == nil, err
}

// find looks up an absolute path, following at most hops links at its end and any folder links on the way.
func (s *source) find(name string, hops int) *sourceEntry {
	byName := make(map[string]*sourceEntry, len(s.entries))
	for i := range s.entries {
		byName[strings.TrimSuffix(s.entries[i].header.Name, "/")] = &s.entries[i]
	}
	return resolve(byName, strings.TrimPrefix(path.Clean(name), "/"), 40+hops)
}

// resolve walks a path the way a kernel would, inside the entries.
func resolve(byName map[string]*sourceEntry, name string, hops int) *sourceEntry {
	done := ""
	parts := strings.Split(name, "/")
	for i, part := range parts {
		next := path.Join(done, part)
		e := byName[next]
		if e == nil {
			if i == len(parts)-1 {
				return nil
			}
			done = next // a folder that no entry describes
			continue
		}
		switch e.header.Typeflag {
		case tar.TypeSymlink:
			if hops--; hops < 0 {
				return nil
			}
			target := e.header.Linkname
			if !path.IsAbs(target) {
				target = path.Join("/", done, target)
			}
			rest := path.Join(append([]string{target}, parts[i+1:]...)...)
			return resolve(byName, strings.TrimPrefix(path.Clean(rest), "/"), hops)
		case tar.TypeLink:
			e = byName[e.header.Linkname]
		}
		if i == len(parts)-1 {
			return e
		}
		done = next
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
