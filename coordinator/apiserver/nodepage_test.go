package apiserver_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNodePages(t *testing.T) {
	c := start(t)
	c.must("POST", "/api/v1/nodes", `{"metadata":{"name":"proxy"}}`)
	c.nodes.page = func(_ context.Context, node, page string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(node + " " + page)), nil
	}
	const root = "/api/v1/nodes/proxy/proxy/"
	for _, page := range []string{"metrics", "metrics/cadvisor", "metrics/resource"} {
		if a := c.get(root + page); a.code != 200 || a.String() != "proxy "+page || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Errorf("%s: %d %s %v", page, a.code, a, a.header)
		}
	}
	for path, code := range map[string]int32{root + "logs/": 404, root: 404, "/api/v1/nodes/nope/proxy/metrics": 404} {
		if s := c.get(path).status(t); s.Code != code {
			t.Errorf("%s: %+v", path, s)
		}
	}
	if s := c.do("POST", root+"metrics", "").status(t); s.Code != 405 {
		t.Errorf("POST: %+v", s)
	}
	if s := c.do("GET", root+"metrics", "", header{"Authorization": "Bearer " + guestToken}).status(t); s.Code != 403 || !strings.Contains(s.Message, "nodes/proxy") {
		t.Errorf("guest: %+v", s)
	}
	for name, in := range map[string]io.Reader{
		"cut": iotest.TimeoutReader(strings.NewReader("half")), "empty": strings.NewReader(""),
		"endless": endless{}, "broken": iotest.ErrReader(errors.New("reset")),
	} {
		c.nodes.page = func(context.Context, string, string) (io.ReadCloser, error) { return io.NopCloser(in), nil }
		if s := c.get(root + "metrics").status(t); s.Code != 503 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
