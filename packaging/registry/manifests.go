package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
)

// descriptor is what we read of the specification's descriptors.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
}

// manifest is what we read of image manifests, image indexes and artifacts; they share their fields' names.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *descriptor       `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Blobs         []descriptor      `json:"blobs"`
	Manifests     []descriptor      `json:"manifests"`
	Subject       *descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
}

// parseManifest checks what every manifest must have, whatever its kind.
func parseManifest(data []byte, contentType string) (*manifest, error) {
	m := &manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, refuse(http.StatusBadRequest, codeManifestInvalid, "the manifest is not JSON of the expected shape: %v", err)
	}
	if m.SchemaVersion != 2 {
		return nil, refuse(http.StatusBadRequest, codeManifestInvalid, "schemaVersion is %d, want 2", m.SchemaVersion)
	}
	if m.MediaType != "" && contentType != "" && m.MediaType != contentType {
		return nil, refuse(http.StatusBadRequest, codeManifestInvalid, "Content-Type is %s, the manifest says %s", contentType, m.MediaType)
	}
	for _, d := range m.all() {
		if err := d.Digest.Validate(); err != nil {
			return nil, refuse(http.StatusBadRequest, codeManifestInvalid, "the manifest refers to digest %q: %v", d.Digest, err)
		}
	}
	return m, nil
}

// blobs are the descriptors of content that this registry must hold as blobs. Layers with URLs live elsewhere.
func (m *manifest) blobs() []descriptor {
	var out []descriptor
	if m.Config != nil {
		out = append(out, *m.Config)
	}
	for _, d := range append(append([]descriptor{}, m.Layers...), m.Blobs...) {
		if len(d.URLs) == 0 {
			out = append(out, d)
		}
	}
	return out
}

func (m *manifest) all() []descriptor {
	out := append(m.blobs(), m.Manifests...)
	if m.Subject != nil {
		out = append(out, *m.Subject)
	}
	return out
}

// artifactType is what the referrers list shows and filters by.
func (m *manifest) artifactType() string {
	if m.ArtifactType == "" && m.Config != nil {
		return m.Config.MediaType
	}
	return m.ArtifactType
}

// putManifest stores a manifest when everything that it refers to is here, and then moves the tag.
func (r *Registry) putManifest(w http.ResponseWriter, req *http.Request, rt route) error {
	tag, want, err := parseReference(rt.ref)
	if err != nil {
		return err
	}
	data, err := readManifest(w, req)
	if err != nil {
		return err
	}
	mediaType := mediaTypeOf(req.Header.Get("Content-Type"))
	m, err := parseManifest(data, mediaType)
	if err != nil {
		return err
	}
	if mediaType == "" {
		mediaType = m.MediaType
	}
	if mediaType == "" {
		return refuse(http.StatusBadRequest, codeManifestInvalid, "neither Content-Type nor the manifest says its media type")
	}
	d, err := manifestDigest(data, want)
	if err != nil {
		return err
	}
	if err := r.storeManifest(rt.name, tag, d, mediaType, data, m); err != nil {
		return err
	}
	if m.Subject != nil {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	w.Header().Set("Location", "/v2/"+rt.name+"/manifests/"+d.String())
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
	return nil
}

func readManifest(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MaxManifestBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, refuse(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a manifest may have %d bytes", MaxManifestBytes)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, codeManifestInvalid, "the manifest was cut off: %v", err)
	}
	return data, nil
}

func mediaTypeOf(contentType string) string {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	return t
}

func manifestDigest(data []byte, want digest.Digest) (digest.Digest, error) {
	if want == "" {
		return digest.Canonical.FromBytes(data), nil
	}
	if got := want.Algorithm().FromBytes(data); got != want {
		return "", refuse(http.StatusBadRequest, codeDigestInvalid, "the manifest has digest %s, want %s", got, want)
	}
	return want, nil
}

// storeManifest writes content first and the tag last, so that a half-done push is never seen.
func (r *Registry) storeManifest(name, tag string, d digest.Digest, mediaType string, data []byte, m *manifest) error {
	r.sweep.RLock()
	defer r.sweep.RUnlock()
	if err := r.holdReferences(name, m); err != nil {
		return err
	}
	if err := r.checkSpace(int64(len(data))); err != nil {
		return err
	}
	if err := r.storeRevision(name, d, mediaType, data); err != nil {
		return fmt.Errorf("store manifest %s: %w", d, err)
	}
	if m.Subject != nil {
		if err := r.disk.writeFile(referrerPath(name, m.Subject.Digest, d), nil); err != nil {
			return fmt.Errorf("store referrer %s: %w", d, err)
		}
	}
	if tag == "" {
		return nil
	}
	r.tags.Lock()
	defer r.tags.Unlock()
	if err := r.disk.writeFile(tagPath(name, tag), []byte(d)); err != nil {
		return fmt.Errorf("store tag %s: %w", tag, err)
	}
	return nil
}

func (r *Registry) storeRevision(name string, d digest.Digest, mediaType string, data []byte) error {
	there, err := r.disk.touch(blobPath(d), time.Now())
	if err == nil && !there {
		err = r.disk.writeFile(blobPath(d), data)
	}
	if err != nil {
		return err
	}
	return r.disk.writeFile(linkPath(name, manifestsPart, d), []byte(mediaType))
}

// holdReferences refuses a manifest whose parts are missing, and makes the parts look new to the garbage collector.
func (r *Registry) holdReferences(name string, m *manifest) error {
	now := time.Now()
	for _, d := range m.blobs() {
		if err := r.hold(name, layersPart, d.Digest, now); err != nil {
			return err
		}
	}
	for _, d := range m.Manifests {
		if err := r.hold(name, manifestsPart, d.Digest, now); err != nil {
			return err
		}
	}
	return nil
}

func (r *Registry) hold(name, part string, d digest.Digest, now time.Time) error {
	linked, err := r.disk.touch(linkPath(name, part, d), now)
	if err != nil {
		return fmt.Errorf("look up %s: %w", d, err)
	}
	there, err := r.disk.touch(blobPath(d), now)
	if err != nil {
		return fmt.Errorf("look up %s: %w", d, err)
	}
	if linked && there {
		return nil
	}
	refusal := refuse(http.StatusNotFound, codeManifestBlobUnknown, "the manifest refers to %s, which repository %s does not hold: push it first", d, name)
	refusal.detail = map[string]string{"digest": d.String()}
	return refusal
}

// getManifest serves a manifest by tag or digest.
func (r *Registry) getManifest(w http.ResponseWriter, req *http.Request, rt route) error {
	d, err := r.resolve(rt.name, rt.ref)
	if err != nil {
		return err
	}
	mediaType, err := r.disk.root.ReadFile(linkPath(rt.name, manifestsPart, d))
	if isMissing(err) {
		return manifestUnknown(rt.name, rt.ref)
	}
	if err != nil {
		return fmt.Errorf("read manifest %s: %w", d, err)
	}
	f, err := r.disk.root.Open(blobPath(d))
	if err != nil {
		return fmt.Errorf("read manifest %s: %w", d, err)
	}
	defer f.Close() // read only
	w.Header().Set("Content-Type", string(mediaType))
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	http.ServeContent(w, req, "", time.Time{}, f)
	return nil
}

// resolve turns a reference into a digest. A digest is not looked up.
func (r *Registry) resolve(name, ref string) (digest.Digest, error) {
	tag, d, err := parseReference(ref)
	if err != nil || tag == "" {
		return d, err
	}
	data, err := r.disk.root.ReadFile(tagPath(name, tag))
	if isMissing(err) {
		return "", manifestUnknown(name, ref)
	}
	if err != nil {
		return "", fmt.Errorf("read tag %s: %w", tag, err)
	}
	return digest.Digest(data), nil
}

func manifestUnknown(name, ref string) error {
	return refuse(http.StatusNotFound, codeManifestUnknown, "repository %s has no manifest %s", name, ref)
}

// deleteManifest removes a tag, or a manifest with all tags that name it.
func (r *Registry) deleteManifest(w http.ResponseWriter, _ *http.Request, rt route) error {
	tag, d, err := parseReference(rt.ref)
	if err != nil {
		return err
	}
	r.tags.Lock()
	defer r.tags.Unlock()
	target := tagPath(rt.name, tag)
	if tag == "" {
		target = linkPath(rt.name, manifestsPart, d)
	}
	there, err := r.disk.exists(target)
	if err != nil {
		return fmt.Errorf("look up manifest %s: %w", rt.ref, err)
	}
	if !there {
		return manifestUnknown(rt.name, rt.ref)
	}
	if tag != "" {
		err = r.disk.remove(target)
	} else {
		err = r.forgetManifest(rt.name, d)
	}
	if err != nil {
		return fmt.Errorf("delete manifest %s: %w", rt.ref, err)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// forgetManifest removes what leads to the manifest first and the manifest last: a repeated delete finishes what a
// crash interrupted. The caller holds r.tags.
func (r *Registry) forgetManifest(name string, d digest.Digest) error {
	tags, err := r.tagsOf(name)
	if err != nil {
		return err
	}
	for tag, at := range tags {
		if at == d {
			if err := r.disk.remove(tagPath(name, tag)); err != nil {
				return err
			}
		}
	}
	if err := r.forgetReferrer(name, d); err != nil {
		return err
	}
	return r.disk.remove(linkPath(name, manifestsPart, d))
}

func (r *Registry) forgetReferrer(name string, d digest.Digest) error {
	data, err := r.disk.root.ReadFile(blobPath(d))
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := parseManifest(data, "")
	if err != nil || m.Subject == nil {
		return nil //nolint:nilerr // what is not a manifest refers to nothing
	}
	return r.disk.remove(referrerPath(name, m.Subject.Digest, d))
}

// tagsOf reads all tags of a repository.
func (r *Registry) tagsOf(name string) (map[string]digest.Digest, error) {
	entries, err := r.disk.readDir(path.Join(reposDir, name, tagsPart))
	if err != nil {
		return nil, err
	}
	tags := make(map[string]digest.Digest, len(entries))
	for _, e := range entries {
		data, err := r.disk.root.ReadFile(tagPath(name, e.Name()))
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		tags[e.Name()] = digest.Digest(data)
	}
	return tags, nil
}
