package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"skerry.dev/skerry/api"
)

// Cluster is the API server that serves the cluster's own registry. Transport adds the user's credentials.
type Cluster interface {
	Host() string
	Transport() http.RoundTripper
}

// Connect finds the cluster of the current kubeconfig context.
type Connect func() (Cluster, error)

// endpoint is how to reach a registry.
type endpoint struct {
	transport http.RoundTripper
	auth      authn.Authenticator
	where     string // for errors
}

// endpointOf finds out how to reach the registry of a repository.
func (o *options) endpointOf(repo name.Repository) (endpoint, error) {
	if repo.RegistryStr() == api.RegistryHost {
		c, err := o.connect()
		if err != nil {
			return endpoint{}, fmt.Errorf("%s is the cluster's own registry: %w", api.RegistryHost, err)
		}
		return endpoint{
			transport: rehosted{host: c.Host(), next: c.Transport()}, auth: authn.Anonymous,
			where: "the cluster's registry at " + c.Host(),
		}, nil
	}
	auth, err := authn.DefaultKeychain.Resolve(repo)
	if err != nil {
		return endpoint{}, fmt.Errorf("find credentials for %s: %w", repo.RegistryStr(), err)
	}
	return endpoint{transport: http.DefaultTransport, auth: auth, where: repo.RegistryStr()}, nil
}

// rehosted sends requests for the cluster's registry to its API server.
type rehosted struct {
	host string
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r rehosted) RoundTrip(req *http.Request) (*http.Response, error) {
	there := req.Clone(req.Context())
	there.URL.Scheme, there.URL.Host, there.Host = "https", r.host, r.host
	resp, err := r.next.RoundTrip(there)
	if err == nil {
		resp.Request = req // relative locations mean the registry
	}
	return resp, err
}

func (e endpoint) remote(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(e.transport), remote.WithAuth(e.auth)}
}

// explain adds what to do to an error of a registry.
func (e endpoint) explain(err error) error {
	var answer *transport.Error
	if err == nil {
		return nil
	}
	if !errors.As(err, &answer) {
		if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			return fmt.Errorf("%w (%s speaks http: give --plain-http)", err, e.where)
		}
		return err
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w (log in to %s with docker or podman login, or use a kubeconfig context that may do this)", err, e.where)
	case http.StatusInsufficientStorage:
		return fmt.Errorf("%w (free space on %s, for example with skerry image rm --remote NAME; what was sent before is not sent again)", err, e.where)
	}
	return err
}

// pull opens an image in a registry. Nothing but the manifest is fetched at once.
func (o *options) pull(ctx context.Context, ref name.Reference, platform *v1.Platform) (v1.Image, error) {
	e, err := o.endpointOf(ref.Context())
	if err != nil {
		return nil, err
	}
	opts := e.remote(ctx)
	if platform != nil {
		opts = append(opts, remote.WithPlatform(*platform))
	}
	img, err := remote.Image(ref, opts...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", ref, e.explain(err))
	}
	return img, nil
}

// short leaves out the registry that is meant anyway.
func short(name string) string { return strings.TrimPrefix(name, api.RegistryHost+"/") }
