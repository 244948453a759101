package apiserver

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"skerry.dev/skerry/coordinator/resource"
)

const (
	// pageLimit is how long a node may take to write a page of figures.
	pageLimit = 10 * time.Second
	// maxPageBytes bounds one: about 2 kB a container.
	maxPageBytes = 8 << 20
)

// nodePages are what a node serves below /api/v1/nodes/NAME/proxy/, as the kubelet does. Nothing else of a node can be
// reached so: it listens to nobody.
var nodePages = []string{"metrics", "metrics/cadvisor", "metrics/resource"}

// nodePage answers with a page of a node's figures, whole or not at all.
func (s *Server) nodePage(c *call) error {
	if _, ok := s.view.Get(resource.Lookup("", "v1", "nodes"), "", c.name); !ok {
		return c.notFound()
	}
	_, page, _ := strings.Cut(c.r.URL.Path, "/"+c.name+"/"+proxied+"/")
	if !slices.Contains(nodePages, page) {
		return errNoRoute(c.r)
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), pageLimit)
	defer cancel()
	in, err := s.nodes.OpenPage(ctx, c.name, page)
	if err != nil {
		return err
	}
	defer in.Close()
	body, err := io.ReadAll(io.LimitReader(in, maxPageBytes+1))
	if err != nil || len(body) > maxPageBytes || len(body) == 0 {
		return apierrors.NewServiceUnavailable(fmt.Sprintf("node %q did not finish its page %s: %d bytes, %v", c.name, page, len(body), err))
	}
	c.respond(http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", body)
	return nil
}
