package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

// kinds are what the page shows. Secrets and ConfigMaps are not among them.
var kinds = []string{"nodes", "nodeinventories.fleet.skerry.dev", "pods", "deployments.apps", "replicasets.apps", "services", "endpointslices.discovery.k8s.io", "events", "moveplans.fleet.skerry.dev"}

const (
	maxStreams = 64
	beatEvery  = 15 * time.Second // keeps proxies from closing a quiet stream, and tells the page that the link is up
	loadEvery  = 2 * time.Second
	writeLimit = 15 * time.Second // a reader that takes nothing for so long is dropped; it comes back by itself
	retryAfter = 2 * time.Second
)

// feed streams the state of the kinds, and then what changes.
type feed struct {
	Config
	slots chan struct{} // one token per open stream
}

func newFeed(c Config) *feed { return &feed{Config: c, slots: make(chan struct{}, maxStreams)} }

// ServeHTTP answers with server-sent events until the client leaves: "reset" with all objects of a kind, "change" with
// one, "load" with what the nodes use. A client that reconnects gets resets again.
func (f *feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := authn.FromContext(r.Context())
	switch {
	case user.In(authn.GroupUnauthenticated) || user.Name == "":
		http.Error(w, "log in first", http.StatusUnauthorized)
		return
	case !user.In(authn.GroupMasters):
		http.Error(w, "this user may not read the cluster", http.StatusForbidden)
		return
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	s := &stream{feed: f, w: w, control: http.NewResponseController(w)}
	if err := s.run(r.Context()); err != nil && r.Context().Err() == nil {
		f.Log.Log(r.Context(), slog.LevelDebug, "page dropped", "err", err)
	}
}

// stream is one page's connection.
type stream struct {
	*feed
	w       http.ResponseWriter
	control *http.ResponseController
	out     bytes.Buffer
	sources []*source
	loads   map[string]messaging.Load
}

type source struct {
	res   *resource.Resource
	watch *view.Watch
}

func (s *stream) run(ctx context.Context) error {
	defer s.stop()
	fmt.Fprintf(&s.out, "retry: %d\n\n", retryAfter.Milliseconds())
	for _, kind := range kinds {
		res := resource.ForStoreKind(kind)
		if res == nil {
			return fmt.Errorf("kind %s is not served", kind)
		}
		src := &source{res: res}
		s.sources = append(s.sources, src)
		if err := s.reset(src); err != nil {
			return err
		}
	}
	wake, wait := s.wakes(ctx)
	defer wait()
	beat, load := time.NewTicker(beatEvery), time.NewTicker(loadEvery)
	defer beat.Stop()
	defer load.Stop()
	s.load()
	for {
		if err := s.flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			s.out.WriteString(": beat\n\n")
		case <-load.C:
			s.load()
		case <-wake:
			if err := s.changes(); err != nil {
				return err
			}
		}
	}
}

func (s *stream) stop() {
	for _, src := range s.sources {
		if src.watch != nil {
			src.watch.Stop()
		}
	}
}

// wakes folds the readiness of all watches into one channel. A watch that is made anew after a reset is read on each wake
// all the same, so its own readiness is not needed.
func (s *stream) wakes(ctx context.Context) (wake <-chan struct{}, wait func()) {
	changed, stop := s.View.Changed()
	folded := make(chan struct{}, 1) // one token says all
	var g sync.WaitGroup
	g.Go(func() {
		defer stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case folded <- struct{}{}:
			default:
			}
		}
	})
	return folded, g.Wait
}

// reset writes all objects of a kind, and watches what follows.
func (s *stream) reset(src *source) error {
	if src.watch != nil {
		src.watch.Stop()
	}
	items, revision, watch := s.View.ListWatch(src.res, "")
	src.watch = watch
	fmt.Fprintf(&s.out, "id: %d\nevent: reset\ndata: {\"kind\":%q,\"items\":[", revision, src.res.Plural)
	for i, item := range items {
		data, err := item.JSON()
		if err != nil {
			return err
		}
		if i > 0 {
			s.out.WriteByte(',')
		}
		s.out.Write(bytes.TrimSpace(data))
		if s.out.Len() > flushAt {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	s.out.WriteString("]}\n\n")
	return nil
}

// flushAt bounds what is held of a large fleet's first answer.
const flushAt = 256 << 10

func (s *stream) changes() error {
	for _, src := range s.sources {
		events, revision, err := src.watch.Take()
		if err != nil { // we fell behind the history
			if err := s.reset(src); err != nil {
				return err
			}
			continue
		}
		for _, e := range events {
			data, err := e.Item.JSON()
			if err != nil {
				return err
			}
			fmt.Fprintf(&s.out, "id: %d\nevent: change\ndata: {\"kind\":%q,\"type\":%q,\"object\":%s}\n\n", revision, src.res.Plural, e.Type, bytes.TrimSpace(data))
		}
	}
	return nil
}

// load writes what the nodes use, if that changed.
func (s *stream) load() {
	loads := map[string]messaging.Load{}
	for name, l := range s.Liveness() {
		loads[name] = l.Load
	}
	if s.loads != nil && maps.Equal(loads, s.loads) {
		return
	}
	s.loads = loads
	data, err := json.Marshal(loads)
	if err != nil { // numbers only
		panic(err)
	}
	fmt.Fprintf(&s.out, "event: load\ndata: %s\n\n", data)
}

func (s *stream) flush() error {
	if s.out.Len() == 0 {
		return nil
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.out.Bytes()); err != nil {
		return err
	}
	s.out.Reset()
	return s.control.Flush()
}
