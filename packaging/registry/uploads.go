package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// spaceCheckBytes is how much an upload writes between two looks at the free space.
const spaceCheckBytes = 16 << 20

var uploadIDRE = regexp.MustCompile(`^[a-z0-9]{26}$`)

// postUpload begins an upload, or avoids it: by mounting what another repository holds, or by taking the whole blob.
func (r *Registry) postUpload(w http.ResponseWriter, req *http.Request, rt route) error {
	q := req.URL.Query()
	if m := q.Get("mount"); m != "" {
		mounted, err := r.mount(rt.name, q.Get("from"), m)
		if err != nil {
			return err
		}
		if mounted != "" {
			created(w, rt.name, mounted)
			return nil
		}
	}
	var want digest.Digest
	if s := q.Get("digest"); s != "" {
		var err error
		if want, err = parseDigest(s); err != nil {
			return err
		}
	}
	u, err := r.newUpload(rt.name)
	if err != nil {
		return err
	}
	if want == "" {
		u.accepted(w, http.StatusAccepted)
		return nil
	}
	return r.finishUpload(w, req, u, want)
}

// mount links a blob of repository from, or of any when from is empty, into name. The empty digest means that there is
// no such blob, and the client uploads it.
func (r *Registry) mount(name, from, ref string) (digest.Digest, error) {
	d, err := parseDigest(ref)
	if err != nil {
		return "", err
	}
	if from != "" {
		if checkName(from) != nil {
			return "", nil
		}
		if held, err := r.disk.exists(linkPath(from, layersPart, d)); err != nil || !held {
			return "", err
		}
	}
	there, err := r.linkBlob(name, d)
	if err != nil {
		return "", fmt.Errorf("mount blob %s: %w", d, err)
	}
	if !there {
		return "", nil
	}
	return d, nil
}

func created(w http.ResponseWriter, name string, d digest.Digest) {
	w.Header().Set("Location", "/v2/"+name+"/blobs/"+d.String())
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}

// getUpload says how much has arrived, so that a client whose link broke goes on from there.
func (r *Registry) getUpload(w http.ResponseWriter, req *http.Request, rt route) error {
	u, done, err := r.takeUpload(w, req, rt)
	if err != nil {
		return err
	}
	defer done()
	u.accepted(w, http.StatusNoContent)
	return nil
}

// patchUpload appends a chunk. What arrives before the link breaks is kept.
func (r *Registry) patchUpload(w http.ResponseWriter, req *http.Request, rt route) error {
	u, done, err := r.takeUpload(w, req, rt)
	if err != nil {
		return err
	}
	defer done()
	if err := r.append(w, u, req); err != nil {
		return err
	}
	u.accepted(w, http.StatusAccepted)
	return nil
}

// putUpload appends the last chunk, if any, and makes the blob.
func (r *Registry) putUpload(w http.ResponseWriter, req *http.Request, rt route) error {
	want, err := parseDigest(req.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, done, err := r.takeUpload(w, req, rt)
	if err != nil {
		return err
	}
	defer done()
	return r.finishUpload(w, req, u, want)
}

func (r *Registry) deleteUpload(w http.ResponseWriter, req *http.Request, rt route) error {
	u, done, err := r.takeUpload(w, req, rt)
	if err != nil {
		return err
	}
	defer done()
	if err := r.dropUpload(u.id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// finishUpload appends the body, verifies all of it and publishes the blob.
func (r *Registry) finishUpload(w http.ResponseWriter, req *http.Request, u *upload, want digest.Digest) error {
	if err := r.append(w, u, req); err != nil {
		return err
	}
	if err := r.commit(u, want); err != nil {
		return err
	}
	created(w, u.name, want)
	return nil
}

// upload is one upload under way. size is what has arrived.
type upload struct {
	id   string
	name string
	size int64
}

func uploadPath(id, file string) string { return path.Join(uploadsDir, id, file) }

func (u *upload) accepted(w http.ResponseWriter, status int) {
	w.Header().Set("Location", "/v2/"+u.name+"/blobs/uploads/"+u.id)
	w.Header().Set("Docker-Upload-UUID", u.id)
	w.Header().Set("Range", u.rangeHeader())
	w.WriteHeader(status)
}

// rangeHeader is the specification's inclusive range. It cannot tell 0 bytes from 1; clients send more at once.
func (u *upload) rangeHeader() string { return "0-" + strconv.FormatInt(max(u.size-1, 0), 10) }

func (r *Registry) newUpload(name string) (*upload, error) {
	if err := r.checkSpace(0); err != nil {
		return nil, err
	}
	id := newID()
	if err := r.disk.writeFile(uploadPath(id, "repo"), []byte(name)); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	return &upload{id: id, name: name}, nil
}

// takeUpload finds the upload of the route and waits until nobody else uses it. done must be called.
func (r *Registry) takeUpload(w http.ResponseWriter, req *http.Request, rt route) (*upload, func(), error) {
	if !uploadIDRE.MatchString(rt.ref) {
		return nil, nil, uploadUnknown(rt.ref)
	}
	done, err := r.uploads.take(req.Context(), rt.ref, http.NewResponseController(w))
	if err != nil {
		return nil, nil, err
	}
	u, err := r.loadUpload(rt)
	if err != nil {
		done()
		return nil, nil, err
	}
	return u, done, nil
}

func uploadUnknown(id string) error {
	return refuse(http.StatusNotFound, codeBlobUploadUnknown, "upload %q is not known: it is finished, cancelled or too old; begin again", id)
}

func (r *Registry) loadUpload(rt route) (*upload, error) {
	name, err := r.disk.root.ReadFile(uploadPath(rt.ref, "repo"))
	if isMissing(err) || (err == nil && string(name) != rt.name) {
		return nil, uploadUnknown(rt.ref)
	}
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	u := &upload{id: rt.ref, name: rt.name}
	info, err := r.disk.root.Stat(uploadPath(u.id, "data"))
	if isMissing(err) {
		return u, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read upload: %w", err)
	}
	u.size = info.Size()
	return u, nil
}

// append writes the request's body behind what is there.
func (r *Registry) append(w http.ResponseWriter, u *upload, req *http.Request) error {
	if err := u.checkRange(w, req); err != nil {
		return err
	}
	if u.size+max(req.ContentLength, 0) > r.opts.MaxBlobBytes {
		return r.tooLarge()
	}
	if err := r.checkSpace(max(req.ContentLength, 0)); err != nil {
		return errors.Join(err, r.dropUpload(u.id))
	}
	f, err := r.disk.root.OpenFile(uploadPath(u.id, "data"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open upload: %w", err)
	}
	err = r.copyBody(f, u, req.Body)
	err = errors.Join(err, f.Close())
	if isFull(err) {
		// A full disk hurts everybody else on it, so what arrived so far is given up.
		return errors.Join(err, r.dropUpload(u.id))
	}
	return err
}

// checkRange refuses a chunk that does not begin where the last one ended, and says where that is.
func (u *upload) checkRange(w http.ResponseWriter, req *http.Request) error {
	h := req.Header.Get("Content-Range")
	if h == "" {
		return nil
	}
	from, to, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "-")
	start, err1 := strconv.ParseInt(from, 10, 64)
	end, err2 := strconv.ParseInt(to, 10, 64)
	if !ok || err1 != nil || err2 != nil || end < start-1 {
		return refuse(http.StatusBadRequest, codeBlobUploadInvalid, "Content-Range %q: want FIRST-LAST", h)
	}
	if start != u.size {
		w.Header().Set("Location", "/v2/"+u.name+"/blobs/uploads/"+u.id)
		w.Header().Set("Range", u.rangeHeader())
		return refuse(http.StatusRequestedRangeNotSatisfiable, codeBlobUploadInvalid, "chunk begins at %d, want %d", start, u.size)
	}
	if req.ContentLength >= 0 && end-start+1 != req.ContentLength {
		return refuse(http.StatusBadRequest, codeSizeInvalid, "Content-Range %q is %d bytes, Content-Length %d", h, end-start+1, req.ContentLength)
	}
	return nil
}

// copyBody appends the body and counts it, looking at size and space on the way.
func (r *Registry) copyBody(f *os.File, u *upload, body io.Reader) error {
	for {
		n, err := io.CopyN(f, body, spaceCheckBytes)
		u.size += n
		switch {
		case u.size > r.opts.MaxBlobBytes:
			return errors.Join(r.tooLarge(), r.dropUpload(u.id))
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && isFull(err):
			return err
		case err != nil:
			return refuse(http.StatusBadRequest, codeBlobUploadInvalid, "the chunk was cut off after %d bytes in all: %v", u.size, err)
		}
		if err := r.checkSpace(0); err != nil {
			return err
		}
	}
}

func (r *Registry) tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, codeSizeInvalid, "a blob may have %d bytes", r.opts.MaxBlobBytes)
}

// checkSpace refuses to write more bytes when that would leave less than the reserve.
func (r *Registry) checkSpace(more int64) error {
	if r.opts.ReserveBytes < 0 {
		return nil
	}
	free, err := r.disk.freeBytes()
	if err != nil {
		return err
	}
	if free-more < r.opts.ReserveBytes {
		return fmt.Errorf("%d bytes free, %d more wanted, %d kept in reserve: %w", free, more, r.opts.ReserveBytes, errStorageFull)
	}
	return nil
}

// commit verifies the upload and makes it a blob of its repository. After a wrong digest the upload is gone: what
// arrived is wrong somewhere, and appending cannot mend it.
func (r *Registry) commit(u *upload, want digest.Digest) error {
	got, err := r.digestUpload(u, want.Algorithm())
	if err != nil {
		return err
	}
	if got != want {
		refusal := refuse(http.StatusBadRequest, codeDigestInvalid, "the upload has digest %s, want %s (%d bytes)", got, want, u.size)
		return errors.Join(refusal, r.dropUpload(u.id))
	}
	r.sweep.RLock()
	defer r.sweep.RUnlock()
	if err := r.publishUpload(u, want); err != nil {
		return fmt.Errorf("store blob %s: %w", want, err)
	}
	if err := r.disk.writeFile(linkPath(u.name, layersPart, want), nil); err != nil {
		return err
	}
	return r.dropUpload(u.id)
}

// digestUpload reads the file back, and syncs it: what is hashed is what will be there after a power cut.
func (r *Registry) digestUpload(u *upload, algorithm digest.Algorithm) (digest.Digest, error) {
	f, err := r.disk.root.OpenFile(uploadPath(u.id, "data"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("open upload: %w", err)
	}
	digester := algorithm.Digester()
	_, err = io.Copy(digester.Hash(), f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("read upload back: %w", err)
	}
	return digester.Digest(), nil
}

func (r *Registry) publishUpload(u *upload, d digest.Digest) error {
	there, err := r.disk.touch(blobPath(d), time.Now())
	if err != nil || there {
		return err
	}
	// The data may have waited long for its last request; as a blob it is new.
	if _, err := r.disk.touch(uploadPath(u.id, "data"), time.Now()); err != nil {
		return err
	}
	return r.disk.publish(uploadPath(u.id, "data"), blobPath(d))
}

func (r *Registry) dropUpload(id string) error {
	if err := r.disk.root.RemoveAll(path.Join(uploadsDir, id)); err != nil {
		return fmt.Errorf("drop upload: %w", err)
	}
	return nil
}
