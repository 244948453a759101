package scheduler

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"skerry.dev/skerry/api"
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
	reasonNoVolume    = "didn't find available persistent volumes to bind"
)

// storage knows the claims and volumes, and which claims of a single pod are in use.
type storage struct {
	claims  map[string]*corev1.PersistentVolumeClaim // by namespace and name
	volumes map[string]*corev1.PersistentVolume
	classes map[string]*storagev1.StorageClass
	inUse   map[string]bool
}

func newStorage(in *Input) *storage {
	s := &storage{
		claims: map[string]*corev1.PersistentVolumeClaim{}, volumes: map[string]*corev1.PersistentVolume{},
		classes: map[string]*storagev1.StorageClass{}, inUse: map[string]bool{},
	}
	for _, c := range in.Classes {
		s.classes[c.Name] = c
	}
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

// demand reads the pod's claims. Each must be bound, or be of a class that waits for the scheduler to choose a node.
func (s *storage) demand(pod *corev1.Pod) demand {
	var d demand
	for _, name := range controller.ClaimNames(pod) {
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
	case awaitsNode(claim, s.classes):
		return s.promise(claim)
	case claim.Spec.VolumeName == "", claim.Status.Phase != corev1.ClaimBound && claim.Annotations[api.AnnotationSelectedNode] == "":
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

// awaitsNode reports whether the claim gets its volume when the scheduler has chosen a node for a pod with it.
func awaitsNode(claim *corev1.PersistentVolumeClaim, classes map[string]*storagev1.StorageClass) bool {
	return claim.Spec.VolumeName == "" && controller.Delays(classes[controller.ClaimClass(claim)])
}

// promise finds the nodes where a claim can get its volume: the one that was chosen before, else those that have one that
// suits, else, where volumes can be made, those that the class allows.
func (s *storage) promise(claim *corev1.PersistentVolumeClaim) (refusal string, nodes *nodeaffinity.NodeSelector) {
	class := s.classes[controller.ClaimClass(claim)]
	var terms []corev1.NodeSelectorTerm
	switch selected := claim.Annotations[api.AnnotationSelectedNode]; {
	case selected != "":
		terms = controller.OnNode(selected).NodeSelectorTerms
	case class.Provisioner != noProvisioner && class.Provisioner != api.LocalProvisioner, controller.Provides(class, claim):
		terms = allowed(class)
		if len(terms) == 0 {
			return "", nil
		}
	default:
		for _, v := range s.volumes {
			if !controller.Free(v, claim) && !controller.RefersTo(v, claim) {
				continue
			}
			if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
				return "", nil
			}
			terms = append(terms, v.Spec.NodeAffinity.Required.NodeSelectorTerms...)
		}
	}
	if len(terms) == 0 {
		return reasonNoVolume, nil
	}
	nodes, err := nodeaffinity.NewNodeSelector(&corev1.NodeSelector{NodeSelectorTerms: terms})
	if err != nil {
		return fmt.Sprintf("persistentvolumeclaim %q: %v", claim.Name, err), nil
	}
	return "", nodes
}

// noProvisioner is the provisioner of classes whose volumes people make.
const noProvisioner = "kubernetes.io/no-provisioner"

// allowed is the class's topologies as nodes are selected; none for all nodes.
func allowed(class *storagev1.StorageClass) []corev1.NodeSelectorTerm {
	var terms []corev1.NodeSelectorTerm
	for _, t := range class.AllowedTopologies {
		var term corev1.NodeSelectorTerm
		for _, e := range t.MatchLabelExpressions {
			term.MatchExpressions = append(term.MatchExpressions, corev1.NodeSelectorRequirement{Key: e.Key, Operator: corev1.NodeSelectorOpIn, Values: e.Values})
		}
		terms = append(terms, term)
	}
	return terms
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

// claimKeys are the pod's claims by namespace and name.
func claimKeys(pod *corev1.Pod) []string {
	names := controller.ClaimNames(pod)
	for i := range names {
		names[i] = pod.Namespace + "/" + names[i]
	}
	return names
}
