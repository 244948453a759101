package registry

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

// getBlob serves a blob, or the range of it that is asked for.
func (r *Registry) getBlob(w http.ResponseWriter, req *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	f, err := r.openBlob(rt.name, d)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	w.Header().Set("Content-Type", "application/octet-stream")
	serveContent(w, req, d, f)
	return nil
}

// openBlob opens a blob that repository name holds. Looking keeps it: a client that is told that a blob is there does
// not send it, and its manifest follows later.
func (r *Registry) openBlob(name string, d digest.Digest) (*os.File, error) {
	r.sweep.RLock()
	defer r.sweep.RUnlock()
	held, err := r.disk.touch(linkPath(name, layersPart, d), time.Now())
	if err != nil {
		return nil, fmt.Errorf("look up blob %s: %w", d, err)
	}
	if !held {
		if held, err = r.disk.exists(linkPath(name, manifestsPart, d)); err != nil {
			return nil, fmt.Errorf("look up manifest %s: %w", d, err)
		}
	}
	if !held {
		return nil, blobUnknown(name, d)
	}
	f, err := r.disk.root.Open(blobPath(d))
	if isMissing(err) {
		return nil, blobUnknown(name, d)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, nil
}

func blobUnknown(name string, d digest.Digest) error {
	return refuse(http.StatusNotFound, codeBlobUnknown, "repository %s has no blob %s", name, d)
}

// serveContent answers GET and HEAD with ranges and If-None-Match. Content never changes, so no times are sent.
func serveContent(w http.ResponseWriter, req *http.Request, d digest.Digest, f *os.File) {
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("ETag", `"`+d.String()+`"`)
	w.Header().Set("Cache-Control", "private, max-age=31536000, immutable")
	http.ServeContent(w, req, "", time.Time{}, f)
}

// deleteBlob makes the repository forget a blob. The content goes with the next garbage collection, unless another
// repository holds it too.
func (r *Registry) deleteBlob(w http.ResponseWriter, _ *http.Request, rt route) error {
	d, err := parseDigest(rt.ref)
	if err != nil {
		return err
	}
	link := linkPath(rt.name, layersPart, d)
	held, err := r.disk.exists(link)
	if err != nil {
		return fmt.Errorf("look up blob %s: %w", d, err)
	}
	if !held {
		return blobUnknown(rt.name, d)
	}
	if err := r.disk.remove(link); err != nil {
		return fmt.Errorf("delete blob %s: %w", d, err)
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// linkBlob makes repository name hold content that is in the store already. It says false when it is not.
func (r *Registry) linkBlob(name string, d digest.Digest) (bool, error) {
	r.sweep.RLock()
	defer r.sweep.RUnlock()
	there, err := r.disk.touch(blobPath(d), time.Now())
	if err != nil || !there {
		return false, err
	}
	return true, r.disk.writeFile(linkPath(name, layersPart, d), nil)
}
