package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// syncEvery bounds what a power cut can take of a part: below the last multiple of it, all is on the disk.
	syncEvery = 16 << 20
	// stallTimeout is how long a transfer may bring nothing before it is tried anew.
	stallTimeout = time.Minute
	// maxVainTries is how many transfers in a row may bring nothing before the pull gives up. Whoever wants the image
	// tries again later, by Kubernetes' back-off, and goes on from where this ended.
	maxVainTries = 6
	// maxRetryWait bounds the wait between two transfers.
	maxRetryWait = 30 * time.Second
	// copyBytes is read at a time.
	copyBytes = 64 << 10
)

// errStalled ends a transfer that brings nothing.
var errStalled = fmt.Errorf("nothing came for %v", stallTimeout)

// part is a compressed layer that is being fetched.
type part struct {
	f    *os.File
	size int64 // on the disk or in its cache
	want v1.Descriptor
}

func (s *Store) partPath(d v1.Hash) string { return s.path("images/parts", d.Hex) }

// fetch brings the part of desc to its full size, going on from what is there. It is not verified yet.
func (s *Store) fetch(ctx context.Context, src *source, ref string, desc v1.Descriptor) error {
	p, err := s.openPart(desc)
	if err != nil {
		return err
	}
	report := s.reporter(ref, desc)
	err = s.fill(ctx, src, p, report)
	// Synced on the way out, whatever happened: the next try counts on it.
	return diskError(errors.Join(err, p.f.Sync(), p.f.Close()))
}

// openPart opens or makes the part. What another boot wrote counts only up to the last sync for certain.
func (s *Store) openPart(desc v1.Descriptor) (*part, error) {
	f, err := os.OpenFile(s.partPath(desc.Digest), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, diskError(err)
	}
	p := &part{f: f, want: desc}
	if err := s.trust(p); err != nil {
		return nil, errors.Join(fmt.Errorf("open part of %s: %w", desc.Digest, diskError(err)), f.Close())
	}
	return p, nil
}

func (s *Store) trust(p *part) error {
	info, err := p.f.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	marker := s.path("run/pulls", p.want.Digest.Hex)
	ours, err := exists(marker)
	if err != nil {
		return err
	}
	if !ours {
		p.size -= p.size % syncEvery
	}
	if p.size > p.want.Size {
		p.size = 0
	}
	if err := p.f.Truncate(p.size); err != nil {
		return err
	}
	return os.WriteFile(marker, nil, 0o600)
}

// fill transfers until the part is complete, again and again while each transfer brings something.
func (s *Store) fill(ctx context.Context, src *source, p *part, report func(int64)) error {
	vain := 0
	for p.size < p.want.Size {
		before := p.size
		err := s.transfer(ctx, src, p, report)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && lasting(diskError(err)):
			return err
		case p.size > before:
			vain = 0
		default:
			vain++
		}
		if err == nil {
			continue
		}
		if vain >= maxVainTries {
			return fmt.Errorf("gave up at %d of %d bytes after %d transfers that brought nothing: %w", p.size, p.want.Size, vain, err)
		}
		s.log.Warn("image layer transfer broke, trying again", "digest", p.want.Digest.String(), "done", p.size, "total", p.want.Size, "err", err)
		if err := s.pause(ctx, vain); err != nil {
			return err
		}
	}
	return nil
}

// pause waits longer after each vain try, and at random, so that nodes that lost the same link do not come back at once.
func (s *Store) pause(ctx context.Context, vain int) error {
	wait := min(s.opts.Retry<<vain, maxRetryWait)
	wait = wait/2 + rand.N(wait/2+1)
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// transfer asks for the rest of the part and appends what comes.
func (s *Store) transfer(ctx context.Context, src *source, p *part, report func(int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("%w: %w", ErrUnavailable, errStalled)) })
	defer watchdog.Stop()
	resp, err := src.get(ctx, p)
	if err != nil {
		return orCause(ctx, err)
	}
	defer resp.Body.Close() // what matters came through Read
	if err := p.accept(resp); err != nil {
		return err
	}
	return orCause(ctx, p.receive(resp.Body, func() {
		watchdog.Reset(stallTimeout)
		report(p.size)
	}))
}

// orCause prefers the reason for which a transfer was cancelled to the word "canceled".
func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// get asks for the blob from p.size on.
func (src *source) get(ctx context.Context, p *part) (*http.Response, error) {
	u := url.URL{Scheme: src.repo.Scheme(), Host: src.repo.RegistryStr(), Path: fmt.Sprintf("/v2/%s/blobs/%s", src.repo.RepositoryStr(), p.want.Digest)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if p.size > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
	}
	req.Header.Set("Accept-Encoding", "identity") // the bytes as they are, or ranges mean nothing
	resp, err := src.client.Do(req)
	if err != nil {
		return nil, remoteError(err)
	}
	return resp, nil
}

// accept checks that the answer begins where the part ends, and begins anew with a server that knows no ranges.
func (p *part) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		return p.restart()
	case http.StatusPartialContent:
		if start, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || start != p.size {
			return errors.Join(fmt.Errorf("%w: asked for bytes from %d, got Content-Range %q", ErrUnavailable, p.size, resp.Header.Get("Content-Range")), p.restart())
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(fmt.Errorf("%w: the registry has fewer than %d bytes of %s", ErrUnavailable, p.size, p.want.Digest), p.restart())
	}
	return fmt.Errorf("%w: GET %s: %s", meaningOf(resp.StatusCode), p.want.Digest, resp.Status)
}

func rangeStart(contentRange string) (int64, bool) {
	rest, ok := strings.CutPrefix(contentRange, "bytes ")
	if !ok {
		return 0, false
	}
	first, _, _ := strings.Cut(rest, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	return start, err == nil
}

func (p *part) restart() error {
	p.size = 0
	return p.f.Truncate(0)
}

// receive appends the body, syncing at each multiple of syncEvery. heard is called whenever something came.
func (p *part) receive(body io.Reader, heard func()) error {
	buf := make([]byte, copyBytes)
	for {
		n, err := body.Read(buf[:min(int64(len(buf)), syncEvery-p.size%syncEvery)])
		if n > 0 {
			if err := p.write(buf[:n]); err != nil {
				return err
			}
			heard()
		}
		switch {
		case errors.Is(err, io.EOF) && p.size == p.want.Size:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the transfer ended at %d of %d bytes", ErrUnavailable, p.size, p.want.Size)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

func (p *part) write(data []byte) error {
	if p.size+int64(len(data)) > p.want.Size {
		return errors.Join(fmt.Errorf("%w: more than %d bytes come for %s", ErrCorrupt, p.want.Size, p.want.Digest), p.restart())
	}
	if _, err := p.f.WriteAt(data, p.size); err != nil {
		return err
	}
	p.size += int64(len(data))
	if p.size%syncEvery == 0 {
		return p.f.Sync()
	}
	return nil
}

// dropPart removes the part: it is unpacked, or useless.
func (s *Store) dropPart(d v1.Hash) error {
	return errors.Join(ignoreMissing(os.Remove(s.partPath(d))), ignoreMissing(os.Remove(s.path("run/pulls", d.Hex))))
}

// reporter passes on how far a layer is: to the log now and then, and to Options.Progress.
func (s *Store) reporter(ref string, desc v1.Descriptor) func(done int64) {
	start := time.Now()
	logged, told := start, time.Time{}
	return func(done int64) {
		now := time.Now()
		if now.Sub(logged) >= 10*time.Second {
			logged = now
			s.log.Info("image layer transfer", "image", ref, "digest", desc.Digest.String(), "done", done, "total", desc.Size, "took", now.Sub(start).Round(time.Second))
		}
		if s.opts.Progress != nil && (now.Sub(told) >= time.Second || done == desc.Size) {
			told = now
			s.opts.Progress(Progress{Ref: ref, Digest: desc.Digest.String(), Done: done, Total: desc.Size})
		}
	}
}
