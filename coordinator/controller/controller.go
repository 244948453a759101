// Package controller is the shell around the controllers: it wakes on changes of the view, hands one snapshot to each
// pure Plan, and performs what they return. The plans live in its subpackages, one noun each, and do no I/O.
package controller

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/messaging"
)

// Snapshot is the whole state at one revision. Its objects are shared: a plan copies what it wants to change.
// Every slice is sorted by namespace and name.
type Snapshot struct {
	Revision       uint64
	Namespaces     []*corev1.Namespace
	Nodes          []*corev1.Node
	Pods           []*corev1.Pod
	Services       []*corev1.Service
	EndpointSlices []*discoveryv1.EndpointSlice
	Deployments    []*appsv1.Deployment
	ReplicaSets    []*appsv1.ReplicaSet
	Moves          []*api.MovePlan

	// Liveness is what the fleet's heartbeat table says, by node name. A node without an entry was not heard of since
	// this coordinator started and counts as heard at Started.
	Liveness map[string]Liveness
	Started  time.Time
}

// Liveness is when a node was last heard, on the coordinator's clock, and the load it reported.
type Liveness struct {
	Heard time.Time
	Boot  string
	Load  messaging.Load
}

// Verb is what to do with an object.
type Verb string

// The verbs of a Change. Status writes only status; Delete is a graceful delete when Grace is not nil and positive.
const (
	Create Verb = "create"
	Update Verb = "update"
	Status Verb = "status"
	Delete Verb = "delete"
)

// Change is one write that a plan asks for. Object carries kind, namespace and name; for Update and Status its
// resourceVersion is the precondition, for Delete its UID (and its resourceVersion, when set). A change whose
// precondition fails is dropped: the next plan sees why.
type Change struct {
	Verb   Verb
	Object runtime.Object
	Grace  *int64 // Delete only: seconds, nil for the object's own default
	Event  *Event // recorded when the write succeeded, or alone when Verb is empty
}

// Event is what to tell people about Regarding.
type Event struct {
	Regarding corev1.ObjectReference
	Type      string // corev1.EventTypeNormal or EventTypeWarning
	Reason    string
	Message   string
	Component string
}

// Plan is a controller's decision. It must be pure, and planning again on the result of its own changes returns none.
// Wake is when the plan wants to be asked again though nothing changed; zero means not.
type Plan func(s *Snapshot, now time.Time) (changes []Change, wake time.Time)

// Reference makes the owner reference of a controller.
func Reference(owner metav1.Object, apiVersion, kind string) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes}
}

// OwnedBy reports whether uid is o's controller.
func OwnedBy(o metav1.Object, uid types.UID) bool {
	ref := metav1.GetControllerOf(o)
	return ref != nil && ref.UID == uid
}
