package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Whiteout names of the image specification.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	// whiteoutMeta begins names that storage drivers once kept for themselves; they mean nothing to others.
	whiteoutMeta = ".wh..wh."
)

// Limits bound what a layer may unpack to. Zero values mean the defaults.
type Limits struct {
	Bytes   int64 // of all files and of the tar stream itself; default 64 GiB
	Entries int   // files, folders and links; default 2 million
	// Ratio is the largest ratio of unpacked to packed bytes, looked at once RatioFrom bytes are unpacked. The default
	// is 500 from 1 GiB on.
	Ratio     int64
	RatioFrom int64
}

func (l Limits) withDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 30
	}
	if l.Entries == 0 {
		l.Entries = 2_000_000
	}
	if l.Ratio == 0 {
		l.Ratio = 500
	}
	if l.RatioFrom == 0 {
		l.RatioFrom = 1 << 30
	}
	return l
}

// ErrTooLarge means that a layer passed its Limits.
var ErrTooLarge = errors.New("layer is too large")

// Layer describes the stream that Unpack reads. A zero Digest or DiffID is not checked.
type Layer struct {
	Digest v1.Hash // of the stream as it comes, compressed or not
	DiffID v1.Hash // of the uncompressed tar
}

// Unpacked says what a layer held.
type Unpacked struct {
	DiffID v1.Hash
	// Bytes is the size of the regular files. Entries counts what was made.
	Bytes   int64
	Entries int
	// Implied are folders that the layer only mentions as parents of something, cleaned and sorted. In an overlay such
	// a folder would hide owner and mode of the same folder in a lower layer, so whoever stacks layers mends them.
	Implied []string
	// Skipped are the names of entries that were left out: devices, which containers get from their runtime.
	Skipped []string
}

// Unpack reads one layer (a tar, plain or compressed with gzip or zstd) and writes it into dir, which must exist and
// should be empty. Whiteouts become those of overlayfs. Nothing outside dir is touched, whatever the layer holds:
// names that climb are refused, links are resolved as if dir were the root. Digest and DiffID are checked while
// reading; after an error dir holds an unusable part of the layer, which the caller removes.
//
// Owners and overlay whiteouts need root.
func Unpack(ctx context.Context, r io.Reader, dir string, want Layer, limits Limits) (Unpacked, error) {
	packed := newHashing(contextReader{ctx, r})
	plain, err := decompress(packed)
	if err != nil {
		return Unpacked{}, err
	}
	defer plain.Close() // reading only; errors come from Read
	bounded := &bounded{r: plain, packed: packed, limits: limits.withDefaults()}
	unpacked := newHashing(bounded)
	got, err := unpackTar(unpacked, dir, bounded.limits)
	if err == nil {
		err = drain(unpacked, packed)
	}
	if ctx.Err() != nil {
		return Unpacked{}, context.Cause(ctx)
	}
	if err != nil {
		return Unpacked{}, err
	}
	got.DiffID = unpacked.digest()
	return got, errors.Join(
		checkDigest("layer", packed.digest(), want.Digest),
		checkDigest("uncompressed layer", got.DiffID, want.DiffID),
	)
}

// drain reads what follows the end of the tar: it counts for the digests.
func drain(readers ...io.Reader) error {
	for _, r := range readers {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return readError(err)
		}
	}
	return nil
}

func checkDigest(what string, got, want v1.Hash) error {
	if want == (v1.Hash{}) || got == want {
		return nil
	}
	return fmt.Errorf("%w: %s has digest %s, want %s", ErrCorrupt, what, got, want)
}

// contextReader ends reading when the context does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives for one call of Unpack
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// bounded stops a stream that unpacks to more than its limits.
type bounded struct {
	r      io.Reader
	packed *hashing
	limits Limits
	n      int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	switch {
	case b.n > b.limits.Bytes:
		return n, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, b.limits.Bytes)
	case b.n > b.limits.RatioFrom && b.n/max(b.packed.n, 1) > b.limits.Ratio:
		return n, fmt.Errorf("%w: %d bytes unpacked from %d, more than %d times as many", ErrTooLarge, b.n, b.packed.n, b.limits.Ratio)
	}
	return n, err
}

// readError marks what the decoders find wrong.
func readError(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return err
	}
	return fmt.Errorf("%w: read layer: %w", ErrCorrupt, err)
}

// unpackTar writes all entries and then what has to come last.
func unpackTar(r io.Reader, dir string, limits Limits) (Unpacked, error) {
	t, err := openTree(dir)
	if err != nil {
		return Unpacked{}, err
	}
	u := &unpacker{tree: t, limits: limits, bytes: limits.Bytes}
	err = u.run(tar.NewReader(r))
	if err == nil {
		err = t.finish()
	}
	if err = errors.Join(err, t.close()); err != nil {
		return Unpacked{}, err
	}
	u.got.Implied = t.implied()
	return u.got, nil
}

type unpacker struct {
	tree   *tree
	limits Limits
	bytes  int64 // that may still be written
	got    Unpacked
}

func (u *unpacker) run(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return readError(err)
		}
		if u.got.Entries++; u.got.Entries > u.limits.Entries {
			return fmt.Errorf("%w: more than %d entries", ErrTooLarge, u.limits.Entries)
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
		return u.whiteout(path.Dir(name), base)
	}
	if name == "." && h.Typeflag != tar.TypeDir {
		return fmt.Errorf("%w: the root is not a folder", ErrCorrupt)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.tree.folder(name, h)
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old tars still hold TypeRegA
		return u.file(name, h, body)
	case tar.TypeSymlink:
		return u.tree.symlink(name, h)
	case tar.TypeLink:
		target, err := entryName(h.Linkname)
		if err != nil {
			return err
		}
		return u.tree.link(name, target)
	case tar.TypeFifo:
		return u.tree.fifo(name, h)
	case tar.TypeChar, tar.TypeBlock:
		u.got.Skipped = append(u.got.Skipped, name)
		return nil
	}
	return fmt.Errorf("%w: entry of unknown type %q", ErrCorrupt, h.Typeflag)
}

// file writes a regular file. Sparse files count with their full size.
func (u *unpacker) file(name string, h *tar.Header, body io.Reader) error {
	if u.bytes -= h.Size; u.bytes < 0 || h.Size < 0 {
		return fmt.Errorf("%w: files of more than %d bytes", ErrTooLarge, u.limits.Bytes)
	}
	u.got.Bytes += h.Size
	return u.tree.file(name, h, body)
}

func (u *unpacker) whiteout(dir, base string) error {
	switch {
	case base == whiteoutOpaque:
		return u.tree.opaque(dir)
	case strings.HasPrefix(base, whiteoutMeta):
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%w: whiteout of nothing", ErrCorrupt)
	}
	return u.tree.whiteout(path.Join(dir, name))
}

// entryName cleans a name: relative, slashes only, no climbing. The root is ".".
func entryName(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: name %q climbs out of its folder", ErrCorrupt, name)
		}
	}
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: name with a NUL", ErrCorrupt)
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return ".", nil
	}
	return clean, nil
}
