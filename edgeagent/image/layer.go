package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"skerry.dev/skerry/packaging/oci"
)

// layerInfo is layer.json: what is known of an unpacked layer.
type layerInfo struct {
	DiffID  string   `json:"diffID"`
	Bytes   int64    `json:"bytes"`             // of its files
	Implied []string `json:"implied,omitempty"` // see oci.Unpacked
}

func (s *Store) layerPath(id v1.Hash) string { return s.path("images/layers", id.Hex) }

// ensureLayer has the layer unpacked under its diff id when it returns nil. Callers that want the same share the work.
func (s *Store) ensureLayer(ctx context.Context, src *source, ref string, desc v1.Descriptor, id v1.Hash) error {
	return s.layers.do(ctx, id.Hex, func(ctx context.Context) error {
		there, err := exists(s.layerPath(id))
		if err != nil || there {
			return err
		}
		if err := s.slots.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
		defer s.slots.Release(1)
		if err := s.bringLayer(ctx, src, ref, desc, id); err != nil {
			return fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		return nil
	})
}

// bringLayer fetches and unpacks. A layer that turns out wrong is fetched once more from the beginning: a power cut or
// a bad proxy may have spoilt what was there.
func (s *Store) bringLayer(ctx context.Context, src *source, ref string, desc v1.Descriptor, id v1.Hash) error {
	err := s.tryLayer(ctx, src, ref, desc, id)
	if errors.Is(err, ErrCorrupt) && ctx.Err() == nil {
		s.log.Warn("image layer is corrupt, fetching it again", "image", ref, "digest", desc.Digest.String(), "err", err)
		err = s.tryLayer(ctx, src, ref, desc, id)
	}
	return err
}

func (s *Store) tryLayer(ctx context.Context, src *source, ref string, desc v1.Descriptor, id v1.Hash) error {
	err := s.checkSpace(desc)
	if err == nil {
		err = s.fetch(ctx, src, ref, desc)
	}
	if err == nil {
		s.step("part complete")
		err = diskError(s.unpack(ctx, desc, id))
	}
	if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNoSpace) || errors.Is(err, oci.ErrTooLarge) {
		// Unpacked, useless, or in the way of everything else on the disk.
		return errors.Join(err, s.dropPart(desc.Digest))
	}
	return err
}

// checkSpace refuses to begin what cannot fit even compressed.
func (s *Store) checkSpace(desc v1.Descriptor) error {
	have := int64(0)
	if info, err := os.Stat(s.partPath(desc.Digest)); err == nil {
		have = info.Size()
	}
	free, _, err := freeBytes(s.path("images"))
	if err != nil {
		return err
	}
	if need := desc.Size - have; need > free {
		return fmt.Errorf("%w: layer needs %d bytes more, %d are free on the disk of %s", ErrNoSpace, need, free, s.path("images"))
	}
	return nil
}

// unpack turns the complete part into the layer's folder.
func (s *Store) unpack(ctx context.Context, desc v1.Descriptor, id v1.Hash) error {
	tmp, err := os.MkdirTemp(s.path("images/tmp"), "layer-")
	if err != nil {
		return err
	}
	err = s.unpackInto(ctx, tmp, desc, id)
	if err == nil {
		s.mu.Lock()
		err = publish(tmp, s.layerPath(id))
		s.mu.Unlock()
		s.step("layer published")
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return nil
}

func (s *Store) unpackInto(ctx context.Context, dir string, desc v1.Descriptor, id v1.Hash) error {
	fs := filepath.Join(dir, "fs")
	if err := makeRoot(fs); err != nil {
		return err
	}
	f, err := os.Open(s.partPath(desc.Digest))
	if err != nil {
		return err
	}
	got, err := oci.Unpack(ctx, f, fs, oci.Layer{Digest: desc.Digest, DiffID: id}, s.opts.Limits)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if len(got.Skipped) > 0 {
		s.log.Info("image layer has devices, left out", "digest", desc.Digest.String(), "count", len(got.Skipped), "first", got.Skipped[0])
	}
	if err := s.writeJSON(filepath.Join(dir, "layer.json"), layerInfo{DiffID: id.String(), Bytes: got.Bytes, Implied: got.Implied}); err != nil {
		return err
	}
	s.step("layer unpacked")
	return syncTree(dir)
}

// makeRoot makes a folder that becomes the root of a container, whatever the umask.
func makeRoot(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func (s *Store) readLayer(id v1.Hash) (layerInfo, error) {
	var info layerInfo
	err := readJSON(filepath.Join(s.layerPath(id), "layer.json"), &info)
	return info, err
}
