// Package history keeps the versions of a workload's pod template as ControllerRevisions: it numbers them, finds the one
// that a template has already, and forgets the oldest. The plans of packages daemonset and statefulset decide what to do
// with them; `kubectl rollout history` and `undo` read them.
package history

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"skerry.dev/skerry/coordinator/controller"
)

// nameLimit leaves room for the hash in an object's name.
const nameLimit = 223

// Index finds revisions by owner and by name.
type Index struct {
	owned map[types.UID][]*appsv1.ControllerRevision
	named map[types.NamespacedName]*appsv1.ControllerRevision
}

// NewIndex indexes the revisions of a snapshot.
func NewIndex(revisions []*appsv1.ControllerRevision) *Index {
	i := &Index{owned: map[types.UID][]*appsv1.ControllerRevision{}, named: map[types.NamespacedName]*appsv1.ControllerRevision{}}
	for _, r := range revisions {
		i.named[types.NamespacedName{Namespace: r.Namespace, Name: r.Name}] = r
		if ref := metav1.GetControllerOfNoCopy(r); ref != nil {
			i.owned[ref.UID] = append(i.owned[ref.UID], r)
		}
	}
	return i
}

// Subject is a workload whose template has versions.
type Subject struct {
	Owner      metav1.Object
	Reference  metav1.OwnerReference
	Template   *corev1.PodTemplateSpec
	Collisions *int32 // in the owner's status; part of a revision's name
}

// History is the versions of one workload, oldest first.
type History struct {
	Revisions []*appsv1.ControllerRevision
	// Current is the version of the present template, nil until it is stored.
	Current *appsv1.ControllerRevision
	// Collision asks the owner to count one more collision in its status: the name is taken by another version.
	Collision bool
	Changes   []controller.Change
}

// Of is the subject's history. A template without a version gets one; the version of a template that came back becomes the
// newest.
func (i *Index) Of(s Subject) (History, error) {
	data, err := encode(s.Template)
	if err != nil {
		return History{}, err
	}
	h := History{Revisions: slices.Clone(i.owned[s.Owner.GetUID()])}
	slices.SortStableFunc(h.Revisions, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	h.Current = find(h.Revisions, data, s.Template)
	newest := int64(0)
	for _, r := range h.Revisions {
		if r != h.Current {
			newest = max(newest, r.Revision)
		}
	}
	switch {
	case h.Current == nil:
		i.store(&h, s, data, newest+1)
	case h.Current.Revision <= newest:
		again := h.Current.DeepCopy()
		again.Revision = newest + 1
		h.Changes = append(h.Changes, controller.Change{Verb: controller.Update, Object: again})
	}
	return h, nil
}

// find is the newest revision of the template. Its bytes decide; where none has them, what they mean does: a newer version
// of the API may write the same template differently, and that must not restart every pod.
func find(revisions []*appsv1.ControllerRevision, data []byte, template *corev1.PodTemplateSpec) *appsv1.ControllerRevision {
	for _, r := range slices.Backward(revisions) {
		if bytes.Equal(r.Data.Raw, data) {
			return r
		}
	}
	for _, r := range slices.Backward(revisions) {
		if t, err := Template(r); err == nil && equality.Semantic.DeepEqual(t, template) {
			return r
		}
	}
	return nil
}

// store makes a revision, or takes over one of that name that nobody owns.
func (i *Index) store(h *History, s Subject, data []byte, number int64) {
	hash := hashOf(data, s.Collisions)
	made := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: s.Owner.GetNamespace(), Name: name(s.Owner.GetName(), hash),
			Labels: maps.Clone(s.Template.Labels), Annotations: maps.Clone(s.Owner.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{s.Reference},
		},
		Data: runtime.RawExtension{Raw: data}, Revision: number,
	}
	if made.Labels == nil {
		made.Labels = map[string]string{}
	}
	made.Labels[appsv1.ControllerRevisionHashLabelKey] = hash
	have := i.named[types.NamespacedName{Namespace: made.Namespace, Name: made.Name}]
	switch {
	case have == nil:
		h.Changes = append(h.Changes, controller.Change{Verb: controller.Create, Object: made})
	case metav1.GetControllerOfNoCopy(have) == nil && bytes.Equal(have.Data.Raw, data):
		adopted := have.DeepCopy()
		adopted.OwnerReferences = append(adopted.OwnerReferences, s.Reference)
		h.Changes = append(h.Changes, controller.Change{Verb: controller.Update, Object: adopted})
	default:
		h.Collision = true
	}
}

func name(owner, hash string) string { return owner[:min(len(owner), nameLimit)] + "-" + hash }

func hashOf(data []byte, collisions *int32) string {
	h := fnv.New32()
	h.Write(data)
	if collisions != nil {
		h.Write([]byte(strconv.Itoa(int(*collisions))))
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// Hash is the revision's label that pods carry.
func Hash(r *appsv1.ControllerRevision) string {
	return r.Labels[appsv1.ControllerRevisionHashLabelKey]
}

// stored is what a revision's data holds: a strategic merge patch that puts the template back, as upstream's.
type stored struct {
	Spec struct {
		Template map[string]any `json:"template"`
	} `json:"spec"`
}

func encode(template *corev1.PodTemplateSpec) ([]byte, error) {
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	var s stored
	if err := json.Unmarshal(raw, &s.Spec.Template); err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	s.Spec.Template["$patch"] = "replace"
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	return data, nil
}

// Template is the pod template that the revision holds.
func Template(r *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var s struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(r.Data.Raw, &s); err != nil {
		return nil, fmt.Errorf("decode revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return &s.Spec.Template, nil
}

// Prune removes the oldest revisions beyond limit (nil means 10) that are neither current nor in use.
func (h *History) Prune(limit *int32, used func(*appsv1.ControllerRevision) bool) []controller.Change {
	keep := 10
	if limit != nil {
		keep = int(*limit)
	}
	var unused []*appsv1.ControllerRevision
	for _, r := range h.Revisions {
		if r != h.Current && !used(r) && r.DeletionTimestamp == nil {
			unused = append(unused, r)
		}
	}
	var changes []controller.Change
	for _, r := range unused[:max(0, len(unused)-keep)] {
		changes = append(changes, controller.Change{Verb: controller.Delete, Object: r})
	}
	return changes
}
