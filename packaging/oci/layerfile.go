package oci

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// fileLayer is a v1.Layer in a file that was written once.
type fileLayer struct {
	path   string
	digest v1.Hash
	diffID v1.Hash
	size   int64
	media  types.MediaType
}

// Digest implements v1.Layer.
func (l *fileLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer.
func (l *fileLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Size implements v1.Layer.
func (l *fileLayer) Size() (int64, error) { return l.size, nil }

// MediaType implements v1.Layer.
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.media, nil }

// Compressed implements v1.Layer.
func (l *fileLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Uncompressed implements v1.Layer.
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return uncompress(l.path) }

func uncompress(name string) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &bothClosers{Reader: z, closers: []io.Closer{z, f}}, nil
}

type bothClosers struct {
	io.Reader
	closers []io.Closer
}

// Close implements io.Closer.
func (b *bothClosers) Close() error {
	var errs []error
	for _, c := range b.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// writeLayer writes the source's entries as a compressed tar, once, and hashes it on the way. The compressor is the one
// that go.mod pins, not the toolchain's, because its output is part of the digest.
func writeLayer(ctx context.Context, src *source, o BuildOptions) (_ *fileLayer, err error) {
	f, err := os.CreateTemp(o.Scratch, "skerry-layer-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(f.Name())))
		}
	}()
	packed := &tally{w: f, h: sha256.New()}
	z, err := gzip.NewWriterLevel(packed, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	plain := &tally{w: z, h: sha256.New()}
	if err := writeTar(ctx, plain, src, o.Epoch); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return &fileLayer{path: f.Name(), digest: packed.digest(), diffID: plain.digest(), size: packed.n, media: types.OCILayer}, nil
}

// tally counts and hashes what is written through it.
type tally struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (t *tally) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	t.h.Write(p[:n]) // a hash never fails
	return n, err
}

func (t *tally) digest() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(t.h.Sum(nil))}
}

func writeTar(ctx context.Context, w io.Writer, src *source, epoch time.Time) error {
	slices.SortFunc(src.entries, func(a, b sourceEntry) int { return strings.Compare(a.header.Name, b.header.Name) })
	tw := tar.NewWriter(w)
	for _, e := range src.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := writeEntry(tw, e, epoch); err != nil {
			return fmt.Errorf("pack %s: %w", e.header.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return nil
}

// writeEntry writes one entry. PAX is forced, so that a long name far down does not change the format of others.
func writeEntry(tw *tar.Writer, e sourceEntry, epoch time.Time) error {
	h := e.header
	h.ModTime, h.Format = epoch, tar.FormatPAX
	if e.open == nil {
		return tw.WriteHeader(&h)
	}
	r, size, err := openSized(e)
	if err != nil {
		return err
	}
	h.Size = size
	err = tw.WriteHeader(&h)
	if err == nil {
		var n int64
		n, err = io.Copy(tw, r)
		if err == nil && n != size {
			err = fmt.Errorf("it has %d bytes now and had %d: is somebody writing to it?", n, size)
		}
	}
	return errors.Join(err, r.Close())
}

// openSized opens the content of an entry. Files are asked for their size, other sources have it in their header.
func openSized(e sourceEntry) (io.ReadCloser, int64, error) {
	r, err := e.open()
	if err != nil {
		return nil, 0, err
	}
	f, ok := r.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return r, e.header.Size, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return r, info.Size(), nil
}
