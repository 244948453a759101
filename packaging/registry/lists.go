package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const (
	mediaTypeIndex = "application/vnd.oci.image.index.v1+json"
	// maxPage bounds one page of a list, and is its size when the client does not say.
	maxPage = 10000
)

func sortEntries(entries []fs.DirEntry) {
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
}

// getTags lists a repository's tags, a page at a time.
func (r *Registry) getTags(w http.ResponseWriter, req *http.Request, rt route) error {
	known, err := r.disk.exists(path.Join(reposDir, rt.name))
	if err != nil {
		return fmt.Errorf("look up repository %s: %w", rt.name, err)
	}
	if !known {
		return refuse(http.StatusNotFound, codeNameUnknown, "repository %s does not exist", rt.name)
	}
	entries, err := r.disk.readDir(path.Join(reposDir, rt.name, tagsPart))
	if err != nil {
		return fmt.Errorf("list tags of %s: %w", rt.name, err)
	}
	tags := make([]string, 0, len(entries))
	for _, e := range entries {
		tags = append(tags, e.Name())
	}
	page, err := paginate(w, req, tags)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"name": rt.name, "tags": page})
}

// getCatalog lists the repositories that hold at least one manifest.
func (r *Registry) getCatalog(w http.ResponseWriter, req *http.Request, _ route) error {
	names, err := r.repositories(req.Context())
	if err != nil {
		return fmt.Errorf("list repositories: %w", err)
	}
	held := make([]string, 0, len(names))
	for _, name := range names {
		digests, err := r.disk.digestsIn(path.Join(reposDir, name, manifestsPart))
		if err != nil {
			return fmt.Errorf("list manifests of %s: %w", name, err)
		}
		if len(digests) > 0 {
			held = append(held, name)
		}
	}
	page, err := paginate(w, req, held)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", map[string]any{"repositories": page})
}

// repositories walks the folder of repositories, in order of names.
func (r *Registry) repositories(ctx context.Context) ([]string, error) {
	var names []string
	err := fs.WalkDir(r.disk.root.FS(), reposDir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			if isMissing(err) {
				return nil
			}
			return err
		}
		if !e.IsDir() || ctx.Err() != nil {
			return ctx.Err()
		}
		if strings.HasPrefix(e.Name(), "_") {
			names = append(names, path.Dir(strings.TrimPrefix(p, reposDir+"/")))
			return fs.SkipDir
		}
		return nil
	})
	sort.Strings(names)
	return slices.Compact(names), err
}

// paginate cuts the page that n and last ask for out of sorted names, and links to the next one.
func paginate(w http.ResponseWriter, req *http.Request, names []string) ([]string, error) {
	q := req.URL.Query()
	n := maxPage
	if s := q.Get("n"); s != "" {
		asked, err := strconv.Atoi(s)
		if err != nil || asked < 0 {
			return nil, refuse(http.StatusBadRequest, codeUnsupported, "n=%q: want a number, 0 or more", s)
		}
		n = min(asked, maxPage)
	}
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(names, last)
		if found {
			i++
		}
		names = names[i:]
	}
	if len(names) <= n || n == 0 {
		return names[:min(n, len(names))], nil
	}
	next := url.URL{Path: req.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(n)}, "last": {names[n-1]}}.Encode()}
	w.Header().Set("Link", "<"+next.String()+`>; rel="next"`)
	return names[:n], nil
}

// index is the answer of the referrers API.
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// getReferrers lists the manifests whose subject is the given digest. Unknown digests have none.
func (r *Registry) getReferrers(w http.ResponseWriter, req *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	digests, err := r.disk.digestsIn(referrersPath(rt.name, d))
	if err != nil {
		return fmt.Errorf("list referrers of %s: %w", d, err)
	}
	filter := req.URL.Query().Get("artifactType")
	out := index{SchemaVersion: 2, MediaType: mediaTypeIndex, Manifests: []descriptor{}}
	for _, ref := range digests {
		desc, err := r.describe(rt.name, ref.String())
		if err != nil {
			return fmt.Errorf("read referrer %s: %w", ref, err)
		}
		if desc != nil && (filter == "" || desc.ArtifactType == filter) {
			out.Manifests = append(out.Manifests, *desc)
		}
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSON(w, mediaTypeIndex, out)
}

// describe makes the descriptor of a manifest that the repository holds; nil when it is gone meanwhile.
func (r *Registry) describe(name, ref string) (*descriptor, error) {
	d, err := parseDigest(ref)
	if err != nil {
		return nil, err
	}
	mediaType, err := r.disk.root.ReadFile(linkPath(name, manifestsPart, d))
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := r.disk.root.ReadFile(blobPath(d))
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data, "")
	if err != nil {
		return nil, err
	}
	return &descriptor{
		MediaType: string(mediaType), Digest: d, Size: int64(len(data)),
		ArtifactType: m.artifactType(), Annotations: m.Annotations,
	}, nil
}

func writeJSON(w http.ResponseWriter, contentType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return errors.Join(errors.New("encode answer"), err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, err = w.Write(data)
	return ignoreGone(err)
}
