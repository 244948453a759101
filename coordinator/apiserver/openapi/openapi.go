// Package openapi serves the OpenAPI documents of the API, v2 and v3, from which kubectl explains fields and validates
// manifests. The documents are cut from those of the Kubernetes release, and made from the Go types for Skerry's own
// kinds, by the program in generate; they are embedded compressed and sent as they are.
//
// It sits below coordinator/apiserver and knows nothing of objects.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"strings"
)

//go:generate go run ./generate

//go:embed data
var data embed.FS

const (
	typeJSON = "application/json"
	// askedV2Protobuf is what client-go asks for. It is no media type that could be parsed, so the answer's type is
	// written differently, as upstream does.
	askedV2Protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
	typeV2Protobuf  = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
)

// Documents are all OpenAPI documents. They never change.
type Documents struct {
	v3    map[string]document // by path below /openapi/v3/, such as "apis/apps/v1"
	index document
	v2    document // JSON
	v2pb  document // protobuf
}

// document is one body, compressed except for the index.
type document struct {
	contentType string
	body        []byte
	zipped      bool
	hash        string
}

// New reads the embedded documents.
func New() (*Documents, error) {
	d := &Documents{v3: map[string]document{}}
	var err error
	if d.v2, err = load("data/v2.json.gz", typeJSON); err != nil {
		return nil, err
	}
	if d.v2pb, err = load("data/v2.pb.gz", typeV2Protobuf); err != nil {
		return nil, err
	}
	files, err := fs.Glob(data, "data/v3/*.json.gz")
	if err != nil {
		return nil, fmt.Errorf("list OpenAPI documents: %w", err)
	}
	for _, f := range files {
		doc, err := load(f, typeJSON)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(f, "data/v3/"), ".json.gz")
		d.v3[strings.ReplaceAll(name, "__", "/")] = doc
	}
	d.index, err = d.makeIndex()
	return d, err
}

func load(name, contentType string) (document, error) {
	body, err := data.ReadFile(name)
	if err != nil {
		return document{}, fmt.Errorf("read embedded OpenAPI document: %w", err)
	}
	return document{contentType: contentType, body: body, zipped: true, hash: hash(body)}, nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// makeIndex lists the v3 documents with a hash in each URL, by which clients cache them for ever.
func (d *Documents) makeIndex() (document, error) {
	type entry struct {
		ServerRelativeURL string `json:"serverRelativeURL"`
	}
	paths := map[string]entry{}
	for p, doc := range d.v3 {
		paths[p] = entry{"/openapi/v3/" + p + "?hash=" + doc.hash}
	}
	body, err := json.Marshal(map[string]any{"paths": paths})
	if err != nil {
		return document{}, fmt.Errorf("encode OpenAPI index: %w", err)
	}
	return document{contentType: typeJSON, body: body, hash: hash(body)}, nil
}

// Serve answers a path under /openapi and reports whether it did.
func (d *Documents) Serve(w http.ResponseWriter, r *http.Request) bool {
	switch path := strings.TrimSuffix(r.URL.Path, "/"); path {
	case "/openapi/v2":
		d.serveV2(w, r)
	case "/openapi/v3":
		d.index.serve(w, r)
	default:
		name, ok := strings.CutPrefix(path, "/openapi/v3/")
		doc, found := d.v3[name]
		if !ok || !found {
			return false
		}
		d.serveV3(w, r, name, doc)
	}
	return true
}

func (d *Documents) serveV2(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept, Accept-Encoding")
	for element := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		// The media type has an "@", which mime.ParseMediaType refuses.
		media, _, _ := strings.Cut(strings.TrimSpace(element), ";")
		switch media {
		case askedV2Protobuf, typeV2Protobuf:
			d.v2pb.serve(w, r)
			return
		case typeJSON, "*/*", "application/*":
			d.v2.serve(w, r)
			return
		}
	}
	d.v2.serve(w, r)
}

// serveV3 sends a client whose hash is old to the present one.
func (d *Documents) serveV3(w http.ResponseWriter, r *http.Request, name string, doc document) {
	asked := r.URL.Query().Get("hash")
	if asked != "" && asked != doc.hash {
		http.Redirect(w, r, "/openapi/v3/"+name+"?hash="+doc.hash, http.StatusMovedPermanently)
		return
	}
	if asked != "" {
		w.Header().Set("Cache-Control", "public, immutable, max-age=31536000")
	}
	doc.serve(w, r)
}

func (doc document) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", `"`+doc.hash+`"`)
	h.Add("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == `"`+doc.hash+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", doc.contentType)
	if doc.zipped && acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(doc.body) // a failed write means that the client is gone
		return
	}
	body, err := doc.plain()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}

func (doc document) plain() ([]byte, error) {
	if !doc.zipped {
		return doc.body, nil
	}
	zr, err := gzip.NewReader(bytes.NewReader(doc.body))
	if err != nil {
		return nil, fmt.Errorf("unzip OpenAPI document: %w", err)
	}
	body, err := io.ReadAll(zr)
	if err != nil {
		return nil, fmt.Errorf("unzip OpenAPI document: %w", err)
	}
	return body, nil
}

func acceptsGzip(r *http.Request) bool {
	for element := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, params, err := mime.ParseMediaType(strings.TrimSpace(element))
		if err == nil && coding == "gzip" && params["q"] != "0" {
			return true
		}
	}
	return false
}
