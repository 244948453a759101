// Package controller is the shell around the controllers: it wakes on changes of the view, hands one snapshot to each
// pure Plan, and performs what they return. The plans live in its subpackages, one noun each, and do no I/O.
package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Verb is what to do with an object.
type Verb string

// The verbs of a Change.
const (
	// Create makes the object. A Pod that carries spec.nodeName is created already bound: its PodScheduled condition is
	// kept. An existing object of the same name makes the change void.
	Create Verb = "create"
	// Update writes everything but status.
	Update Verb = "update"
	// Status writes status, and with it annotations where upstream's strategy lets a status write do so: a Deployment's
	// and a Node's.
	Status Verb = "status"
	// Bind is for a Pod: it writes spec.nodeName, annotations and the PodScheduled condition at once, which Update may not.
	Bind Verb = "bind"
	// Finalize is for a Namespace: it writes spec.finalizers, which Update may not.
	Finalize Verb = "finalize"
	// Delete removes the object, gracefully where its kind and Grace say so.
	Delete Verb = "delete"
	// Evict is for a Pod: it deletes it as Delete does, unless its disruption budget does not allow that now.
	Evict Verb = "evict"
)

// Change is one write that a plan asks for. The Go type of Object says its kind, its metadata namespace and name; for
// Update, Status, Bind and Finalize its resourceVersion is the precondition, for Delete and Evict its UID (and its
// resourceVersion when Exact). A change whose precondition fails is dropped: the next plan sees why.
type Change struct {
	Verb        Verb
	Object      runtime.Object
	Grace       *int64                     // Delete only: seconds, nil for the object's own default
	Propagation metav1.DeletionPropagation // Delete only: empty for the kind's default
	Exact       bool                       // Delete only: not if the object changed since
	Events      []Event                    // recorded when the write succeeded, or alone when Verb is empty
}

// Event is what to tell people about Regarding. Its UID may be empty when it regards the object that the same Change
// creates.
type Event struct {
	Regarding corev1.ObjectReference
	Type      string // corev1.EventTypeNormal or EventTypeWarning
	Reason    string
	Message   string
	Component string
	Host      string // the node whose agent says so; empty for the coordinator's own
}

// Plan is a controller's decision. It must be pure, and planning again on the result of its own changes returns none.
// Wake is when the plan wants to be asked again though nothing changed; zero means not.
type Plan func(s *Snapshot, now time.Time) (changes []Change, wake time.Time)

// Controller is a plan with its name and what it looks at.
type Controller struct {
	Name  string
	Reads Kinds              // the plan is skipped while none of these changed, its last changes are done and its wake is not due
	Rest  []schema.GroupKind // the same for single kinds of the snapshot's Others
	Plan  Plan
	Pace  time.Duration // the plan runs at most once in this time; zero means as often as anything changes
	// Share keeps a plan that looks at everything for the sake of little from taking more than one in Share parts of a core:
	// one that took long is not run again before Share times as long. Zero means no limit of its own.
	Share int
}

// Reference makes the owner reference of a controller.
func Reference(owner metav1.Object, apiVersion, kind string) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes}
}

// OwnedBy reports whether uid is o's controller.
func OwnedBy(o metav1.Object, uid types.UID) bool {
	ref := metav1.GetControllerOfNoCopy(o)
	return ref != nil && ref.UID == uid
}

// Sooner returns the earlier of two wake times, where zero means never.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
