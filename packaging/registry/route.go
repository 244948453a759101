package registry

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// maxNameBytes bounds repository names, as other registries do.
const maxNameBytes = 255

var (
	nameRE = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagRE  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// resource is what a path addresses.
type resource int

const (
	resourceNone resource = iota
	resourceBase
	resourceCatalog
	resourceTags
	resourceManifest
	resourceBlob
	resourceUploads
	resourceUpload
	resourceReferrers
)

// route is a parsed path. name is a valid repository name wherever the resource has one; ref is not yet checked.
type route struct {
	resource resource
	name     string
	ref      string
}

// parsePath reads a URL path. Names may hold the words that separate (a repository can be called a/blobs/uploads), so
// it is read from the end.
func parsePath(path string) (route, error) {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok || (rest != "" && rest[0] != '/') {
		return route{}, refuse(http.StatusNotFound, codeUnsupported, "%s is not below /v2/", path)
	}
	rest = strings.TrimPrefix(rest, "/")
	switch rest {
	case "":
		return route{resource: resourceBase}, nil
	case "_catalog":
		return route{resource: resourceCatalog}, nil
	}
	rt := splitPath(strings.Split(rest, "/"))
	if rt.resource == resourceNone {
		return rt, refuse(http.StatusNotFound, codeUnsupported, "nothing is served at %s", path)
	}
	return rt, checkName(rt.name)
}

func splitPath(seg []string) route {
	n := len(seg)
	name := func(drop int) string { return strings.Join(seg[:n-drop], "/") }
	switch {
	case n >= 4 && seg[n-3] == "blobs" && seg[n-2] == "uploads" && seg[n-1] == "":
		return route{resource: resourceUploads, name: name(3)}
	case n >= 3 && seg[n-2] == "blobs" && seg[n-1] == "uploads":
		return route{resource: resourceUploads, name: name(2)}
	case n >= 4 && seg[n-3] == "blobs" && seg[n-2] == "uploads":
		return route{resource: resourceUpload, name: name(3), ref: seg[n-1]}
	case n >= 3 && seg[n-2] == "blobs":
		return route{resource: resourceBlob, name: name(2), ref: seg[n-1]}
	case n >= 3 && seg[n-2] == "manifests":
		return route{resource: resourceManifest, name: name(2), ref: seg[n-1]}
	case n >= 3 && seg[n-2] == "referrers":
		return route{resource: resourceReferrers, name: name(2), ref: seg[n-1]}
	case n >= 3 && seg[n-2] == "tags" && seg[n-1] == "list":
		return route{resource: resourceTags, name: name(2)}
	}
	return route{}
}

func checkName(name string) error {
	if len(name) > maxNameBytes || !nameRE.MatchString(name) {
		return refuse(http.StatusBadRequest, codeNameInvalid,
			"repository name %q: want lower-case letters, digits and single . _ - between them, parts divided by /, at most %d bytes", name, maxNameBytes)
	}
	return nil
}

func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return "", refuse(http.StatusBadRequest, codeDigestInvalid, "digest %q: %v", s, err)
	}
	return d, nil
}

// parseReference tells a tag from a digest; one of the two is empty.
func parseReference(ref string) (tag string, d digest.Digest, err error) {
	if strings.Contains(ref, ":") {
		d, err = parseDigest(ref)
		return "", d, err
	}
	if !tagRE.MatchString(ref) {
		return "", "", refuse(http.StatusBadRequest, codeManifestInvalid,
			"tag %q: want at most 128 letters, digits, _ . -, not starting with . or -", ref)
	}
	return ref, "", nil
}
