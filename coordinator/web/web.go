// Package web is the operators' page: files that need no build step, and one stream of server-sent events that keeps the
// page live. Everything else the page shows it reads from the public API, with the session cookie that authn hands out.
//
// The stream exists because a browser can follow nine kinds over one connection that way, and reconnects by itself; it
// carries nothing that the API would not give to the same user, and never a Secret. The package changes nothing.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strings"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/view"
)

//go:embed static
var files embed.FS

// Prefix is where the handler is to be mounted.
const Prefix = "/ui/"

// Config is what the page needs.
type Config struct {
	View *view.View
	// Liveness is what the nodes' heartbeats say; it may be called concurrently.
	Liveness func() map[string]controller.Liveness
	Log      *slog.Logger
}

// Handler serves the page below Prefix.
type Handler struct {
	feed   *feed
	assets map[string]asset
}

type asset struct {
	data []byte
	kind string
	etag string
}

// New reads the page's files.
func New(c Config) (*Handler, error) {
	h := &Handler{feed: newFeed(c), assets: map[string]asset{}}
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		h.assets[strings.TrimPrefix(name, "static/")] = asset{data: data, kind: mime.TypeByExtension(path.Ext(name)), etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	return h, err
}

// policy lets the page load its own files and nothing else, and be shown in nobody's frame.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// ServeHTTP serves files to anybody, for they hold no data, and the stream to whom the API would answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "the page can only be read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, Prefix)
	if name == "events" {
		h.feed.ServeHTTP(w, r)
		return
	}
	if name == "" || r.URL.Path == strings.TrimSuffix(Prefix, "/") {
		name = "index.html"
	}
	a, ok := h.assets[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h.serve(w, r, a)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, a asset) {
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Etag", a.etag)
	w.Header().Set("Cache-Control", "no-cache") // asked for each time, sent when it changed
	if r.Header.Get("If-None-Match") == a.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write(a.data) // the client has left: nobody to tell
	}
}
