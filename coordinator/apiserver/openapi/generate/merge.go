package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	schemaruntime "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/schemaconv"
	"k8s.io/kube-openapi/pkg/validation/spec"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"

	"skerry.dev/skerry/coordinator/objects/ownership/schema"
	"skerry.dev/skerry/coordinator/resource"
)

// mergeFile is where server-side apply reads how fields merge.
const mergeFile = "../../objects/ownership/schema/types.json.gz"

// mergeSchemas gathers the schemas of all v3 documents, and writes what server-side apply needs of them.
type mergeSchemas map[string]*spec.Schema

// collect takes in the schemas of one document. Those that several documents have are the same in all.
func (m mergeSchemas) collect(schemas object) error {
	for name, s := range schemas {
		body, err := json.Marshal(s)
		if err != nil {
			return err
		}
		parsed := &spec.Schema{}
		if err := parsed.UnmarshalJSON(body); err != nil {
			return fmt.Errorf("parse schema %s: %w", name, err)
		}
		m[name] = parsed
	}
	return nil
}

func (m mergeSchemas) write() error {
	all, err := schemaconv.ToSchemaFromOpenAPI(m, false)
	if err != nil {
		return fmt.Errorf("convert schemas: %w", err)
	}
	kinds := m.kinds()
	types := reachable(all.Types, kinds)
	data, err := schema.Encode(kinds, types)
	if err != nil {
		return err
	}
	return zip(mergeFile, data)
}

func (m mergeSchemas) kinds() []schema.Kind {
	var out []schema.Kind
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list, _ := m[name].Extensions["x-kubernetes-group-version-kind"].([]any)
		for _, e := range list {
			k := kindOf(e, name)
			if resource.ForKind(schemaruntime.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}) != nil {
				out = append(out, k)
			}
		}
	}
	return out
}

func kindOf(extension any, name string) schema.Kind {
	o, _ := extension.(object)
	text := func(key string) string { s, _ := o[key].(string); return s }
	return schema.Kind{Group: text("group"), Version: text("version"), Kind: text("kind"), Type: name}
}

// reachable are the types that the kinds are made of, sorted by name.
func reachable(types []smd.TypeDef, kinds []schema.Kind) []smd.TypeDef {
	byName := map[string]smd.TypeDef{}
	for _, t := range types {
		byName[t.Name] = t
	}
	found := map[string]bool{}
	var visit func(a smd.Atom)
	follow := func(r smd.TypeRef) {
		visit(r.Inlined)
		if r.NamedType != nil && !found[*r.NamedType] {
			found[*r.NamedType] = true
			visit(byName[*r.NamedType].Atom)
		}
	}
	visit = func(a smd.Atom) {
		if a.List != nil {
			follow(a.List.ElementType)
		}
		if a.Map != nil {
			follow(a.Map.ElementType)
			for _, f := range a.Fields {
				follow(f.Type)
			}
		}
	}
	for _, k := range kinds {
		follow(smd.TypeRef{NamedType: &k.Type})
	}
	out := slices.DeleteFunc(slices.Clone(types), func(t smd.TypeDef) bool { return !found[t.Name] })
	slices.SortFunc(out, func(a, b smd.TypeDef) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range out {
		if t.Map != nil {
			slices.SortFunc(t.Fields, func(a, b smd.StructField) int { return strings.Compare(a.Name, b.Name) })
		}
	}
	return out
}
