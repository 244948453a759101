package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// archiveSource reads a tarball: a root file system, or an image.
func archiveSource(ctx context.Context, o BuildOptions) (*source, error) {
	plain, err := plainTar(ctx, o)
	if err != nil {
		return nil, err
	}
	index, err := indexTar(ctx, plain)
	if err == nil && len(index) == 0 {
		err = errors.New("the tarball is empty")
	}
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	s := &source{kind: "tarball", closers: []io.Closer{plain}}
	isImage := index["oci-layout"] != nil || index["manifest.json"] != nil && index["etc"] == nil && index["bin"] == nil
	if isImage && o.Base != nil {
		s.close()
		return nil, errors.New("the tarball is an image of its own: --base does not go with it")
	}
	switch {
	case isImage && index["oci-layout"] != nil:
		s.image, err = s.ociArchive(ctx, plain, o)
	case isImage:
		s.image, err = dockerArchive(plain)
	default:
		err = s.addArchive(index, plain, o)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// plainTar is the uncompressed tarball as a file that can be read at any place; it removes itself.
func plainTar(ctx context.Context, o BuildOptions) (*unlinked, error) {
	f, err := os.Open(o.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only reading
	r, err := decompress(contextReader{ctx, f})
	if err != nil {
		return nil, err
	}
	defer r.Close() // only reading
	tmp, err := os.CreateTemp(o.Scratch, "skerry-tar-")
	if err != nil {
		return nil, err
	}
	u := &unlinked{tmp}
	if _, err := io.Copy(tmp, r); err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return u, nil
}

// unlinked is a temporary file that goes away when it is closed.
type unlinked struct{ *os.File }

// Close implements io.Closer.
func (u *unlinked) Close() error { return errors.Join(u.File.Close(), os.Remove(u.Name())) }

// indexed is an entry of a tarball and where its content is.
type indexed struct {
	header *tar.Header
	offset int64
}

// indexTar lists the entries by clean name. A name that comes twice counts as its last.
func indexTar(ctx context.Context, f *unlinked) (map[string]*indexed, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	out := map[string]*indexed{}
	tr := tar.NewReader(contextReader{ctx, f})
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("want a tarball, plain or compressed with gzip or zstd: %w", err)
		}
		name, err := entryName(h.Name)
		if err != nil {
			return nil, err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if _, sparse := h.PAXRecords["GNU.sparse.major"]; sparse || h.Typeflag == tar.TypeGNUSparse {
			return nil, fmt.Errorf("%s is stored as a sparse file: pack without --sparse", h.Name)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		out[name] = &indexed{header: h, offset: offset}
	}
}

// addArchive takes a root file system: owners and modes stay, times and names of users do not.
func (s *source) addArchive(index map[string]*indexed, f *unlinked, o BuildOptions) error {
	links := canonicalLinks(index)
	for name, e := range index {
		if name == "." {
			continue
		}
		if err := s.addArchived(name, e, links, index, f); err != nil {
			return fmt.Errorf("%s: %w", e.header.Name, err)
		}
	}
	slices.Sort(s.ignored)
	return s.findProgram(o)
}

func (s *source) addArchived(name string, e *indexed, links map[string]string, index map[string]*indexed, f *unlinked) error {
	if strings.HasPrefix(path.Base(name), whiteoutPrefix) {
		return errors.New("the tarball is a layer with whiteouts, not a root file system")
	}
	content := e
	if e.header.Typeflag == tar.TypeLink {
		target, err := entryName(e.header.Linkname)
		if err != nil {
			return err
		}
		if content = index[linkEnd(index, target)]; content == nil {
			return fmt.Errorf("hard link to %s, which the tarball does not hold", e.header.Linkname)
		}
	}
	h := tar.Header{Name: name, Mode: content.header.Mode & 0o7777, Uid: content.header.Uid, Gid: content.header.Gid, PAXRecords: xattrsOf(content.header)}
	var open func() (io.ReadCloser, error)
	switch content.header.Typeflag {
	case tar.TypeReg:
		h.Typeflag, h.Size = tar.TypeReg, content.header.Size
		if first := links[name]; first != name {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			break
		}
		open = func() (io.ReadCloser, error) {
			return section{io.NewSectionReader(f, content.offset, content.header.Size)}, nil
		}
	case tar.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case tar.TypeSymlink:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, content.header.Linkname, 0o777
	case tar.TypeFifo:
		h.Typeflag = tar.TypeFifo
	default:
		s.ignored = append(s.ignored, name)
		return nil
	}
	s.entries = append(s.entries, sourceEntry{header: h, open: open})
	return nil
}

type section struct{ *io.SectionReader }

// Close implements io.Closer.
func (section) Close() error { return nil }

func xattrsOf(h *tar.Header) map[string]string {
	out := map[string]string{}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, paxXattr); ok && allowedXattr(name) {
			out[k] = v
		}
	}
	return out
}

// canonicalLinks maps every name of a file to the first of its names, so that the order of the tarball does not matter
// and a link never comes before its file.
func canonicalLinks(index map[string]*indexed) map[string]string {
	first := map[string]string{}
	for name, e := range index {
		end := name
		if e.header.Typeflag == tar.TypeLink {
			target, err := entryName(e.header.Linkname)
			if err != nil {
				continue
			}
			end = linkEnd(index, target)
		}
		if f, ok := first[end]; !ok || name < f {
			first[end] = name
		}
	}
	out := map[string]string{}
	for name, e := range index {
		end := name
		if e.header.Typeflag == tar.TypeLink {
			target, err := entryName(e.header.Linkname)
			if err != nil {
				continue
			}
			end = linkEnd(index, target)
		}
		out[name] = first[end]
	}
	return out
}

// linkEnd follows hard links to hard links.
func linkEnd(index map[string]*indexed, name string) string {
	for range 40 {
		e := index[name]
		if e == nil || e.header.Typeflag != tar.TypeLink {
			return name
		}
		next, err := entryName(e.header.Linkname)
		if err != nil {
			return name
		}
		name = next
	}
	return name
}

// dockerArchive is an image as docker save writes it, read from the archive while the source is open.
func dockerArchive(f *unlinked) (v1.Image, error) {
	opener := func() (io.ReadCloser, error) { return section{io.NewSectionReader(f, 0, 1<<62)}, nil }
	img, err := tarball.Image(opener, nil)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	return img, nil
}

// ociArchive is an OCI layout in a tarball.
func (s *source) ociArchive(ctx context.Context, f *unlinked, o BuildOptions) (v1.Image, error) {
	dir, err := os.MkdirTemp(o.Scratch, "skerry-oci-")
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, folder(dir))
	if err := extractFiles(ctx, f, dir); err != nil {
		return nil, err
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	if len(list.Manifests) != 1 || !list.Manifests[0].MediaType.IsImage() {
		return nil, fmt.Errorf("the archive holds %d images, want exactly one for one platform", len(list.Manifests))
	}
	img, err := index.Image(list.Manifests[0].Digest)
	if err != nil {
		return nil, fmt.Errorf("read image archive: %w", err)
	}
	return img, nil
}

// folder is a temporary folder that goes away when it is closed.
type folder string

// Close implements io.Closer.
func (f folder) Close() error { return os.RemoveAll(string(f)) }

// extractFiles writes the regular files of a tarball below dir, through os.Root.
func extractFiles(ctx context.Context, f *unlinked, dir string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // a folder's descriptor
	tr := tar.NewReader(contextReader{ctx, f})
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := extractFile(root, h, tr); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func extractFile(root *os.Root, h *tar.Header, r io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
