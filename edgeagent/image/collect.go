package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Policy says when images are removed to make room, with the kubelet's words and defaults.
type Policy struct {
	// HighPercent of the disk in use starts a collection, LowPercent ends it. Zero means 85 and 80.
	HighPercent, LowPercent int
	// MinAge protects what was used or pulled a moment ago. Zero means two minutes.
	MinAge time.Duration
	// KeepParts is how long a layer that was never fetched to its end is kept to go on from. Zero means a week; a disk
	// above HighPercent ends its life at once.
	KeepParts time.Duration
	// Pinned names images that stay, as a pod would name them.
	Pinned []string
	// All has every image go that may, however much room there is.
	All bool
}

func (p Policy) withDefaults() Policy {
	p.HighPercent = cmp.Or(p.HighPercent, 85)
	p.LowPercent = cmp.Or(p.LowPercent, 80)
	p.MinAge = cmp.Or(p.MinAge, 2*time.Minute)
	p.KeepParts = cmp.Or(p.KeepParts, 7*24*time.Hour)
	return p
}

// Collected says what a collection removed.
type Collected struct {
	Images []string // digests
	Layers int
	Parts  int
	Bytes  int64 // of what was removed, as far as it is known
}

// ErrStillFull means that everything that may go is gone, and the disk is above Policy.HighPercent all the same.
var ErrStillFull = errors.New("disk is still too full after image garbage collection")

// Collect removes what is not needed: layers of no image, old parts and, when the disk is too full, the images that
// were not used for longest. Images in inUse (by Image.Digest), under a container's root file system, or part of a pull
// under way are never touched. now is the wall clock, compared with times that this machine wrote.
func (s *Store) Collect(ctx context.Context, inUse map[string]bool, p Policy, now time.Time) (Collected, error) {
	p = p.withDefaults()
	full, err := s.tooFull(p.HighPercent)
	if err != nil {
		return Collected{}, err
	}
	full = full || p.All
	if inUse, err = s.withPinned(inUse, p.Pinned); err != nil {
		return Collected{}, err
	}
	var got Collected
	if err := s.collectParts(p, full, now, &got); err != nil {
		return got, fmt.Errorf("collect parts: %w", err)
	}
	if err := s.collectLayers(now.Add(-p.KeepParts), &got); err != nil {
		return got, fmt.Errorf("collect layers: %w", err)
	}
	if full {
		err = s.makeRoom(ctx, inUse, p, now, &got)
	}
	if len(got.Images)+got.Layers+got.Parts > 0 {
		s.log.Info("images collected", "images", len(got.Images), "layers", got.Layers, "parts", got.Parts, "bytes", got.Bytes)
	}
	return got, err
}

// ValidateNames checks names of images as a pod or Policy.Pinned may have them.
func ValidateNames(names []string) error {
	var errs []error
	for _, name := range names {
		_, err := parse(name)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// withPinned adds the digests that names stand for to those in use.
func (s *Store) withPinned(inUse map[string]bool, names []string) (map[string]bool, error) {
	out := maps.Clone(inUse)
	if out == nil {
		out = map[string]bool{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		ref, err := parse(name)
		if err != nil {
			return nil, fmt.Errorf("pinned image %q: %w", name, err)
		}
		if digest := s.refs[ref.Name()]; digest != "" {
			out[digest] = true
		}
	}
	return out, nil
}

func (s *Store) tooFull(percent int) (bool, error) {
	free, total, err := freeBytes(s.path("images"))
	if err != nil {
		return false, err
	}
	return total > 0 && (total-free)*100 > int64(percent)*total, nil
}

// makeRoom removes images, longest unused first, until the disk is below the low mark.
func (s *Store) makeRoom(ctx context.Context, inUse map[string]bool, p Policy, now time.Time, got *Collected) error {
	candidates, err := s.candidates(inUse, now.Add(-p.MinAge))
	if err != nil {
		return err
	}
	for _, r := range candidates {
		full, err := s.tooFull(p.LowPercent)
		if full = full || p.All; err != nil || !full || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		err = s.forget(r.Digest)
		if errors.Is(err, ErrInUse) {
			continue
		}
		if err != nil {
			return err
		}
		got.Images = append(got.Images, r.Digest)
		if err := s.collectLayers(now, got); err != nil {
			return err
		}
	}
	if full, err := s.tooFull(p.HighPercent); err != nil || full && !p.All {
		return errors.Join(err, fmt.Errorf("%w: %d%% of the disk of %s", ErrStillFull, p.HighPercent, s.path("images")))
	}
	return nil
}

// candidates are the images that may go, longest unused first.
func (s *Store) candidates(inUse map[string]bool, before time.Time) ([]*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, claimed, err := s.claimed()
	if err != nil {
		return nil, err
	}
	var out []*record
	for digest, r := range s.records {
		if !inUse[digest] && !claimed[digest] && r.used.Before(before) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *record) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.Digest, b.Digest))
	})
	return out, nil
}

// ErrInUse means that a container stands on the image.
var ErrInUse = errors.New("a container stands on the image")

// Remove forgets an image by digest and removes the layers that nothing else needs. An image under a container's root
// file system is refused with ErrInUse; one that is not here is fine.
func (s *Store) Remove(digest string, now time.Time) error {
	if err := s.forget(digest); err != nil {
		return fmt.Errorf("remove image %s: %w", digest, err)
	}
	return s.collectLayers(now, &Collected{})
}

// forget removes names first, the record next: a crash in between leaves an image without a name, or layers without an
// image, and both are collected later.
func (s *Store) forget(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, claimed, err := s.claimed(); err != nil || claimed[digest] {
		return cmp.Or(err, ErrInUse)
	}
	for ref, d := range s.refs {
		if d != digest {
			continue
		}
		if err := ignoreMissing(os.Remove(s.refPath(ref))); err != nil {
			return err
		}
		delete(s.refs, ref)
	}
	if s.records[digest] == nil {
		return nil
	}
	if err := ignoreMissing(os.Remove(s.recordPath(digest))); err != nil {
		return err
	}
	delete(s.records, digest)
	return os.RemoveAll(s.parentsPath(digest))
}

// collectLayers removes layers that no image, container or pull counts on and that are older than before. Those of an
// interrupted pull stay for a while, or it would fetch them again.
func (s *Store) collectLayers(before time.Time, got *Collected) error {
	entries, err := os.ReadDir(s.path("images/layers"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		gone, bytes, err := s.takeLayer(e.Name(), before)
		if err != nil {
			return err
		}
		if gone == "" {
			continue
		}
		got.Layers++
		got.Bytes += bytes
		if err := os.RemoveAll(gone); err != nil {
			return err
		}
	}
	return nil
}

// takeLayer moves an unneeded layer out of its place, where a pull could otherwise find it half removed, and says where
// it is now.
func (s *Store) takeLayer(hex string, before time.Time) (gone string, bytes int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed, err := s.needed()
	if err != nil || needed[hex] {
		return "", 0, err
	}
	dir := s.path("images/layers", hex)
	info, err := os.Stat(dir)
	if err != nil || info.ModTime().After(before) {
		return "", 0, ignoreMissing(err)
	}
	var about layerInfo
	if err := readJSON(filepath.Join(dir, "layer.json"), &about); err != nil {
		s.log.Warn("image layer without description", "layer", hex, "err", err)
	}
	gone = s.path("images/tmp", "gone-"+hex)
	return gone, about.Bytes, os.Rename(dir, gone)
}

// needed are the layers that something counts on, by hex. The caller holds s.mu.
func (s *Store) needed() (map[string]bool, error) {
	out, _, err := s.claimed()
	if err != nil {
		return nil, err
	}
	for _, r := range s.records {
		for _, l := range r.Layers {
			out[l.Hex] = true
		}
	}
	for hex := range s.pins {
		out[hex] = true
	}
	return out, nil
}

// collectParts removes parts that nobody went on with, or all that nobody is writing when the disk is full.
func (s *Store) collectParts(p Policy, full bool, now time.Time, got *Collected) error {
	entries, err := os.ReadDir(s.path("images/parts"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		limit := p.KeepParts
		if full {
			limit = max(p.MinAge, stallTimeout*2)
		}
		if info.ModTime().After(now.Add(-limit)) {
			continue
		}
		if err := ignoreMissing(os.Remove(s.path("images/parts", e.Name()))); err != nil {
			return err
		}
		got.Parts++
		got.Bytes += info.Size()
	}
	return nil
}
