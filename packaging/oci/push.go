package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	// chunkBytes is how much goes into one request: a broken link costs at most that much of progress in the client's
	// eyes, and nothing where the registry keeps what arrived.
	chunkBytes = 8 << 20
	// maxVainTries is how many requests in a row may bring nothing before a push gives up.
	maxVainTries = 6
	maxRetryWait = 30 * time.Second
)

// PushOptions configure Push.
type PushOptions struct {
	Auth      authn.Authenticator // nil means none
	Transport http.RoundTripper   // nil means the default one
	// Progress, if set, hears of each layer: done of total bytes; done is total at once for one that is there already.
	// Calls come from one goroutine.
	Progress func(layer v1.Hash, done, total int64)
	// Retried, if set, hears of each request that is tried again.
	Retried func(err error)
	// Chunk is the size of requests, and Retry the first wait after a broken one. Zero means the defaults, 8 MiB and 1 s.
	Chunk int64
	Retry time.Duration
}

// Push sends an image to the registry of ref. Layers that are there already are not sent; one whose transfer breaks goes
// on from the byte that arrived. The manifest goes last, so a push that fails leaves the tag as it was, and repeating it
// costs only what is missing.
func Push(ctx context.Context, ref name.Reference, img v1.Image, o PushOptions) error {
	p, err := newPusher(ctx, ref, o)
	if err == nil {
		err = p.push(ctx, ref, img)
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

type pusher struct {
	repo   name.Repository
	client *http.Client
	o      PushOptions
}

func newPusher(ctx context.Context, ref name.Reference, o PushOptions) (*pusher, error) {
	if o.Auth == nil {
		o.Auth = authn.Anonymous
	}
	if o.Transport == nil {
		o.Transport = http.DefaultTransport
	}
	if o.Chunk == 0 {
		o.Chunk = chunkBytes
	}
	if o.Retry == 0 {
		o.Retry = time.Second
	}
	repo := ref.Context()
	rt, err := transport.NewWithContext(ctx, repo.Registry, o.Auth, o.Transport, []string{repo.Scope(transport.PushScope)})
	if err != nil {
		return nil, err
	}
	return &pusher{repo: repo, client: &http.Client{Transport: rt}, o: o}, nil
}

func (p *pusher) push(ctx context.Context, ref name.Reference, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		if err := p.pushLayer(ctx, l); err != nil {
			return err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	digest, err := img.ConfigName()
	if err != nil {
		return err
	}
	if err := p.pushBlob(ctx, &blob{digest: digest, size: int64(len(config)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(config)), nil
	}}); err != nil {
		return err
	}
	return p.pushManifest(ctx, ref, img)
}

// blob is what is pushed and how to read it.
type blob struct {
	digest v1.Hash
	size   int64
	open   func() (io.ReadCloser, error)
	report func(done int64)
}

func (p *pusher) pushLayer(ctx context.Context, l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	return p.pushBlob(ctx, &blob{digest: digest, size: size, open: l.Compressed, report: func(done int64) {
		if p.o.Progress != nil {
			p.o.Progress(digest, done, size)
		}
	}})
}

func (p *pusher) pushBlob(ctx context.Context, b *blob) error {
	if b.report == nil {
		b.report = func(int64) {}
	}
	u := &upload{p: p, b: b}
	if err := u.run(ctx); err != nil {
		return fmt.Errorf("blob %s: %w", b.digest, err)
	}
	return nil
}

// upload is one blob on its way. It survives broken requests: location and offset say where it is.
type upload struct {
	p        *pusher
	b        *blob
	location *url.URL // nil before the upload has begun
	offset   int64
}

// run repeats step until the blob is there, and gives up when steps bring nothing.
func (u *upload) run(ctx context.Context) error {
	vain := 0
	for {
		before := u.offset
		done, err := u.step(ctx)
		switch {
		case done:
			u.b.report(u.b.size)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil || u.offset > before:
			vain = 0
		default:
			vain++
		}
		if err == nil {
			continue
		}
		if final(err) && !(u.location != nil && lost(err)) || vain >= maxVainTries {
			return err
		}
		if u.p.o.Retried != nil {
			u.p.o.Retried(err)
		}
		if err := u.p.pause(ctx, vain); err != nil {
			return err
		}
		u.find(ctx)
	}
}

// step does the next thing: look and begin, send a chunk, or finish.
func (u *upload) step(ctx context.Context) (done bool, err error) {
	if u.location == nil {
		return u.begin(ctx)
	}
	if u.b.size-u.offset > u.p.o.Chunk {
		return false, u.send(ctx, http.MethodPatch, u.p.o.Chunk)
	}
	err = u.send(ctx, http.MethodPut, u.b.size-u.offset)
	return err == nil, err
}

// begin finds out whether the blob is there, or can be had from another repository, and else begins to upload it.
func (u *upload) begin(ctx context.Context) (done bool, err error) {
	resp, err := u.p.do(ctx, http.MethodHead, u.p.url("blobs", u.b.digest.String()), nil, nil)
	if err != nil {
		return false, err
	}
	if resp.StatusCode == http.StatusOK {
		return true, nil
	}
	if resp.StatusCode != http.StatusNotFound {
		return false, refusal(resp)
	}
	target := u.p.url("blobs", "uploads/")
	target.RawQuery = url.Values{"mount": {u.b.digest.String()}}.Encode()
	if resp, err = u.p.do(ctx, http.MethodPost, target, nil, nil); err != nil {
		return false, err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		return true, nil
	case http.StatusAccepted:
		u.offset = 0
		return false, u.move(resp)
	}
	return false, refusal(resp)
}

// move takes the place where the upload goes on from an answer.
func (u *upload) move(resp *http.Response) error {
	location, err := resp.Location()
	if err != nil {
		return fmt.Errorf("the registry does not say where to upload: %w", err)
	}
	u.location = location
	return nil
}

// send sends the next n bytes; PUT finishes the upload with them.
func (u *upload) send(ctx context.Context, method string, n int64) error {
	body, err := u.b.from(u.offset)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // only reading
	target, header := *u.location, http.Header{"Content-Type": {"application/octet-stream"}}
	if method == http.MethodPut {
		q := target.Query()
		q.Set("digest", u.b.digest.String())
		target.RawQuery = q.Encode()
	}
	if n > 0 {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+n-1))
	}
	resp, err := u.p.do(ctx, method, &target, &counting{r: io.LimitReader(body, n), n: n, at: u.offset, report: u.b.report}, header)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusCreated && method == http.MethodPut {
		return nil
	}
	if resp.StatusCode != http.StatusAccepted || method == http.MethodPut {
		return refusal(resp)
	}
	u.offset += n
	return u.move(resp)
}

// find asks the registry how much arrived. When it does not know the upload any more, it is begun anew.
func (u *upload) find(ctx context.Context) {
	if u.location == nil {
		return
	}
	resp, err := u.p.do(ctx, http.MethodGet, u.location, nil, nil)
	if err != nil {
		return // the link is still broken; the next step finds out more
	}
	last, ok := lastByte(resp.Header.Get("Range"))
	if resp.StatusCode != http.StatusNoContent || !ok || last == 0 {
		u.location, u.offset = nil, 0
		return
	}
	u.offset = min(last+1, u.b.size)
	if resp.Header.Get("Location") != "" {
		_ = u.move(resp) // it was read before
	}
}

// lastByte reads the answer's Range, FIRST-LAST. A last byte of 0 may mean none.
func lastByte(h string) (int64, bool) {
	_, last, ok := strings.Cut(strings.TrimPrefix(h, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	return n, ok && err == nil
}

// from opens the blob at an offset.
func (b *blob) from(offset int64) (io.ReadCloser, error) {
	r, err := b.open()
	if err != nil {
		return nil, err
	}
	if s, ok := r.(io.Seeker); ok {
		_, err = s.Seek(offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, r, offset)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read from byte %d: %w", offset, err), r.Close())
	}
	return r, nil
}

// counting reports what is read for a request.
type counting struct {
	r      io.Reader
	n      int64 // in all
	at     int64
	report func(int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.at += int64(n)
	c.report(c.at)
	return n, err
}

// pushManifest makes the image visible.
func (p *pusher) pushManifest(ctx context.Context, ref name.Reference, img v1.Image) error {
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	media, err := img.MediaType()
	if err != nil {
		return err
	}
	for vain := 0; ; vain++ {
		body := &counting{r: bytes.NewReader(raw), n: int64(len(raw)), report: func(int64) {}}
		resp, err := p.do(ctx, http.MethodPut, p.url("manifests", ref.Identifier()), body, http.Header{"Content-Type": {string(media)}})
		if err == nil && resp.StatusCode == http.StatusCreated {
			return nil
		}
		if err == nil {
			err = refusal(resp)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if final(err) || vain >= maxVainTries {
			return fmt.Errorf("manifest: %w", err)
		}
		if err := p.pause(ctx, vain); err != nil {
			return err
		}
	}
}

func (p *pusher) url(parts ...string) *url.URL {
	path := "/v2/" + p.repo.RepositoryStr() + "/" + strings.Join(parts, "/")
	return &url.URL{Scheme: p.repo.Scheme(), Host: p.repo.RegistryStr(), Path: path}
}

// do performs a request and reads its answer, which is small: the body of what is returned is read and closed.
func (p *pusher) do(ctx context.Context, method string, u *url.URL, body *counting, header http.Header) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = body
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), r)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.ContentLength = body.n
		if body.n == 0 {
			req.Body = http.NoBody
		}
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(data))
	return resp, nil
}

// refusal turns an answer into an error.
func refusal(resp *http.Response) error {
	if err := transport.CheckError(resp); err != nil {
		return err
	}
	return fmt.Errorf("unexpected answer %s", resp.Status)
}

// final says that trying again cannot help: the registry understood and refused.
func final(err error) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return errors.Is(err, ErrCorrupt)
	}
	switch answer.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	case http.StatusInsufficientStorage:
		return true
	}
	return answer.StatusCode < 500
}

// lost says that an upload under way is not known any more, is at another byte, or got less than was sent: it is looked
// up, or begun anew.
func lost(err error) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return false
	}
	cutOff := slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool { return d.Code == transport.BlobUploadInvalidErrorCode })
	return cutOff || answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusRequestedRangeNotSatisfiable
}

func (p *pusher) pause(ctx context.Context, vain int) error {
	wait := min(p.o.Retry<<vain, maxRetryWait)
	select {
	case <-time.After(wait/2 + rand.N(wait/2+1)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
