package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/resource"
)

const (
	ownPrefix = "dev.skerry.fleet.v1alpha1."
	metaNames = "io.k8s.apimachinery.pkg.apis.meta.v1."
	coreNames = "io.k8s.api.core.v1."
)

// ownSchemas makes v3 schemas of the kinds in package api, with the comments of their Go source as descriptions.
func ownSchemas() (object, error) {
	docs, err := comments("../../../api")
	if err != nil {
		return nil, err
	}
	g := &generator{docs: docs, out: object{}}
	for _, r := range resource.All() {
		if r.GVK.Group != api.Group {
			continue
		}
		kind := reflect.TypeOf(r.New()).Elem()
		g.add(kind)
		s, err := part(g.out, ownPrefix+kind.Name())
		if err != nil {
			return nil, err
		}
		s["x-kubernetes-group-version-kind"] = []any{object{"group": r.GVK.Group, "version": r.GVK.Version, "kind": r.GVK.Kind}}
		g.out[ownPrefix+kind.Name()+"List"] = listSchema(r)
	}
	return g.out, nil
}

func listSchema(r *resource.Resource) object {
	return object{
		"type": "object", "required": []any{"items"}, "description": "A list of " + r.Plural + ".",
		"properties": object{
			"apiVersion": object{"type": "string"}, "kind": object{"type": "string"},
			"metadata": object{"$ref": ref(metaNames + "ListMeta")},
			"items":    object{"type": "array", "items": object{"$ref": ref(ownPrefix + r.GVK.Kind)}},
		},
		"x-kubernetes-group-version-kind": []any{object{"group": r.GVK.Group, "version": r.GVK.Version, "kind": r.ListGVK().Kind}},
	}
}

func ref(name string) string { return "#/components/schemas/" + name }

type generator struct {
	docs map[string]string // "Type" or "Type.Field" -> comment
	out  object
}

// add makes the schema of a struct of package api, and of those it uses.
func (g *generator) add(t reflect.Type) {
	name := ownPrefix + t.Name()
	if _, ok := g.out[name]; ok {
		return
	}
	s := object{"type": "object"}
	g.out[name] = s
	describe(s, g.docs[t.Name()])
	properties := object{}
	for f := range t.Fields() {
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "inline" {
			properties["apiVersion"], properties["kind"] = object{"type": "string", "description": "Version of the API that the object is written in."}, object{"type": "string", "description": "Kind of the object."}
			continue
		}
		p := g.schema(f.Type)
		describe(p, g.docs[t.Name()+"."+f.Name])
		properties[tag] = p
	}
	s["properties"] = properties
}

func describe(s object, text string) {
	if text = strings.TrimSpace(text); text != "" {
		s["description"] = text
	}
}

func (g *generator) schema(t reflect.Type) object {
	if t == reflect.TypeFor[time.Duration]() {
		return object{"type": "integer", "format": "int64"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.schema(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Uint16, reflect.Uint64:
		return object{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Slice:
		return object{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": g.schema(t.Elem())}
	case reflect.Struct:
		return g.structRef(t)
	default:
		panic(fmt.Sprintf("no schema for %s", t))
	}
}

func (g *generator) structRef(t reflect.Type) object {
	name := ownPrefix + t.Name()
	switch {
	case strings.HasSuffix(t.PkgPath(), "apis/meta/v1"):
		name = metaNames + t.Name()
	case strings.HasSuffix(t.PkgPath(), "api/core/v1"):
		name = coreNames + t.Name()
	default:
		g.add(t)
	}
	// A description beside a $ref is only allowed around it.
	return object{"allOf": []any{object{"$ref": ref(name)}}}
}

// comments reads the doc comments of the types and fields of a package's source.
func comments(dir string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				typeComments(g, out)
			}
		}
	}
	return out, nil
}

func typeComments(g *ast.GenDecl, out map[string]string) {
	for _, spec := range g.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		text, _, _ := strings.Cut(g.Doc.Text(), "\n+k8s")
		out[t.Name.Name] = strings.ReplaceAll(strings.TrimSpace(text), "\n", " ")
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range s.Fields.List {
			for _, n := range f.Names {
				out[t.Name.Name+"."+n.Name] = strings.TrimSpace(f.Doc.Text() + f.Comment.Text())
			}
		}
	}
}

// dialect is the version of OpenAPI that paths are written in.
type dialect int

const (
	v2 dialect = 2
	v3 dialect = 3
)

// ownPaths are the paths of Skerry's kinds, with what clients look for: which kind is behind a path, and that the server
// validates fields.
func ownPaths(d dialect) object {
	paths := object{}
	for _, r := range resource.All() {
		if r.GVK.Group != api.Group {
			continue
		}
		list := "/apis/" + r.GVK.GroupVersion().String() + "/" + r.Plural
		paths[list] = operations(d, r, "get list", "post post", "delete deletecollection")
		paths[list+"/{name}"] = operations(d, r, "get get", "put put", "patch patch", "delete delete")
	}
	return paths
}

func operations(d dialect, r *resource.Resource, list ...string) object {
	out := object{}
	for _, op := range list {
		method, action, _ := strings.Cut(op, " ")
		schema := object{"$ref": ref(ownPrefix + r.GVK.Kind)}
		out[method] = object{
			"operationId":                     action + r.GVK.Kind,
			"description":                     action + " " + r.Plural,
			"x-kubernetes-action":             action,
			"responses":                       responses(d, schema),
			"parameters":                      parameters(d, method),
			"x-kubernetes-group-version-kind": object{"group": r.GVK.Group, "version": r.GVK.Version, "kind": r.GVK.Kind},
		}
	}
	return out
}

func responses(d dialect, schema object) object {
	if d == v2 {
		return object{"200": object{"description": "OK", "schema": asV2(schema)}}
	}
	return object{"200": object{"description": "OK", "content": object{"application/json": object{"schema": schema}}}}
}

func parameters(d dialect, method string) []any {
	if method == "get" || method == "delete" {
		return []any{}
	}
	var list []any
	for _, name := range []string{"dryRun", "fieldManager", "fieldValidation"} {
		p := object{"name": name, "in": "query"}
		if d == v2 {
			p["type"] = "string"
		} else {
			p["schema"] = object{"type": "string"}
		}
		list = append(list, p)
	}
	return list
}

// asV2 rewrites references, and unwraps those that v3 wraps, for OpenAPI v2.
func asV2(v any) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for k, child := range v {
			if all, ok := child.([]any); ok && k == "allOf" && len(all) == 1 {
				if inner, ok := asV2(all[0]).(object); ok {
					maps.Copy(out, inner)
					continue
				}
			}
			if s, ok := child.(string); ok && k == "$ref" {
				child = strings.Replace(s, "#/components/schemas/", "#/definitions/", 1)
			}
			out[k] = asV2(child)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = asV2(v[i])
		}
		return out
	default:
		return v
	}
}
