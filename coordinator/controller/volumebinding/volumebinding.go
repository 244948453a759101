// Package volumebinding brings PersistentVolumeClaims and PersistentVolumes together: it finds the smallest volume that is
// what a claim asks for, makes one on the node that the scheduler chose for the claim's first pod, and, when a claim is
// gone, does what its volume's reclaim policy says. Choosing the node is the scheduler's job, making and removing the
// folder the agent's: a volume with data to remove stays until its node has said that they are gone.
//
// Each plan takes one step for each object, so that a crash between any two writes leaves a state from which the next plan
// goes on: first the volume says whom it is for, with the claim's UID, then the claim says which volume it has.
package volumebinding

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
)

// Finalizers that coordinator/objects puts on everything, as upstream.
const (
	volumeProtection = "kubernetes.io/pv-protection"
	claimProtection  = "kubernetes.io/pvc-protection"
)

// Annotations of upstream's.
const (
	annotationBound        = "pv.kubernetes.io/bind-completed"
	annotationByController = "pv.kubernetes.io/bound-by-controller"
	yes                    = "yes"
)

// noProvisioner is the provisioner of classes whose volumes people make.
const noProvisioner = "kubernetes.io/no-provisioner"

// Controller returns the plan as the shell runs it.
func Controller() controller.Controller {
	return controller.Controller{
		Name: "volumebinding", Reads: controller.Pods | controller.Nodes, Plan: Plan,
		Rest: []schema.GroupKind{controller.ClaimKind, controller.VolumeKind, controller.StorageClassKind},
	}
}

// Plan takes the next step for every claim and every volume.
func Plan(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
	_, known := s.Others[controller.ClaimKind]
	claims, volumes := controller.Rest[*corev1.PersistentVolumeClaim](s, controller.ClaimKind), controller.Rest[*corev1.PersistentVolume](s, controller.VolumeKind)
	if !known {
		return nil, time.Time{} // where claims are unknown, none is gone
	}
	p := newPlanner(s, claims, volumes)
	for _, pod := range s.Pods {
		p.own(pod)
	}
	for _, c := range claims {
		p.claim(c)
	}
	for _, v := range volumes {
		p.volume(v)
	}
	return p.changes, time.Time{}
}

type planner struct {
	nodes   map[string]*corev1.Node
	claims  map[string]*corev1.PersistentVolumeClaim // by namespace and name
	volumes map[string]*corev1.PersistentVolume
	order   []*corev1.PersistentVolume // by size, the smallest first
	classes map[string]*storagev1.StorageClass
	used    map[string]bool // claims that a pod on a node uses
	touched map[string]bool // volumes that this plan writes: no second claim may choose them
	changes []controller.Change
}

func newPlanner(s *controller.Snapshot, claims []*corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) *planner {
	p := &planner{
		nodes: map[string]*corev1.Node{}, claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{},
		order: slices.Clone(volumes), classes: map[string]*storagev1.StorageClass{}, used: map[string]bool{}, touched: map[string]bool{},
	}
	for _, n := range s.Nodes {
		p.nodes[n.Name] = n
	}
	for _, c := range claims {
		p.claims[c.Namespace+"/"+c.Name] = c
	}
	for _, v := range volumes {
		p.volumes[v.Name] = v
	}
	for _, class := range controller.Rest[*storagev1.StorageClass](s, controller.StorageClassKind) {
		p.classes[class.Name] = class
	}
	slices.SortStableFunc(p.order, func(a, b *corev1.PersistentVolume) int {
		size := a.Spec.Capacity[corev1.ResourceStorage]
		return size.Cmp(b.Spec.Capacity[corev1.ResourceStorage])
	})
	for _, pod := range s.Pods {
		if pod.Spec.NodeName == "" {
			continue
		}
		for _, name := range controller.ClaimNames(pod) {
			p.used[pod.Namespace+"/"+name] = true
		}
	}
	return p
}

func (p *planner) write(verb controller.Verb, o controller.Object, events ...controller.Event) {
	if v, ok := o.(*corev1.PersistentVolume); ok {
		p.touched[v.Name] = true
	}
	p.changes = append(p.changes, controller.Change{Verb: verb, Object: o, Events: events})
}

func event(o controller.Object, kind, sort, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID()},
		Type:      sort, Reason: reason, Message: message, Component: api.ComponentController,
	}
}
