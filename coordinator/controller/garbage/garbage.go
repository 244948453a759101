// Package garbage removes what nobody needs any longer: objects whose owners are gone, the content of namespaces that are
// being deleted, pods of nodes that no longer exist, and old finished pods. It concludes that an owner is gone only from a
// snapshot that lists all objects of the owner's kind.
package garbage

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
)

// Options bound what is kept. Zero values become the defaults.
type Options struct {
	// Finished is how many pods that have ended are kept in all, the newest. Default 1000.
	Finished int
	// Quarantine is how long a pod is kept after its node's object went, in case it comes back. Default 40 s.
	Quarantine time.Duration
}

// share bounds what looking through all objects takes of one core: in a large cluster under steady change, what is gone is
// noticed some tenths of a second later.
const share = 50

// Controller returns the plans as the shell runs them.
func Controller(o Options) []controller.Controller {
	if o.Finished <= 0 {
		o.Finished = 1000
	}
	if o.Quarantine <= 0 {
		o.Quarantine = 40 * time.Second
	}
	return []controller.Controller{
		{Name: "namespace", Reads: controller.Everything, Plan: planNamespaces, Share: share},
		{Name: "owner", Reads: controller.Everything, Plan: planOwners, Share: share},
		{Name: "podgc", Reads: controller.Pods | controller.Nodes, Plan: o.planPods},
	}
}

var eventKind = schema.GroupKind{Kind: "Event"}

// planOwners follows owner references.
func planOwners(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
	g := newGraph(s)
	var changes []controller.Change
	for _, o := range g.owned {
		if c, needed := g.judge(o); needed {
			changes = append(changes, c)
		}
	}
	for _, o := range g.leaving {
		changes = append(changes, g.release(o)...)
	}
	return changes, time.Time{}
}

// graph is who owns whom.
type graph struct {
	s          *controller.Snapshot
	owners     map[types.UID]controller.Object // those that exist of those referred to
	dependents map[types.UID][]controller.Object
	owned      []controller.Object // have owner references
	leaving    []controller.Object // are being deleted and wait for their dependents
}

func newGraph(s *controller.Snapshot) *graph {
	g := &graph{s: s, owners: map[types.UID]controller.Object{}, dependents: map[types.UID][]controller.Object{}}
	for kind, o := range s.All() {
		if kind == eventKind {
			continue // neither owns nor is owned, and there are many
		}
		refs := o.GetOwnerReferences()
		for i := range refs {
			g.dependents[refs[i].UID] = append(g.dependents[refs[i].UID], o)
		}
		if len(refs) > 0 {
			g.owned = append(g.owned, o)
		}
		if o.GetDeletionTimestamp() != nil && (holds(o, metav1.FinalizerDeleteDependents) || holds(o, metav1.FinalizerOrphanDependents)) {
			g.leaving = append(g.leaving, o)
		}
	}
	g.findOwners()
	return g
}

// findOwners looks for the owners only, which are few beside what they own.
func (g *graph) findOwners() {
	if len(g.owned) == 0 {
		return
	}
	for kind, o := range g.s.All() {
		if kind == eventKind {
			continue
		}
		if uid := o.GetUID(); g.dependents[uid] != nil {
			g.owners[uid] = o
		}
	}
}

func holds(o controller.Object, finalizer string) bool {
	return slices.Contains(o.GetFinalizers(), finalizer)
}

// state of one owner.
type state int

const (
	solid   state = iota // there, or of a kind that the snapshot does not list
	gone                 // does not exist (any more)
	waiting              // is being deleted and waits for its dependents
)

func (g *graph) owner(o controller.Object, ref metav1.OwnerReference) state {
	owner := g.owners[ref.UID]
	switch {
	case owner == nil && !g.known(ref):
		return solid
	case owner == nil, owner.GetNamespace() != "" && owner.GetNamespace() != o.GetNamespace():
		return gone
	case owner.GetDeletionTimestamp() != nil && holds(owner, metav1.FinalizerDeleteDependents):
		return waiting
	}
	return solid
}

// known reports whether the absence of the owner means anything.
func (g *graph) known(ref metav1.OwnerReference) bool {
	version, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && g.s.Knows(schema.GroupKind{Group: version.Group, Kind: ref.Kind})
}

// judge decides on an object with owners: it stays while one of them is solid, without its references to the others; it
// goes when there is none.
func (g *graph) judge(o controller.Object) (controller.Change, bool) {
	if o.GetDeletionTimestamp() != nil {
		return controller.Change{}, false
	}
	var kept []metav1.OwnerReference
	waits := false
	for _, ref := range o.GetOwnerReferences() {
		switch g.owner(o, ref) {
		case solid:
			kept = append(kept, ref)
		case waiting:
			waits = true
		case gone:
		}
	}
	switch {
	case len(kept) == len(o.GetOwnerReferences()):
		return controller.Change{}, false
	case len(kept) > 0:
		return withReferences(o, kept), true
	}
	return controller.Change{Verb: controller.Delete, Object: o, Propagation: g.propagation(o, waits), Exact: true}, true
}

// propagation is how the object's own dependents go: as its finalizers ask, or in the foreground when its owner waits.
func (g *graph) propagation(o controller.Object, waits bool) metav1.DeletionPropagation {
	switch {
	case holds(o, metav1.FinalizerOrphanDependents):
		return metav1.DeletePropagationOrphan
	case holds(o, metav1.FinalizerDeleteDependents), waits && len(g.dependents[o.GetUID()]) > 0:
		return metav1.DeletePropagationForeground
	}
	return metav1.DeletePropagationBackground
}

// release lets an object go that waited for its dependents, when they are gone (foreground) or set free (orphan).
func (g *graph) release(o controller.Object) []controller.Change {
	if holds(o, metav1.FinalizerOrphanDependents) {
		return g.orphan(o)
	}
	for _, d := range g.dependents[o.GetUID()] {
		if blocks(d, o) && !g.waits(d, o) {
			return nil
		}
	}
	return []controller.Change{withoutFinalizer(o, metav1.FinalizerDeleteDependents)}
}

// waits reports that the dependent of o, which is being deleted in the foreground, itself waits for o, at once or through
// others that do: owners in a circle would wait for each other for ever.
func (g *graph) waits(dependent, o controller.Object) bool {
	seen := map[types.UID]bool{}
	ahead := []controller.Object{o}
	for len(ahead) > 0 {
		next := ahead[0]
		ahead = ahead[1:]
		for _, ref := range next.GetOwnerReferences() {
			owner := g.owners[ref.UID]
			if seen[ref.UID] || g.owner(next, ref) != waiting || !blocks(next, owner) {
				continue
			}
			if ref.UID == dependent.GetUID() {
				return true
			}
			seen[ref.UID] = true
			ahead = append(ahead, owner)
		}
	}
	return false
}

func (g *graph) orphan(o controller.Object) []controller.Change {
	var changes []controller.Change
	for _, d := range g.dependents[o.GetUID()] {
		refs := slices.DeleteFunc(slices.Clone(d.GetOwnerReferences()), func(ref metav1.OwnerReference) bool { return ref.UID == o.GetUID() })
		changes = append(changes, withReferences(d, refs))
	}
	if len(changes) == 0 {
		changes = append(changes, withoutFinalizer(o, metav1.FinalizerOrphanDependents))
	}
	return changes
}

// blocks reports whether the dependent's reference keeps the owner from going first.
func blocks(dependent, owner controller.Object) bool {
	if owner.GetNamespace() != "" && owner.GetNamespace() != dependent.GetNamespace() {
		return false
	}
	for _, ref := range dependent.GetOwnerReferences() {
		if ref.UID == owner.GetUID() {
			return ref.BlockOwnerDeletion != nil && *ref.BlockOwnerDeletion
		}
	}
	return false
}

func copyOf(o controller.Object) controller.Object {
	c, ok := o.DeepCopyObject().(controller.Object)
	if !ok {
		panic("a copy of an API object is none") // DeepCopyObject returns its receiver's type
	}
	return c
}

func withReferences(o controller.Object, refs []metav1.OwnerReference) controller.Change {
	updated := copyOf(o)
	updated.SetOwnerReferences(refs)
	return controller.Change{Verb: controller.Update, Object: updated}
}

func withoutFinalizer(o controller.Object, finalizer string) controller.Change {
	updated := copyOf(o)
	updated.SetFinalizers(slices.DeleteFunc(slices.Clone(o.GetFinalizers()), func(f string) bool { return f == finalizer }))
	return controller.Change{Verb: controller.Update, Object: updated}
}
