// Package resource is the table of the kinds that Skerry serves: names, scope, verbs, subresources, Go types, and how an
// object is written to the store and read back.
//
// The apiserver derives discovery from it, the view its tables, the object store its strategies. Serving one more kind
// starts with one entry in table.go. The package holds no state and does no I/O, and knows nothing of defaults,
// validation or HTTP.
package resource

import (
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resource is one served kind. It is shared and never changed.
type Resource struct {
	GVK        schema.GroupVersionKind
	Plural     string
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	Verbs      []string // sorted, as discovery lists them

	Subresources []Subresource // sorted by name

	New     func() runtime.Object // an empty object, without kind and apiVersion
	NewList func() runtime.Object // an empty list, without kind and apiVersion

	// Stored is the kind under which objects of this one are kept, nil for their own. Such an alias has no data of its
	// own: what is written through it is converted by ToStored and shows under both names.
	Stored     *Resource
	ToStored   func(runtime.Object) (runtime.Object, error)
	FromStored func(runtime.Object) (runtime.Object, error)

	itemType, listType reflect.Type
}

// Subresource is a path below one object, such as status.
type Subresource struct {
	Name  string
	GVK   schema.GroupVersionKind // of the body; its group and version are named in discovery only if they differ
	Verbs []string                // sorted
}

// The names of subresources.
const (
	Status    = "status"
	Scale     = "scale"
	Ephemeral = "ephemeralcontainers"
)

// StoreKind is the kind part of a store key: "pods", "deployments.apps". An alias has the one of the kind that keeps it.
func (r *Resource) StoreKind() string {
	if r.Stored != nil {
		return r.Stored.StoreKind()
	}
	return r.GroupResource().String()
}

// GroupResource is the plural with its group, as error messages name it.
func (r *Resource) GroupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.GVK.Group, Resource: r.Plural}
}

// GVR is the plural with its group and version.
func (r *Resource) GVR() schema.GroupVersionResource {
	return r.GVK.GroupVersion().WithResource(r.Plural)
}

// ListGVK is the kind of a list of this kind.
func (r *Resource) ListGVK() schema.GroupVersionKind {
	return r.GVK.GroupVersion().WithKind(r.GVK.Kind + "List")
}

// Subresource finds the subresource of that name; nil when the kind has none such.
func (r *Resource) Subresource(name string) *Subresource {
	for i := range r.Subresources {
		if r.Subresources[i].Name == name {
			return &r.Subresources[i]
		}
	}
	return nil
}

// Can reports whether the kind itself (no subresource) has the verb.
func (r *Resource) Can(verb string) bool { return slices.Contains(r.Verbs, verb) }

// All lists the served kinds in the order of discovery: by group, then plural. The slice is shared.
func All() []*Resource { return served.all }

// Lookup finds a kind by the words of its URL; nil when it is not served. The core group is "".
func Lookup(group, version, plural string) *Resource {
	return served.byPath[schema.GroupVersionResource{Group: group, Version: version, Resource: plural}]
}

// ForKind finds a kind by the words of a manifest; nil when it is not served. Lists have no entry.
func ForKind(gvk schema.GroupVersionKind) *Resource { return served.byKind[gvk] }

// ForObject finds the kind of a Go object; nil when its type is not served. It looks at the type only, so the object's
// own kind and apiVersion may be empty.
func ForObject(obj runtime.Object) *Resource { return served.byType[reflect.TypeOf(obj)] }

// ForStoreKind finds the kind that keeps its objects under that store kind; nil when there is none.
func ForStoreKind(kind string) *Resource { return served.byStore[kind] }

// ForName finds a kind by any word a person may use: plural, singular, short name, kind, or plural.group, in any case.
// Earlier groups win. It is nil when nothing matches.
func ForName(name string) *Resource {
	name = strings.ToLower(name)
	for _, r := range served.all {
		if r.Stored == nil && r.named(name) {
			return r
		}
	}
	return nil
}

func (r *Resource) named(lower string) bool {
	return lower == r.Plural || lower == r.Singular || lower == r.GroupResource().String() ||
		lower == strings.ToLower(r.GVK.Kind) || slices.Contains(r.ShortNames, lower)
}
