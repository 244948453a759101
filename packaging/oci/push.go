package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
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
		a, err := p.do(ctx, http.MethodPut, p.url("manifests", ref.Identifier()), body, http.Header{"Content-Type": {string(media)}})
		if err == nil && a.status == http.StatusCreated {
			return nil
		}
		if err == nil {
			err = a.refusal()
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

// answer is a response that was read to its end.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	request *http.Request
}

// do performs a request and reads its answer, which is small.
func (p *pusher) do(ctx context.Context, method string, u *url.URL, body *counting, header http.Header) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if body != nil && body.n > 0 {
		req.Body, req.ContentLength = io.NopCloser(body), body.n
	}
	maps.Copy(req.Header, header)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: data, request: resp.Request}, nil
}

// refusal turns an answer into an error.
func (a *answer) refusal() error {
	resp := &http.Response{StatusCode: a.status, Header: a.header, Request: a.request, Body: io.NopCloser(bytes.NewReader(a.body))}
	if err := transport.CheckError(resp); err != nil {
		return err
	}
	return fmt.Errorf("unexpected answer: status %d", a.status)
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
