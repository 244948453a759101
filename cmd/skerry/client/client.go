// Package client is how the command line reaches a cluster: it reads a kubeconfig as kubectl does, and speaks JSON to the
// Kubernetes API behind it. It knows no command.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Client speaks to one API server. It is safe for concurrent use.
type Client struct {
	config    *rest.Config
	http      *http.Client
	base      *url.URL
	namespace string
}

// Load returns what a kubeconfig file says, for programs that have no flags.
func Load(kubeconfig string) clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{})
}

// New reads the kubeconfig. It makes no connection.
func New(kubeconfig clientcmd.ClientConfig) (*Client, error) {
	config, err := kubeconfig.ClientConfig()
	if clientcmd.IsEmptyConfig(err) || err == nil && isNowhere(kubeconfig, config) {
		return nil, errors.New("no cluster: give --kubeconfig or set KUBECONFIG (`skerry up` prints the path of its own)")
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	namespace, _, err := kubeconfig.Namespace()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	hc, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return &Client{config: config, http: hc, base: base, namespace: namespace}, nil
}

// nowhere is the server that kubectl's flags stand for when nothing says one.
const nowhere = "http://localhost:8080"

func isNowhere(kubeconfig clientcmd.ClientConfig, config *rest.Config) bool {
	raw, err := kubeconfig.RawConfig()
	return err == nil && len(raw.Clusters) == 0 && config.Host == nowhere
}

// Namespace is the one to use when a command is given none.
func (c *Client) Namespace() string { return c.namespace }

// Host is host:port of the API server.
func (c *Client) Host() string { return c.base.Host }

// Server is the API server's URL.
func (c *Client) Server() string { return strings.TrimSuffix(c.base.String(), "/") }

// Transport carries requests with the user's credentials to the API server.
func (c *Client) Transport() http.RoundTripper { return c.http.Transport }

// CAData is the API server's certificate authority in PEM.
func (c *Client) CAData() []byte { return c.config.CAData }

// Get reads path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// Post creates in at path and reads the answer into out, which may be nil.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	return c.do(ctx, http.MethodPost, path, "application/json", in, out)
}

// MergePatch changes the object at path by a JSON merge patch.
func (c *Client) MergePatch(ctx context.Context, path string, in, out any) error {
	return c.do(ctx, http.MethodPatch, path, "application/merge-patch+json", in, out)
}

// Delete deletes the object at path.
func (c *Client) Delete(ctx context.Context, path string) error {
	return c.do(ctx, http.MethodDelete, path, "", nil, nil)
}

// do sends one request. A refusal is the API's own *StatusError; anything else says which server was asked.
func (c *Client) do(ctx context.Context, method, path, contentType string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	target, err := c.base.Parse(path)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the API server at %s: %w", c.base.Host, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return refusal(resp, data)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s %s: answer unreadable: %w", method, path, err)
	}
	return nil
}

func refusal(resp *http.Response, data []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(data, &status); err == nil && status.Kind == "Status" {
		return &apierrors.StatusError{ErrStatus: status}
	}
	return fmt.Errorf("%s %s: %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status, strings.TrimSpace(string(data)))
}
