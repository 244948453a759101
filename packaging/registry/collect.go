package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/opencontainers/go-digest"
)

// Collected says what a garbage collection removed.
type Collected struct {
	Manifests, Links, Blobs, Uploads int
	Bytes                            int64 // of the blobs
}

// Collect removes what nothing refers to and nobody touched for Options.Grace before now: untagged manifests (only with
// Options.KeepUntagged), links of repositories to blobs, blobs, and idle uploads. It is safe beside pushes: whatever a
// push looks at or refers to is touched under the same lock under which this removes, and a push whose blob is gone all
// the same is told so with its manifest and sends it again.
func (r *Registry) Collect(ctx context.Context, now time.Time) (Collected, error) {
	start := time.Now()
	c := &collection{r: r, ctx: ctx, before: now.Add(-r.opts.Grace), now: now, used: map[digest.Digest]bool{}}
	err := c.run()
	if c.got != (Collected{}) {
		r.log.Info("registry garbage collected", "manifests", c.got.Manifests, "links", c.got.Links, "blobs", c.got.Blobs,
			"uploads", c.got.Uploads, "bytes", c.got.Bytes, "took", time.Since(start))
	}
	if err != nil {
		return c.got, fmt.Errorf("collect garbage: %w", err)
	}
	return c.got, nil
}

type collection struct {
	r      *Registry
	ctx    context.Context //nolint:containedctx // lives for one call of Collect
	before time.Time       // older things may go
	now    time.Time
	used   map[digest.Digest]bool // blobs that some repository still links
	got    Collected
}

func (c *collection) run() error {
	names, err := c.r.repositories(c.ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.repository(name); err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
	}
	if err := c.blobs(); err != nil {
		return err
	}
	return c.uploads()
}

// repository marks what the manifests of one repository refer to, and removes its other links.
func (c *collection) repository(name string) error {
	if err := c.untagged(name); err != nil {
		return err
	}
	manifests, err := c.r.disk.digestsIn(path.Join(reposDir, name, manifestsPart))
	if err != nil {
		return err
	}
	referred := map[digest.Digest]bool{}
	for _, d := range manifests {
		c.used[d] = true
		if err := c.mark(d, referred); err != nil {
			return err
		}
	}
	layers, err := c.r.disk.digestsIn(path.Join(reposDir, name, layersPart))
	if err != nil {
		return err
	}
	for _, d := range layers {
		if err := c.layer(name, d, referred[d]); err != nil {
			return err
		}
	}
	return nil
}

func (c *collection) mark(d digest.Digest, referred map[digest.Digest]bool) error {
	data, err := c.r.disk.root.ReadFile(blobPath(d))
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := parseManifest(data, "")
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, b := range m.blobs() {
		referred[b.Digest] = true
	}
	return nil
}

func (c *collection) layer(name string, d digest.Digest, referred bool) error {
	if !referred {
		gone, err := c.sweep(linkPath(name, layersPart, d))
		if err != nil {
			return err
		}
		if gone {
			c.got.Links++
			return nil
		}
	}
	c.used[d] = true
	return nil
}

// untagged removes manifests that no tag, index or subject leads to.
func (c *collection) untagged(name string) error {
	if c.r.opts.KeepUntagged <= 0 {
		return nil
	}
	c.r.tags.Lock()
	defer c.r.tags.Unlock()
	reachable, err := c.reachable(name)
	if err != nil {
		return err
	}
	manifests, err := c.r.disk.digestsIn(path.Join(reposDir, name, manifestsPart))
	if err != nil {
		return err
	}
	for _, d := range manifests {
		old, err := c.older(linkPath(name, manifestsPart, d), c.now.Add(-c.r.opts.KeepUntagged))
		if err != nil {
			return err
		}
		if !old || reachable[d] {
			continue
		}
		if err := c.r.forgetManifest(name, d); err != nil {
			return err
		}
		c.got.Manifests++
	}
	return nil
}

// reachable follows the tags through indexes to manifests, and to what refers to them.
func (c *collection) reachable(name string) (map[digest.Digest]bool, error) {
	tags, err := c.r.tagsOf(name)
	if err != nil {
		return nil, err
	}
	seen := map[digest.Digest]bool{}
	var queue []digest.Digest
	for _, d := range tags {
		queue = append(queue, d)
	}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if seen[d] {
			continue
		}
		seen[d] = true
		next, err := c.neighbours(name, d)
		if err != nil {
			return nil, err
		}
		queue = append(queue, next...)
	}
	return seen, nil
}

func (c *collection) neighbours(name string, d digest.Digest) ([]digest.Digest, error) {
	next, err := c.r.disk.digestsIn(referrersPath(name, d))
	if err != nil {
		return nil, err
	}
	data, err := c.r.disk.root.ReadFile(blobPath(d))
	if isMissing(err) {
		return next, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data, "")
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, child := range m.Manifests {
		next = append(next, child.Digest)
	}
	return next, nil
}

// blobs removes content that no repository links.
func (c *collection) blobs() error {
	algorithms, err := c.r.disk.readDir(blobsDir)
	if err != nil {
		return err
	}
	for _, a := range algorithms {
		shards, err := c.r.disk.readDir(path.Join(blobsDir, a.Name()))
		if err != nil {
			return err
		}
		for _, s := range shards {
			if err := c.shard(a.Name(), path.Join(blobsDir, a.Name(), s.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collection) shard(algorithm, dir string) error {
	entries, err := c.r.disk.readDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if c.used[digest.Digest(algorithm+":"+e.Name())] {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		gone, err := c.sweep(path.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if gone {
			c.got.Blobs++
			c.got.Bytes += info.Size()
		}
	}
	return c.ctx.Err()
}

// sweep removes a file if nobody touched it since c.before. Pushes touch what they need under the read lock.
func (c *collection) sweep(name string) (bool, error) {
	c.r.sweep.Lock()
	defer c.r.sweep.Unlock()
	old, err := c.older(name, c.before)
	if err != nil || !old {
		return false, err
	}
	return true, c.r.disk.remove(name)
}

func (c *collection) older(name string, than time.Time) (bool, error) {
	info, err := c.r.disk.root.Stat(name)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return info.ModTime().Before(than), nil
}

// uploads drops uploads that nobody went on with.
func (c *collection) uploads() error {
	entries, err := c.r.disk.readDir(uploadsDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if c.r.uploads.busy(e.Name()) {
			continue
		}
		idle, err := c.idle(e.Name())
		if err != nil {
			return err
		}
		if !idle {
			continue
		}
		if err := c.r.dropUpload(e.Name()); err != nil {
			return err
		}
		c.got.Uploads++
	}
	return nil
}

// idle looks at what an upload wrote last: its data or, before there is any, its folder.
func (c *collection) idle(id string) (bool, error) {
	written, err := c.r.disk.exists(uploadPath(id, "data"))
	if err != nil {
		return false, err
	}
	if written {
		return c.older(uploadPath(id, "data"), c.before)
	}
	return c.older(path.Join(uploadsDir, id), c.before)
}
