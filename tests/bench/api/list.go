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
	"skerry.dev/skerry/tests/bench/server"
)

// listing is one way to read all pods.
type listing struct {
	name, media string
	compress    bool
	parameters  string
}

var listings = []listing{
	{"JSON", server.JSON, false, ""},
	{"JSON, client asks for gzip", server.JSON, true, ""},
	{"protobuf", server.Protobuf, false, ""},
	{"protobuf, from the server's cache (resourceVersion=0)", server.Protobuf, false, "?resourceVersion=0"},
}

// listed is one measurement of one listing.
type listed struct {
	took  time.Duration
	cpu   server.Usage
	bytes int64 // on the wire, but for TLS
}

// list reads all pods once and throws them away.
func list(ctx context.Context, s *server.Server, c *rest.RESTClient, l listing) (listed, error) {
	before, err := s.CPU()
	if err != nil {
		return listed{}, err
	}
	began := time.Now()
	n, err := download(ctx, s, c.Client, l)
	if err != nil {
		return listed{}, fmt.Errorf("list pods on %s as %s: %w", s.Name, l.name, err)
	}
	out := listed{took: time.Since(began), bytes: n}
	if err := pause(ctx, settle); err != nil {
		return out, err
	}
	after, err := s.CPU()
	out.cpu = after.Since(before)
	return out, err
}

// download counts the bytes of an answer as they come: a client that asked for gzip itself is not unpacked for.
func download(ctx context.Context, s *server.Server, client *http.Client, l listing) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL()+"/api/v1/namespaces/"+namespace+"/pods"+l.parameters, nil)
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
func lists(ctx context.Context, servers []*server.Server, rounds int, goals *section.Goals) (string, error) {
	t := section.NewTable("list of all pods", "server", "time", "CPU of the API server", "and of its store", "body")
	var ratios strings.Builder
	for _, l := range listings {
		results, err := listAll(ctx, servers, l, rounds)
		if err != nil {
			return "", err
		}
		for i, s := range servers {
			r := results[i]
			t.Row(l.name, s.Name, section.Duration(r.took), section.Duration(r.cpu.API), storeTime(s, r.cpu), section.Bytes(r.bytes))
		}
		goals.Times("server CPU of a list of all pods, "+l.name, results[0].cpu.API, results[1].cpu.Total(), 5)
		fmt.Fprintf(&ratios, "- %s: kube-apiserver's CPU is %s Skerry's\n", l.name, section.Ratio(results[1].cpu.API, results[0].cpu.API))
	}
	return t.String() + "\n" + ratios.String(), nil
}

func storeTime(s *server.Server, u server.Usage) string {
	if !s.HasStore() {
		return "in it"
	}
	return section.Duration(u.Store)
}

func listAll(ctx context.Context, servers []*server.Server, l listing, rounds int) ([]listed, error) {
	clients := make([]*rest.RESTClient, len(servers))
	for i, s := range servers {
		var err error
		if clients[i], err = s.Client(l.media, false); err != nil {
			return nil, err
		}
		defer clients[i].Client.CloseIdleConnections()
	}
	all := make([][]listed, len(servers))
	for range rounds {
		for i, s := range servers {
			one, err := list(ctx, s, clients[i], l)
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
		took, api, store = append(took, l.took), append(api, l.cpu.API), append(store, l.cpu.Store)
	}
	return listed{section.Median(took), server.Usage{API: section.Median(api), Store: section.Median(store)}, all[0].bytes}
}
