package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/section"
)

// listing is one way to read all pods.
type listing struct {
	name, media string
	compress    bool
	parameters  string
}

var listings = []listing{
	{"JSON", asJSON, false, ""},
	{"JSON, client asks for gzip", asJSON, true, ""},
	{"protobuf", asProtobuf, false, ""},
	{"protobuf, from the server's cache (resourceVersion=0)", asProtobuf, false, "?resourceVersion=0"},
}

// listed is one measurement of one listing.
type listed struct {
	took  time.Duration
	cpu   usage
	bytes int64 // on the wire, but for TLS
}

// list reads all pods once and throws them away.
func (s *server) list(ctx context.Context, c *rest.RESTClient, l listing) (listed, error) {
	before, err := s.cpu()
	if err != nil {
		return listed{}, err
	}
	began := time.Now()
	n, err := s.download(ctx, c.Client, l)
	if err != nil {
		return listed{}, fmt.Errorf("list pods on %s as %s: %w", s.name, l.name, err)
	}
	out := listed{took: time.Since(began), bytes: n}
	if err := pause(ctx, settle); err != nil {
		return out, err
	}
	after, err := s.cpu()
	out.cpu = after.since(before)
	return out, err
}

// download counts the bytes of an answer as they come: a client that asked for gzip itself is not unpacked for.
func (s *server) download(ctx context.Context, client *http.Client, l listing) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.config.Host+"/api/v1/namespaces/"+namespace+"/pods"+l.parameters, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept", l.media)
	if l.compress {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}

// lists measures all ways to list on all servers, in turns.
func lists(ctx context.Context, servers []*server, rounds int) (string, error) {
	t := section.NewTable("list of 10,000 pods", "server", "time", "CPU of the API server", "and of its store", "body")
	var ratios strings.Builder
	for _, l := range listings {
		results, err := listAll(ctx, servers, l, rounds)
		if err != nil {
			return "", err
		}
		for i, s := range servers {
			r := results[i]
			t.Row(l.name, s.name, section.Duration(r.took), section.Duration(r.cpu.api), storeTime(s, r.cpu), section.Bytes(r.bytes))
		}
		fmt.Fprintf(&ratios, "- %s: kube-apiserver's CPU is %s Skerry's\n", l.name, section.Ratio(results[1].cpu.api, results[0].cpu.api))
	}
	return t.String() + "\n" + ratios.String(), nil
}

func storeTime(s *server, u usage) string {
	if s.store == nil {
		return "in it"
	}
	return section.Duration(u.store)
}

func listAll(ctx context.Context, servers []*server, l listing, rounds int) ([]listed, error) {
	clients := make([]*rest.RESTClient, len(servers))
	for i, s := range servers {
		var err error
		if clients[i], err = s.newClient(l.media, false); err != nil {
			return nil, err
		}
		defer clients[i].Client.CloseIdleConnections()
	}
	all := make([][]listed, len(servers))
	for range rounds {
		for i, s := range servers {
			one, err := s.list(ctx, clients[i], l)
			if err != nil {
				return nil, err
			}
			all[i] = append(all[i], one)
		}
	}
	out := make([]listed, len(servers))
	for i := range all {
		out[i] = medianListed(all[i])
	}
	return out, nil
}

func medianListed(all []listed) listed {
	var took, api, store []time.Duration
	for _, l := range all {
		took, api, store = append(took, l.took), append(api, l.cpu.api), append(store, l.cpu.store)
	}
	return listed{section.Median(took), usage{section.Median(api), section.Median(store)}, all[0].bytes}
}
