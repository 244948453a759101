package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

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
		if vain >= maxVainTries || final(err) && (u.location == nil || !lost(err)) {
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
	a, err := u.p.do(ctx, http.MethodHead, u.p.url("blobs", u.b.digest.String()), nil, nil)
	if err != nil {
		return false, err
	}
	if a.status == http.StatusOK {
		return true, nil
	}
	if a.status != http.StatusNotFound {
		return false, a.refusal()
	}
	target := u.p.url("blobs", "uploads/")
	target.RawQuery = url.Values{"mount": {u.b.digest.String()}}.Encode()
	if a, err = u.p.do(ctx, http.MethodPost, target, nil, nil); err != nil {
		return false, err
	}
	switch a.status {
	case http.StatusCreated:
		return true, nil
	case http.StatusAccepted:
		u.offset = 0
		return false, u.move(a)
	}
	return false, a.refusal()
}

// move takes the place where the upload goes on from an answer.
func (u *upload) move(a *answer) error {
	location, err := a.request.URL.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		return fmt.Errorf("the registry does not say where to upload, but %q", a.header.Get("Location"))
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
	defer body.Close() // only reading
	target, header := *u.location, http.Header{"Content-Type": {"application/octet-stream"}}
	if method == http.MethodPut {
		q := target.Query()
		q.Set("digest", u.b.digest.String())
		target.RawQuery = q.Encode()
	}
	if n > 0 {
		header.Set("Content-Range", fmt.Sprintf("%d-%d", u.offset, u.offset+n-1))
	}
	a, err := u.p.do(ctx, method, &target, &counting{r: io.LimitReader(body, n), n: n, at: u.offset, report: u.b.report}, header)
	if err != nil {
		return err
	}
	if a.status == http.StatusCreated && method == http.MethodPut {
		return nil
	}
	if a.status != http.StatusAccepted || method == http.MethodPut {
		return a.refusal()
	}
	u.offset += n
	return u.move(a)
}

// find asks the registry how much arrived. When it does not know the upload any more, it is begun anew.
func (u *upload) find(ctx context.Context) {
	if u.location == nil {
		return
	}
	a, err := u.p.do(ctx, http.MethodGet, u.location, nil, nil)
	if err != nil {
		return // the link is still broken; the next step finds out more
	}
	last, ok := lastByte(a.header.Get("Range"))
	if a.status != http.StatusNoContent || !ok || last == 0 {
		u.location, u.offset = nil, 0
		return
	}
	u.offset = min(last+1, u.b.size)
	_ = u.move(a) // an answer without a place means the same one
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
