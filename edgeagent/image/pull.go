package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
)

// askTimeout bounds the questions before a pull: a few small answers.
const askTimeout = 2 * time.Minute

// Pull has the image here and complete when it returns nil. What the policy means:
//
//   - Never: only what is here; ErrNeverPull otherwise.
//   - IfNotPresent: what is here, or fetched.
//   - Always, and empty: asks the registry which digest the name stands for, and fetches only what is missing. When the
//     registry cannot be reached, what is here is returned as Stale: a node that lost its link starts its work again.
//
// A reference by digest that is here is never asked for. Reason turns the error into the API's words.
func (s *Store) Pull(ctx context.Context, ref string, policy corev1.PullPolicy, creds Credentials) (Image, error) {
	r, err := s.reference(ref)
	if err != nil {
		return Image{}, err
	}
	here, ok := s.local(r)
	_, fixed := r.(name.Digest)
	switch {
	case ok && (fixed || policy == corev1.PullIfNotPresent || policy == corev1.PullNever):
		return here, nil
	case policy == corev1.PullNever:
		return Image{}, fmt.Errorf("container %w: %q", ErrNeverPull, ref)
	}
	img, err := s.fetchImage(ctx, r, creds)
	if err != nil && ok && errors.Is(err, ErrUnavailable) {
		s.log.Warn("registry not available, using the image that is here", "image", r.Name(), "digest", here.Digest, "err", err)
		here.Stale = true
		return here, nil
	}
	if err != nil {
		return Image{}, fmt.Errorf("pull image %q: %w", ref, err)
	}
	return img, nil
}

func (s *Store) fetchImage(ctx context.Context, ref name.Reference, creds Credentials) (Image, error) {
	start := time.Now()
	src, m, err := s.ask(ctx, ref, creds)
	if err != nil {
		return Image{}, err
	}
	defer s.pin(m.config.RootFS.DiffIDs)()
	missing, err := s.missingBytes(m)
	if err != nil {
		return Image{}, err
	}
	if err := s.ensureLayers(ctx, src, ref.Name(), m); err != nil {
		return Image{}, err
	}
	r, err := s.newRecord(ref, m)
	if err != nil {
		return Image{}, err
	}
	if err := s.remember(ref, r); err != nil {
		return Image{}, fmt.Errorf("record image: %w", err)
	}
	img := r.image(ref)
	img.Fetched, img.FetchedBytes = missing > 0, missing
	if img.Fetched {
		s.log.Info("image pulled", "image", img.Name, "digest", img.Digest, "bytes", missing, "took", time.Since(start).Round(time.Millisecond))
	}
	return img, nil
}

// ask finds out what the image is made of. A registry that does not answer in time is not available.
func (s *Store) ask(ctx context.Context, ref name.Reference, creds Credentials) (*source, *manifest, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("%w: no answer within %v", ErrUnavailable, askTimeout))
	defer cancel()
	src, err := s.open(ctx, ref, creds)
	if err != nil {
		return nil, nil, orCause(ctx, err)
	}
	m, err := s.describe(ctx, src, ref)
	return src, m, orCause(ctx, err)
}

// pin keeps layers from being collected until the function it returns is called.
func (s *Store) pin(ids []v1.Hash) func() {
	add := func(n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, id := range ids {
			if s.pins[id.Hex] += n; s.pins[id.Hex] == 0 {
				delete(s.pins, id.Hex)
			}
		}
	}
	add(1)
	return func() { add(-1) }
}

func (s *Store) missingBytes(m *manifest) (int64, error) {
	var missing int64
	for i, id := range m.config.RootFS.DiffIDs {
		there, err := exists(s.layerPath(id))
		if err != nil {
			return 0, err
		}
		if !there {
			missing += m.Layers[i].Size
		}
	}
	return missing, nil
}

// ensureLayers brings all layers; the first error stops the others, and what they fetched so far stays for the next try.
func (s *Store) ensureLayers(ctx context.Context, src *source, ref string, m *manifest) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, id := range m.config.RootFS.DiffIDs {
		g.Go(func() error { return s.ensureLayer(ctx, src, ref, m.Layers[i], id) })
	}
	return g.Wait()
}

func (s *Store) newRecord(ref name.Reference, m *manifest) (*record, error) {
	now := time.Now()
	r := &record{
		Digest: m.digest.String(), ID: m.Config.Digest.String(), Repos: []string{ref.Context().Name()},
		Config: *m.config, Layers: m.config.RootFS.DiffIDs, Pulled: now, used: now,
	}
	infos := make([]layerInfo, len(r.Layers))
	for i, id := range r.Layers {
		var err error
		if infos[i], err = s.readLayer(id); err != nil {
			return nil, fmt.Errorf("read layer %s: %w", id, err)
		}
		r.Bytes += infos[i].Bytes
	}
	var err error
	r.Parents, err = s.makeParents(m.digest, r.Layers, infos)
	if err != nil {
		return nil, fmt.Errorf("mend implied folders: %w", diskError(err))
	}
	return r, nil
}
