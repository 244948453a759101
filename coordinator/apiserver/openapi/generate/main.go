// Program generate cuts the OpenAPI documents of the Kubernetes release down to the served kinds, adds Skerry's own, and
// writes them compressed to data/, and what server-side apply needs of them to the package that reads it. Run it with
// go generate in the folder above when the resource table, the kinds in api/ or the Kubernetes version changes.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/resource"
)

type object = map[string]any

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "generate OpenAPI documents:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := moduleDir("k8s.io/kubernetes")
	if err != nil {
		return err
	}
	own, err := ownSchemas()
	if err != nil {
		return err
	}
	if err := writeV3(filepath.Join(dir, "api/openapi-spec/v3"), own); err != nil {
		return err
	}
	return writeV2(filepath.Join(dir, "api/openapi-spec/swagger.json"), own)
}

func moduleDir(module string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// versions are the group versions whose documents are wanted, apart from Skerry's own.
func versions() []schema.GroupVersion {
	set := map[schema.GroupVersion]bool{
		{Group: "authentication.k8s.io", Version: "v1"}: true,
		{Group: "authorization.k8s.io", Version: "v1"}:  true,
	}
	for _, r := range resource.All() {
		if r.GVK.Group != api.Group {
			set[r.GVK.GroupVersion()] = true
		}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b schema.GroupVersion) int { return strings.Compare(a.String(), b.String()) })
}

func prefix(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.String()
}

// served reports whether a path is of a served kind and subresource.
func served(path string) bool {
	p := strings.ReplaceAll(strings.Trim(path, "/"), "namespaces/{namespace}/", "")
	parts := strings.Split(p, "/")
	var group, version string
	switch {
	case parts[0] == "api" && len(parts) > 2:
		version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, version, parts = parts[1], parts[2], parts[3:]
	default:
		return false
	}
	if strings.HasSuffix(group, "authentication.k8s.io") || group == "authorization.k8s.io" {
		return true
	}
	r := resource.Lookup(group, version, parts[0])
	if r == nil || len(parts) > 3 {
		return false
	}
	return len(parts) < 3 || r.Subresource(parts[2]) != nil
}

func writeV3(dir string, own object) error {
	if err := os.MkdirAll("data/v3", 0o755); err != nil {
		return err
	}
	var common object // schemas of meta/v1, which Skerry's own kinds refer to
	merge := mergeSchemas{}
	for _, gv := range versions() {
		doc, err := read(filepath.Join(dir, strings.ReplaceAll(prefix(gv), "/", "__")+"_openapi.json"))
		if err != nil {
			return err
		}
		if err := keepPaths(doc); err != nil {
			return err
		}
		components, err := part(doc, "components")
		if err != nil {
			return err
		}
		schemas, err := part(components, "schemas")
		if err != nil {
			return err
		}
		if gv.Group == "apps" {
			common = maps.Clone(schemas)
		}
		reached := reach(doc["paths"], schemas, "#/components/schemas/")
		components["schemas"] = only(schemas, reached)
		if err := merge.collect(only(schemas, reached)); err != nil {
			return err
		}
		if err := writeDoc(gv, doc); err != nil {
			return err
		}
	}
	if err := merge.collect(own); err != nil {
		return err
	}
	if err := merge.write(); err != nil {
		return err
	}
	return writeOwnV3(common, own)
}

func writeDoc(gv schema.GroupVersion, doc object) error {
	return write("data/v3/"+strings.ReplaceAll(prefix(gv), "/", "__")+".json.gz", doc)
}

func writeOwnV3(common, own object) error {
	doc := object{"openapi": "3.0.0", "info": object{"title": "Skerry", "version": api.Version}, "paths": ownPaths(v3)}
	schemas := maps.Clone(common)
	maps.Copy(schemas, own)
	doc["components"] = object{"schemas": only(schemas, reach(own, schemas, "#/components/schemas/"), maps.Keys(own))}
	return writeDoc(api.SchemeGroupVersion, doc)
}

func writeV2(file string, own object) error {
	doc, err := read(file)
	if err != nil {
		return err
	}
	if err := keepPaths(doc); err != nil {
		return err
	}
	paths, err := part(doc, "paths")
	if err != nil {
		return err
	}
	maps.Copy(paths, ownPaths(v2))
	definitions, err := part(doc, "definitions")
	if err != nil {
		return err
	}
	for name, s := range own {
		definitions[name] = asV2(s)
	}
	doc["definitions"] = only(definitions, reach(doc["paths"], definitions, "#/definitions/"), maps.Keys(own))
	if err := write("data/v2.json.gz", doc); err != nil {
		return err
	}
	plain, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	parsed, err := openapiv2.ParseDocument(plain)
	if err != nil {
		return fmt.Errorf("parse cut OpenAPI v2: %w", err)
	}
	pb, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return err
	}
	return zip("data/v2.pb.gz", pb)
}

func keepPaths(doc object) error {
	paths, err := part(doc, "paths")
	maps.DeleteFunc(paths, func(p string, _ any) bool { return !served(p) })
	return err
}

// part is the object called name in o.
func part(o object, name string) (object, error) {
	out, ok := o[name].(object)
	if !ok {
		return nil, fmt.Errorf("no object %q in the document", name)
	}
	return out, nil
}

// reach finds the schemas that a part of a document refers to, directly or not.
func reach(from any, schemas object, prefix string) map[string]bool {
	found := map[string]bool{}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case object:
			for k, child := range v {
				ref, ok := child.(string)
				if name, isRef := strings.CutPrefix(ref, prefix); ok && isRef && k == "$ref" && !found[name] {
					found[name] = true
					visit(schemas[name])
				}
				visit(child)
			}
		case []any:
			for _, child := range v {
				visit(child)
			}
		}
	}
	visit(from)
	return found
}

func only(schemas object, names map[string]bool, more ...func(func(string) bool)) object {
	for _, seq := range more {
		for name := range seq {
			names[name] = true
		}
	}
	out := object{}
	for name := range names {
		out[name] = schemas[name]
	}
	return out
}

func read(file string) (object, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var doc object
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("parse %s: %w", filepath.Base(file), err)
	}
	return doc, nil
}

func write(file string, doc object) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return zip(file, data)
}

// zip compresses without names or times, so that the same input gives the same bytes.
func zip(file string, data []byte) error {
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := zw.Write(data); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, buf.Bytes(), 0o644) //nolint:gosec // public data, checked in
}
