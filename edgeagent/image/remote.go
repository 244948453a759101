package image

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// source is where one image comes from.
type source struct {
	repo   name.Repository
	client *http.Client // authenticated for pulling from repo
}

// open authenticates at the registry of ref.
func (s *Store) open(ctx context.Context, ref name.Reference, creds Credentials) (*source, error) {
	repo := ref.Context()
	rt, err := transport.NewWithContext(ctx, repo.Registry, creds.authenticator(), s.transport(repo.RegistryStr()), []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, remoteError(err)
	}
	return &source{repo: repo, client: &http.Client{Transport: rt}}, nil
}

func (s *Store) transport(host string) http.RoundTripper {
	if rt := s.opts.Transports[host]; rt != nil {
		return plain{rt}
	}
	return s.network
}

// plain sends requests as http: the way below is secure already.
type plain struct{ rt http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p plain) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "https" {
		req = req.Clone(req.Context())
		req.URL.Scheme = "http"
	}
	return p.rt.RoundTrip(req)
}

// manifest is an image's description, before its layers are fetched.
type manifest struct {
	digest v1.Hash
	v1.Manifest
	config *v1.ConfigFile
}

// describe fetches the manifest and the configuration of the image for this platform.
func (s *Store) describe(ctx context.Context, src *source, ref name.Reference) (*manifest, error) {
	desc, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(src.client.Transport))
	if err != nil {
		return nil, remoteError(err)
	}
	if desc.MediaType.IsIndex() {
		if desc, err = s.descend(ctx, src, desc); err != nil {
			return nil, err
		}
	}
	img, err := desc.Image()
	if err != nil {
		return nil, remoteError(err)
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, remoteError(err)
	}
	config, err := img.ConfigFile() // verified against the manifest's digest
	if err != nil {
		return nil, remoteError(err)
	}
	out := &manifest{digest: desc.Digest, Manifest: *m, config: config}
	return out, s.checkManifest(out)
}

// descend goes from an index to the image of this platform.
func (s *Store) descend(ctx context.Context, src *source, desc *remote.Descriptor) (*remote.Descriptor, error) {
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, remoteError(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, remoteError(err)
	}
	chosen, err := choose(list, s.opts.Platform)
	if err != nil {
		return nil, err
	}
	child, err := remote.Get(src.repo.Digest(chosen.Digest.String()), remote.WithContext(ctx), remote.WithTransport(src.client.Transport))
	if err != nil {
		return nil, remoteError(err)
	}
	return child, nil
}

// checkManifest refuses what could not run here, before anything large is fetched.
func (s *Store) checkManifest(m *manifest) error {
	if len(m.config.RootFS.DiffIDs) != len(m.Layers) || len(m.Layers) == 0 {
		return fmt.Errorf("%w: the manifest has %d layers, its configuration %d", ErrCorrupt, len(m.Layers), len(m.config.RootFS.DiffIDs))
	}
	has := v1.Platform{OS: m.config.OS, Architecture: m.config.Architecture, Variant: m.config.Variant}
	if has.Architecture != "" && fits(has, s.opts.Platform) == 0 {
		return fmt.Errorf("%w: no image for %s, has: %s", ErrNoPlatform, s.opts.Platform, has)
	}
	for i, id := range m.config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" || m.Layers[i].Digest.Algorithm != "sha256" {
			return fmt.Errorf("%w: layer %d is named by %s, want sha256", ErrCorrupt, i, id.Algorithm)
		}
	}
	return nil
}
