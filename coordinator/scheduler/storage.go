package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"skerry.dev/skerry/coordinator/controller"
)

// Reasons about volumes, as kube-scheduler words them.
const (
	reasonVolumeNode  = "node(s) didn't match PersistentVolume's node affinity"
	reasonClaimInUse  = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
	reasonUnbound     = "pod has unbound immediate PersistentVolumeClaims"
	reasonNoClaim     = "persistentvolumeclaim %q not found"
	reasonClaimLost   = "persistentvolumeclaim %q bound to non-existent persistentvolume %q"
	reasonClaimLeaves = "persistentvolumeclaim %q is being deleted"
)

// Kinds of volumes in a snapshot's Others.
var (
	claimKind  = schema.GroupKind{Kind: "PersistentVolumeClaim"}
	volumeKind = schema.GroupKind{Kind: "PersistentVolume"}
)

// storage knows the claims and volumes, and which claims of a single pod are in use.
type storage struct {
	claims  map[string]*corev1.PersistentVolumeClaim // by namespace and name
	volumes map[string]*corev1.PersistentVolume
	inUse   map[string]bool
}

func newStorage(in *Input) *storage {
	s := &storage{claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{}, inUse: map[string]bool{}}
	for _, c := range in.Claims {
		s.claims[c.Namespace+"/"+c.Name] = c
	}
	for _, v := range in.Volumes {
		s.volumes[v.Name] = v
	}
	return s
}

// demand is what a pod's claims ask of its node. The zero value is that of a pod without claims.
type demand struct {
	claims  []string // by namespace and name
	refusal string   // why the pod can run nowhere before something else happens; empty when it can
	nodes   []*nodeaffinity.NodeSelector
}

// demand reads the pod's claims. All must be bound: binding them is not the scheduler's.
func (s *storage) demand(pod *corev1.Pod) demand {
	var d demand
	for _, name := range claimNames(pod) {
		key := pod.Namespace + "/" + name
		d.claims = append(d.claims, key)
		refusal, selector := s.locate(name, s.claims[key])
		if refusal != "" {
			return demand{claims: d.claims, refusal: refusal}
		}
		if selector != nil {
			d.nodes = append(d.nodes, selector)
		}
	}
	return d
}

// locate finds the nodes of a claim's volume, nil for all nodes, or why it has none.
func (s *storage) locate(name string, claim *corev1.PersistentVolumeClaim) (refusal string, nodes *nodeaffinity.NodeSelector) {
	switch {
	case claim == nil:
		return fmt.Sprintf(reasonNoClaim, name), nil
	case claim.DeletionTimestamp != nil:
		return fmt.Sprintf(reasonClaimLeaves, name), nil
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Sprintf(reasonClaimLost, name, claim.Spec.VolumeName), nil
	case claim.Spec.VolumeName == "" || claim.Status.Phase != corev1.ClaimBound:
		return reasonUnbound, nil
	}
	volume := s.volumes[claim.Spec.VolumeName]
	if volume == nil {
		return fmt.Sprintf(reasonClaimLost, name, claim.Spec.VolumeName), nil
	}
	if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
		return "", nil
	}
	nodes, err := nodeaffinity.NewNodeSelector(volume.Spec.NodeAffinity.Required)
	if err != nil {
		return fmt.Sprintf("persistentvolume %q: %v", volume.Name, err), nil
	}
	return "", nodes
}

// use notes that a pod with the claims runs.
func (s *storage) use(claims []string) {
	for _, key := range claims {
		if c := s.claims[key]; c != nil && slices.Contains(c.Spec.AccessModes, corev1.ReadWriteOncePod) {
			s.inUse[key] = true
		}
	}
}

// taken reports whether another pod has a claim that only one may have.
func (s *storage) taken(claims []string) bool {
	return slices.ContainsFunc(claims, func(key string) bool { return s.inUse[key] })
}

// claimNames are the claims that the pod's volumes name, those of ephemeral volumes among them.
func claimNames(pod *corev1.Pod) []string {
	var names []string
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, pod.Name+"-"+v.Name)
		}
	}
	return names
}

// claimKeys are claimNames with the namespace.
func claimKeys(pod *corev1.Pod) []string {
	names := claimNames(pod)
	for i := range names {
		names[i] = pod.Namespace + "/" + names[i]
	}
	return names
}

// readStorage takes claims and volumes from a snapshot. Where these kinds are not served, no claim exists.
func (in *Input) readStorage(s *controller.Snapshot) {
	for _, o := range s.Others[claimKind] {
		if c, ok := o.(*corev1.PersistentVolumeClaim); ok {
			in.Claims = append(in.Claims, c)
		}
	}
	for _, o := range s.Others[volumeKind] {
		if v, ok := o.(*corev1.PersistentVolume); ok {
			in.Volumes = append(in.Volumes, v)
		}
	}
}
