package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	// The digest algorithms of the specification register themselves.
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Defaults and limits.
const (
	// MaxManifestBytes is the size of the largest manifest taken, the specification's advice.
	MaxManifestBytes = 4 << 20
	// DefaultMaxBlobBytes is the size of the largest blob taken.
	DefaultMaxBlobBytes = 32 << 30
	// DefaultReserveBytes is what uploads leave free on the disk, so that they cannot starve the store beside them.
	DefaultReserveBytes = 256 << 20
	// DefaultGrace is how long content that nothing refers to is kept: longer than a push over a bad link takes.
	DefaultGrace = 24 * time.Hour
)

// Options configure a Registry. Zero values mean the defaults.
type Options struct {
	// Dir holds everything. It is made if missing. One Registry at a time may use it.
	Dir string
	Log *slog.Logger
	// ReadOnly refuses every change with 405.
	ReadOnly bool
	// MaxBlobBytes bounds one blob.
	MaxBlobBytes int64
	// ReserveBytes is the free space that uploads must leave. Negative means none.
	ReserveBytes int64
	// Grace is how long unreferenced blobs and idle uploads are kept.
	Grace time.Duration
	// KeepUntagged is how long manifests without a tag are kept. Zero means for ever: nodes may run them by digest.
	KeepUntagged time.Duration
	// CollectEvery is the time between garbage collections of Run. Zero means one hour.
	CollectEvery time.Duration
}

// Registry is an http.Handler for /v2/. Use New. All methods may be called concurrently.
type Registry struct {
	opts Options
	log  *slog.Logger
	disk *disk

	// sweep lets pushes that link content (readers) exclude the moment in which garbage is removed (writer).
	sweep sync.RWMutex
	// tags orders changes of manifests and tags: delete looks at all tags before it acts.
	tags sync.Mutex

	uploads uploadTable
}

// New opens the registry in o.Dir, and removes what a crash left in its tmp folder.
func New(o Options) (*Registry, error) {
	o = withDefaults(o)
	if o.Dir == "" {
		return nil, errors.New("registry: no folder given")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make registry folder: %w", err)
	}
	root, err := os.OpenRoot(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open registry folder: %w", err)
	}
	d, err := openDisk(root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open registry folder %s: %w", o.Dir, err), root.Close())
	}
	return &Registry{opts: o, log: o.Log, disk: d, uploads: uploadTable{active: map[string]*uploadTurn{}}}, nil
}

func withDefaults(o Options) Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBlobBytes == 0 {
		o.MaxBlobBytes = DefaultMaxBlobBytes
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = DefaultReserveBytes
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.CollectEvery == 0 {
		o.CollectEvery = time.Hour
	}
	return o
}

// Close releases the folder. Requests under way fail.
func (r *Registry) Close() error { return r.disk.root.Close() }

// Run collects garbage every Options.CollectEvery until ctx ends. A registry works without it, and only grows.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(r.opts.CollectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			if _, err := r.Collect(ctx, now); err != nil && ctx.Err() == nil {
				r.log.Warn("registry garbage collection", "err", err)
			}
		}
	}
}

// ServeHTTP answers everything below /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	rt, err := parsePath(req.URL.Path)
	if err == nil && r.opts.ReadOnly && !isRead(req.Method) {
		err = refuse(http.StatusMethodNotAllowed, codeUnsupported, "this registry is read-only")
	}
	if err == nil {
		err = r.serve(w, req, rt)
	}
	if err != nil {
		r.writeError(w, req, err)
	}
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// handler answers one request, or returns why not having written nothing.
type handler func(w http.ResponseWriter, req *http.Request, rt route) error

// serve picks the handler. HEAD is GET without a body, which net/http leaves out by itself.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request, rt route) error {
	methods := r.handlers(rt.resource)
	method := req.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	h, ok := methods[method]
	if !ok {
		allowed := make([]string, 0, len(methods))
		for m := range methods {
			allowed = append(allowed, m)
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return refuse(http.StatusMethodNotAllowed, codeUnsupported, "%s is not served at %s", req.Method, req.URL.Path)
	}
	return h(w, req, rt)
}

func (r *Registry) handlers(res resource) map[string]handler {
	switch res {
	case resourceBase:
		return map[string]handler{http.MethodGet: getBase}
	case resourceCatalog:
		return map[string]handler{http.MethodGet: r.getCatalog}
	case resourceTags:
		return map[string]handler{http.MethodGet: r.getTags}
	case resourceReferrers:
		return map[string]handler{http.MethodGet: r.getReferrers}
	case resourceManifest:
		return map[string]handler{http.MethodGet: r.getManifest, http.MethodPut: r.putManifest, http.MethodDelete: r.deleteManifest}
	case resourceBlob:
		return map[string]handler{http.MethodGet: r.getBlob, http.MethodDelete: r.deleteBlob}
	case resourceUploads:
		return map[string]handler{http.MethodPost: r.postUpload}
	case resourceUpload:
		return map[string]handler{
			http.MethodGet: r.getUpload, http.MethodPatch: r.patchUpload,
			http.MethodPut: r.putUpload, http.MethodDelete: r.deleteUpload,
		}
	case resourceNone:
	}
	return nil
}

func getBase(w http.ResponseWriter, _ *http.Request, _ route) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write([]byte("{}"))
	return ignoreGone(err)
}

// ignoreGone drops the error of writing an answer: its reader is gone and the answer has begun.
func ignoreGone(error) error { return nil }

// newID is a random name: 26 letters and digits.
func newID() string { return strings.ToLower(rand.Text()) }
