package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// HTTP asks by HTTP GET: 200 to 399 passes. It serves life-cycle hooks too, which see the same request.
func (t Target) HTTP(ctx context.Context, a *corev1.HTTPGetAction) (Result, error) {
	req, err := t.request(ctx, a)
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	res, err := client().Do(req)
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	defer func() { _ = res.Body.Close() }() // only read from
	body, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return Result{Output: err.Error()}, nil
	}
	if res.StatusCode < http.StatusOK || res.StatusCode >= http.StatusBadRequest {
		return Result{Output: fmt.Sprintf("HTTP probe failed with statuscode: %d%s", res.StatusCode, excerpt(body))}, nil
	}
	return Result{Passed: true}, nil
}

// excerpt is the first line of a body, for people who read the event.
func excerpt(body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if line == "" {
		return ""
	}
	if len(line) > 200 {
		line = line[:200]
	}
	return fmt.Sprintf(" (%s)", line)
}

func (t Target) request(ctx context.Context, a *corev1.HTTPGetAction) (*http.Request, error) {
	address, err := t.address(a.Host, a.Port)
	if err != nil {
		return nil, err
	}
	// As in the kubelet, a path may hold a query.
	u, err := url.Parse(a.Path)
	if err != nil {
		u = &url.URL{Path: a.Path}
	}
	u.Scheme, u.Host = strings.ToLower(string(a.Scheme)), address
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "kube-probe/skerry")
	req.Header.Set("Accept", "*/*")
	for _, h := range a.HTTPHeaders {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header[http.CanonicalHeaderKey(h.Name)] = append(req.Header[http.CanonicalHeaderKey(h.Name)], h.Value)
	}
	return req, nil
}

// client makes connections that are used once. A redirect to another host is taken as an answer, not followed: the
// question was about this container.
func client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:       dial,
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as the kubelet: pods have certificates of their own
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= 10 || req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}
