package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Image is an image that is here and complete.
type Image struct {
	// Name is the full reference that was asked for, as registry/repository:tag or registry/repository@digest.
	Name string
	// Digest is the manifest's, for the platform that was chosen; it names the image in this store.
	Digest string
	// ID is the configuration's digest, which Docker calls the image id.
	ID string
	// RepoDigest is registry/repository@digest: what a pod's status shows as imageID.
	RepoDigest string
	// Config says how the image wants to be run.
	Config v1.ConfigFile
	// SizeBytes is what the files of all layers have.
	SizeBytes int64
	// Stale means that the policy asked for the newest, the registry could not be reached, and this is what was here.
	Stale bool
	// Fetched means that Pull had to fetch something; FetchedBytes is the compressed size of the layers that were missing.
	Fetched      bool
	FetchedBytes int64

	layers []v1.Hash // diff ids, lowest first
}

// record is the file of an image in images/records.
type record struct {
	Digest  string        `json:"digest"`
	ID      string        `json:"id"`
	Repos   []string      `json:"repos"` // registry/repository, sorted
	Config  v1.ConfigFile `json:"config"`
	Layers  []v1.Hash     `json:"layers"` // diff ids, lowest first
	Bytes   int64         `json:"bytes"`
	Parents bool          `json:"parents,omitempty"` // images/parents has a folder for it
	Pulled  time.Time     `json:"pulled"`

	used time.Time // last Pull or Rootfs; kept in memory only, to spare the flash
}

// refFile is a file in images/refs.
type refFile struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

func (s *Store) recordPath(digest string) string {
	return s.path("images/records", hexOf(digest)+".json")
}

func (s *Store) refPath(ref string) string {
	sum := sha256.Sum256([]byte(ref))
	return s.path("images/refs", hex.EncodeToString(sum[:])+".json")
}

// load reads all records. A record whose layers are gone, or that cannot be read, is dropped: it will be pulled again.
func (s *Store) load() error {
	files, err := filepath.Glob(s.path("images/records", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		r := &record{}
		if err := s.loadRecord(file, r); err != nil {
			s.log.Warn("image record dropped", "file", filepath.Base(file), "err", err)
			if err := ignoreMissing(os.Remove(file)); err != nil {
				return err
			}
			continue
		}
		r.used = r.Pulled
		s.records[r.Digest] = r
	}
	return s.loadRefs()
}

func (s *Store) loadRecord(file string, r *record) error {
	if err := readJSON(file, r); err != nil {
		return err
	}
	for _, id := range r.Layers {
		if there, err := exists(s.layerPath(id)); err != nil || !there {
			return errors.Join(fmt.Errorf("layer %s is missing", id), err)
		}
	}
	return nil
}

func (s *Store) loadRefs() error {
	files, err := filepath.Glob(s.path("images/refs", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		var r refFile
		err := readJSON(file, &r)
		if err == nil && s.records[r.Digest] != nil {
			s.refs[r.Name] = r.Digest
			continue
		}
		if err := ignoreMissing(os.Remove(file)); err != nil {
			return err
		}
	}
	return nil
}

// local finds what is here under a reference.
func (s *Store) local(ref name.Reference) (Image, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest, ok := s.refs[ref.Name()]
	if d, isDigest := ref.(name.Digest); isDigest && !ok {
		digest = d.DigestStr()
	}
	r := s.records[digest]
	if r == nil {
		return Image{}, false
	}
	r.used = time.Now()
	return r.image(ref), true
}

func (r *record) image(ref name.Reference) Image {
	return Image{
		Name: ref.Name(), Digest: r.Digest, ID: r.ID, RepoDigest: ref.Context().Name() + "@" + r.Digest,
		Config: *r.Config.DeepCopy(), SizeBytes: r.Bytes, layers: slices.Clone(r.Layers),
	}
}

// remember makes an image findable: the record first, the name last.
func (s *Store) remember(ref name.Reference, r *record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.records[r.Digest]; old != nil {
		r.Repos, r.Pulled = append(r.Repos, old.Repos...), old.Pulled
	}
	slices.Sort(r.Repos)
	r.Repos = slices.Compact(r.Repos)
	if err := s.writeJSON(s.recordPath(r.Digest), r); err != nil {
		return diskError(err)
	}
	s.step("record written")
	s.records[r.Digest] = r
	if s.refs[ref.Name()] == r.Digest {
		return nil
	}
	if err := s.writeJSON(s.refPath(ref.Name()), refFile{Name: ref.Name(), Digest: r.Digest}); err != nil {
		return diskError(err)
	}
	s.refs[ref.Name()] = r.Digest
	return nil
}

// Listed is an image as the node's status shows it.
type Listed struct {
	// Names are registry/repository@digest, and each name that stands for it now.
	Names     []string
	Digest    string
	SizeBytes int64
	Pulled    time.Time
}

// Images lists what is here, largest first, as a node's status wants it. It is never nil.
func (s *Store) Images() []Listed {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Listed, 0, len(s.records))
	for digest, r := range s.records {
		l := Listed{Digest: digest, SizeBytes: r.Bytes, Pulled: r.Pulled}
		for _, repo := range r.Repos {
			l.Names = append(l.Names, repo+"@"+digest)
		}
		l.Names = append(l.Names, s.namesOf(digest)...)
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b Listed) int {
		if a.SizeBytes != b.SizeBytes {
			return int(max(-1, min(1, b.SizeBytes-a.SizeBytes)))
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	return out
}

// namesOf lists the tags that stand for a digest, sorted. The caller holds s.mu.
func (s *Store) namesOf(digest string) []string {
	var names []string
	for ref, d := range s.refs {
		if d == digest && !strings.Contains(ref, "@") {
			names = append(names, ref)
		}
	}
	slices.Sort(names)
	return names
}
