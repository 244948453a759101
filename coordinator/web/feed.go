package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
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
	streamLife = 10 * time.Minute // then the page comes back and shows its cookie again: a session that has ended shows nothing more
)

// feed streams the state of the kinds, and then what changes.
type feed struct {
	Config
	life  string        // of this feed: revisions of another one's view mean nothing here
	slots chan struct{} // one token per open stream
}

func newFeed(c Config) *feed {
	return &feed{Config: c, life: rand.Text(), slots: make(chan struct{}, maxStreams)}
}

// ServeHTTP answers with server-sent events until the client leaves:
//
//	reset   {kind, items}          all objects of a kind
//	change  {kind, type, object}   one object; type as in a Kubernetes watch
//	load    {node: load}           what the nodes use
//	sync    {}                     everything up to now was sent; its id is where a client that reconnects goes on
//	beat    {}                     the link is up
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
	ctx, cancel := context.WithTimeout(r.Context(), streamLife)
	defer cancel()
	if err := s.run(ctx, r.Header.Get("Last-Event-ID")); err != nil && ctx.Err() == nil {
		f.Log.Info("page dropped", "user", user.Name, "remote", r.RemoteAddr, "err", err)
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

func (s *stream) run(ctx context.Context, last string) error {
	changed, stop := s.View.Changed() // before the first look, so that nothing falls between
	defer stop()
	defer s.stop()
	fmt.Fprintf(&s.out, "retry: %d\n\n", retryAfter.Milliseconds())
	if err := s.begin(last); err != nil {
		return err
	}
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
			s.out.WriteString("event: beat\ndata: {}\n\n")
		case <-load.C:
			s.load()
		case <-changed:
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

// begin goes on where the client was, kind by kind, and starts anew where that is not known any more.
func (s *stream) begin(last string) error {
	from, resumes := s.resumes(last)
	for _, kind := range kinds {
		res := resource.ForStoreKind(kind)
		if res == nil {
			return fmt.Errorf("kind %s is not served", kind)
		}
		src := &source{res: res}
		s.sources = append(s.sources, src)
		if resumes {
			var err error
			if src.watch, err = s.View.Watch(res, "", from); err == nil {
				continue
			}
		}
		if err := s.reset(src); err != nil {
			return err
		}
	}
	return s.changes()
}

func (s *stream) resumes(last string) (from uint64, ok bool) {
	life, digits, _ := strings.Cut(last, ".")
	from, err := strconv.ParseUint(digits, 10, 64)
	return from, err == nil && life == s.life
}

// reset writes all objects of a kind, and watches what follows.
func (s *stream) reset(src *source) error {
	if src.watch != nil {
		src.watch.Stop()
	}
	var items []*view.Item
	items, _, src.watch = s.View.ListWatch(src.res, "")
	fmt.Fprintf(&s.out, "event: reset\ndata: {\"kind\":%q,\"items\":[", src.res.Plural)
	for i, item := range items {
		if i > 0 {
			s.out.WriteByte(',')
		}
		if err := s.item(item); err != nil {
			return err
		}
	}
	s.out.WriteString("]}\n\n")
	return nil
}

// item writes an object on one line, as events want it.
func (s *stream) item(item *view.Item) error {
	data, err := item.JSON()
	if err != nil {
		return err
	}
	s.out.Write(data)
	if s.out.Len() > flushAt {
		return s.flush()
	}
	return nil
}

// flushAt bounds what is held of a large fleet's first answer.
const flushAt = 256 << 10

// changes writes what has changed of each kind, and then up to which revision the client knows everything: that of the
// kind that was looked at first. What it has heard beyond that it may hear again.
func (s *stream) changes() error {
	for _, src := range s.sources {
		if err := s.changesOf(src); err != nil {
			return err
		}
	}
	fmt.Fprintf(&s.out, "id: %s.%d\nevent: sync\ndata: {}\n\n", s.life, s.sources[0].watch.Revision())
	return nil
}

func (s *stream) changesOf(src *source) error {
	events, _, err := src.watch.Take()
	if err != nil { // we fell behind the history
		return s.reset(src)
	}
	for _, e := range events {
		fmt.Fprintf(&s.out, "event: change\ndata: {\"kind\":%q,\"type\":%q,\"object\":", src.res.Plural, e.Type)
		if err := s.item(e.Item); err != nil {
			return err
		}
		s.out.WriteString("}\n\n")
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
