// Package schema says how the fields of the served kinds are merged: which lists are sets, which are keyed by what, which
// maps are one value. It is the part of the OpenAPI documents that server-side apply needs, cut and written by
// coordinator/apiserver/openapi/generate, embedded compressed, and read only when somebody applies: in memory it takes a
// few megabytes.
package schema

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime/schema"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

//go:embed types.json.gz
var data []byte

// Types are the types of all kinds, by kind.
type Types map[schema.GroupVersionKind]*typed.ParseableType

// Load reads the embedded types. Nothing of them is kept here.
func Load() (Types, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("unzip merge schema: %w", err)
	}
	var f file
	if err := json.NewDecoder(zr).Decode(&f); err != nil {
		return nil, fmt.Errorf("read merge schema: %w", err)
	}
	parser := &typed.Parser{Schema: smd.Schema{Types: make([]smd.TypeDef, len(f.Types))}}
	for i, t := range f.Types {
		parser.Schema.Types[i] = smd.TypeDef{Name: t.Name, Atom: t.smd()}
	}
	out := make(Types, len(f.Kinds))
	for _, k := range f.Kinds {
		t := parser.Type(k.Type)
		out[schema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: k.Kind}] = &t
	}
	return out, nil
}

// Kind binds a kind to the name of its type.
type Kind struct {
	Group   string `json:"g,omitempty"`
	Version string `json:"v"`
	Kind    string `json:"k"`
	Type    string `json:"t"`
}

// Encode writes what Load reads, uncompressed. Types that no kind reaches are the caller's to leave out.
func Encode(kinds []Kind, types []smd.TypeDef) ([]byte, error) {
	f := file{Kinds: kinds, Types: make([]typeDef, len(types))}
	for i, t := range types {
		f.Types[i] = typeDef{t.Name, atomOf(t.Atom)}
	}
	out, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode merge schema: %w", err)
	}
	return out, nil
}

// file is what is embedded: the types of structured-merge-diff, which have no JSON form, under short names.
type file struct {
	Kinds []Kind    `json:"kinds"`
	Types []typeDef `json:"types"`
}

type typeDef struct {
	Name string `json:"n"`
	atom
}

type atom struct {
	Scalar *smd.Scalar `json:"s,omitempty"`
	List   *list       `json:"l,omitempty"`
	Map    *object     `json:"m,omitempty"`
}

type list struct {
	Element      typeRef                 `json:"e"`
	Relationship smd.ElementRelationship `json:"r,omitempty"`
	Keys         []string                `json:"k,omitempty"`
}

type object struct {
	Fields       []member                `json:"f,omitempty"`
	Element      typeRef                 `json:"e,omitzero"`
	Relationship smd.ElementRelationship `json:"r,omitempty"`
}

type member struct {
	Name    string  `json:"n"`
	Type    typeRef `json:"t"`
	Default any     `json:"d,omitempty"`
}

type typeRef struct {
	Name         *string                  `json:"n,omitempty"`
	Inlined      atom                     `json:"i,omitzero"`
	Relationship *smd.ElementRelationship `json:"r,omitempty"`
	Nullable     bool                     `json:"z,omitempty"`
}

func (a atom) smd() smd.Atom {
	out := smd.Atom{Scalar: a.Scalar}
	if a.List != nil {
		out.List = &smd.List{ElementType: a.List.Element.smd(), ElementRelationship: a.List.Relationship, Keys: a.List.Keys}
	}
	if a.Map != nil {
		out.Map = &smd.Map{ElementType: a.Map.Element.smd(), ElementRelationship: a.Map.Relationship}
		for _, f := range a.Map.Fields {
			out.Fields = append(out.Fields, smd.StructField{Name: f.Name, Type: f.Type.smd(), Default: f.Default})
		}
	}
	return out
}

func (r typeRef) smd() smd.TypeRef {
	return smd.TypeRef{NamedType: r.Name, Inlined: r.Inlined.smd(), ElementRelationship: r.Relationship, Nullable: r.Nullable}
}

func atomOf(a smd.Atom) atom {
	out := atom{Scalar: a.Scalar}
	if a.List != nil {
		out.List = &list{refOf(a.List.ElementType), a.List.ElementRelationship, a.Keys}
	}
	if a.Map != nil {
		out.Map = &object{Element: refOf(a.Map.ElementType), Relationship: a.Map.ElementRelationship}
		for _, f := range a.Fields {
			out.Map.Fields = append(out.Map.Fields, member{f.Name, refOf(f.Type), f.Default})
		}
	}
	return out
}

func refOf(r smd.TypeRef) typeRef {
	return typeRef{r.NamedType, atomOf(r.Inlined), r.ElementRelationship, r.Nullable}
}
