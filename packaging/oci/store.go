package oci

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// refAnnotation is where OCI layouts keep an image's name.
const refAnnotation = "org.opencontainers.image.ref.name"

// ErrNoImage means that the local store does not have an image.
var ErrNoImage = errors.New("image is not in the local store")

// Store is an OCI layout in a folder, which other tools can read too. Several processes may use it at once: changes
// take a file lock, and whatever is read was renamed into place.
type Store struct {
	dir string
}

// StoredImage is one name in a store.
type StoredImage struct {
	Name      string
	Digest    string
	Platform  string
	SizeBytes int64 // compressed
	Created   time.Time
}

// OpenStore opens the layout in dir, and makes it if there is none.
func OpenStore(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) prepare() error {
	if err := os.MkdirAll(filepath.Join(s.dir, "blobs/sha256"), 0o755); err != nil {
		return err
	}
	return s.locked(func() error {
		for name, content := range map[string]string{
			"oci-layout": `{"imageLayoutVersion":"1.0.0"}`,
			"index.json": `{"schemaVersion":2,"mediaType":"` + string(types.OCIImageIndex) + `","manifests":[]}`,
		} {
			if _, err := os.Stat(filepath.Join(s.dir, name)); !errors.Is(err, os.ErrNotExist) {
				if err != nil {
					return err
				}
				continue
			}
			if err := s.writeFile(name, strings.NewReader(content)); err != nil {
				return err
			}
		}
		return nil
	})
}

// locked runs change while no other process changes the store.
func (s *Store) locked(change func() error) error {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err == nil {
		err = change()
	}
	return errors.Join(err, f.Close()) // closing unlocks
}

// writeFile puts content at name so that a crash leaves the old file or the new one.
func (s *Store) writeFile(name string, r io.Reader) error {
	f, err := os.CreateTemp(s.dir, ".tmp-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(s.dir, name))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(f.Name())))
	}
	return nil
}

func blobName(h v1.Hash) string { return filepath.Join("blobs", h.Algorithm, h.Hex) }

// Add stores an image under a name, which may have stood for another image before. It returns the image's digest.
func (s *Store) Add(name string, img v1.Image) (v1.Hash, error) {
	var d v1.Hash
	err := s.locked(func() error {
		var err error
		if d, err = s.writeImage(img); err != nil {
			return err
		}
		desc, err := partial.Descriptor(img)
		if err != nil {
			return err
		}
		return s.setName(name, *desc)
	})
	if err != nil {
		return v1.Hash{}, fmt.Errorf("store image %s: %w", name, err)
	}
	return d, nil
}

// writeImage writes the parts first and the manifest last.
func (s *Store) writeImage(img v1.Image) (v1.Hash, error) {
	layers, err := img.Layers()
	if err != nil {
		return v1.Hash{}, err
	}
	for _, l := range layers {
		if err := s.writeLayerBlob(l); err != nil {
			return v1.Hash{}, err
		}
	}
	for _, part := range []struct {
		digest func() (v1.Hash, error)
		raw    func() ([]byte, error)
	}{{img.ConfigName, img.RawConfigFile}, {img.Digest, img.RawManifest}} {
		h, err := part.digest()
		if err != nil {
			return v1.Hash{}, err
		}
		raw, err := part.raw()
		if err != nil {
			return v1.Hash{}, err
		}
		if err := s.writeBlob(h, strings.NewReader(string(raw))); err != nil {
			return v1.Hash{}, err
		}
	}
	return img.Digest()
}

func (s *Store) writeLayerBlob(l v1.Layer) error {
	h, err := l.Digest()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.dir, blobName(h))); err == nil {
		return nil
	}
	r, err := l.Compressed()
	if err != nil {
		return err
	}
	return errors.Join(s.writeBlob(h, r), r.Close())
}

// writeBlob writes content that must have digest h.
func (s *Store) writeBlob(h v1.Hash, r io.Reader) error {
	name := blobName(h)
	if _, err := os.Stat(filepath.Join(s.dir, name)); err == nil {
		return nil
	}
	checked := &checkedReader{hashing: &hashing{r: r, h: sha256.New()}, want: h}
	if err := s.writeFile(name, checked); err != nil {
		return fmt.Errorf("store blob %s: %w", h, err)
	}
	return nil
}

// checkedReader fails at the end of content that has another digest than it should.
type checkedReader struct {
	*hashing
	want v1.Hash
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.hashing.Read(p)
	if errors.Is(err, io.EOF) {
		if wrong := checkDigest("blob", c.digest(), c.want); wrong != nil {
			return n, wrong
		}
	}
	return n, err
}

func (s *Store) index() (*v1.IndexManifest, error) {
	f, err := os.Open(filepath.Join(s.dir, "index.json"))
	if err != nil {
		return nil, err
	}
	m, err := v1.ParseIndexManifest(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read index.json: %w", err)
	}
	return m, nil
}

func (s *Store) writeIndex(m *v1.IndexManifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return s.writeFile("index.json", strings.NewReader(string(data)))
}

// setName makes name stand for desc. The caller holds the lock.
func (s *Store) setName(name string, desc v1.Descriptor) error {
	m, err := s.index()
	if err != nil {
		return err
	}
	m.Manifests = slices.DeleteFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Annotations[refAnnotation] == name })
	desc.Annotations = map[string]string{refAnnotation: name}
	m.Manifests = append(m.Manifests, desc)
	return s.writeIndex(m)
}

// find looks up a name. ErrNoImage says which names there are.
func (s *Store) find(m *v1.IndexManifest, name string) (v1.Descriptor, error) {
	var names []string
	for _, d := range m.Manifests {
		if d.Annotations[refAnnotation] == name {
			return d, nil
		}
		names = append(names, d.Annotations[refAnnotation])
	}
	slices.Sort(names)
	if len(names) == 0 {
		return v1.Descriptor{}, fmt.Errorf("%w: %s (the store in %s is empty)", ErrNoImage, name, s.dir)
	}
	return v1.Descriptor{}, fmt.Errorf("%w: %s (it has %s)", ErrNoImage, name, strings.Join(names, ", "))
}

// Image returns the image that name stands for; ErrNoImage when there is none.
func (s *Store) Image(name string) (v1.Image, error) {
	m, err := s.index()
	if err != nil {
		return nil, err
	}
	d, err := s.find(m, name)
	if err != nil {
		return nil, err
	}
	img, err := layout.Path(s.dir).Image(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", name, err)
	}
	return img, nil
}

// Tag makes name stand for the image that old stands for.
func (s *Store) Tag(old, name string) error {
	err := s.locked(func() error {
		m, err := s.index()
		if err != nil {
			return err
		}
		d, err := s.find(m, old)
		if err != nil {
			return err
		}
		return s.setName(name, d)
	})
	if err != nil {
		return fmt.Errorf("tag %s: %w", name, err)
	}
	return nil
}

// List returns the names in the store, sorted. An image that cannot be read is listed without what is unknown of it.
func (s *Store) List() ([]StoredImage, error) {
	m, err := s.index()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	out := make([]StoredImage, 0, len(m.Manifests))
	for _, d := range m.Manifests {
		out = append(out, s.describe(d))
	}
	slices.SortFunc(out, func(a, b StoredImage) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (s *Store) describe(d v1.Descriptor) StoredImage {
	out := StoredImage{Name: d.Annotations[refAnnotation], Digest: d.Digest.String()}
	img, err := layout.Path(s.dir).Image(d.Digest)
	if err != nil {
		return out
	}
	if m, err := img.Manifest(); err == nil {
		out.SizeBytes = m.Config.Size
		for _, l := range m.Layers {
			out.SizeBytes += l.Size
		}
	}
	if c, err := img.ConfigFile(); err == nil {
		out.Created = c.Created.Time
		out.Platform = v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}.String()
	}
	return out
}

// Remove takes a name away, and then the content that no name needs any more.
func (s *Store) Remove(name string) error {
	err := s.locked(func() error {
		m, err := s.index()
		if err != nil {
			return err
		}
		if _, err := s.find(m, name); err != nil {
			return err
		}
		m.Manifests = slices.DeleteFunc(m.Manifests, func(d v1.Descriptor) bool { return d.Annotations[refAnnotation] == name })
		if err := s.writeIndex(m); err != nil {
			return err
		}
		_, err = s.collect(m)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove image %s: %w", name, err)
	}
	return nil
}

// Collect removes content that no name needs and what crashes left, and says how many bytes that were.
func (s *Store) Collect() (removedBytes int64, err error) {
	err = s.locked(func() error {
		m, err := s.index()
		if err != nil {
			return err
		}
		removedBytes, err = s.collect(m)
		return err
	})
	if err != nil {
		return removedBytes, fmt.Errorf("collect images: %w", err)
	}
	return removedBytes, nil
}

// collect needs to read every image that has a name: one that cannot be read stops it before anything is removed.
func (s *Store) collect(m *v1.IndexManifest) (int64, error) {
	used := map[string]bool{}
	for _, d := range m.Manifests {
		img, err := layout.Path(s.dir).Image(d.Digest)
		if err != nil {
			return 0, err
		}
		manifest, err := img.Manifest()
		if err != nil {
			return 0, err
		}
		used[d.Digest.Hex], used[manifest.Config.Digest.Hex] = true, true
		for _, l := range manifest.Layers {
			used[l.Digest.Hex] = true
		}
	}
	return s.sweep(used)
}

func (s *Store) sweep(used map[string]bool) (removedBytes int64, err error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "blobs/sha256"))
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if used[e.Name()] {
			continue
		}
		if info, err := e.Info(); err == nil {
			removedBytes += info.Size()
		}
		if err := ignoreMissing(os.Remove(filepath.Join(s.dir, "blobs/sha256", e.Name()))); err != nil {
			return removedBytes, err
		}
	}
	temporary, err := filepath.Glob(filepath.Join(s.dir, ".tmp-*"))
	for _, t := range temporary {
		err = errors.Join(err, ignoreMissing(os.Remove(t)))
	}
	return removedBytes, err
}
