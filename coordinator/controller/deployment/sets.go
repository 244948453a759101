package deployment

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"

	"skerry.dev/skerry/coordinator/controller"
)

// index finds ReplicaSets by owner and by name.
type index struct {
	byOwner map[types.UID][]*appsv1.ReplicaSet
	loose   map[string][]*appsv1.ReplicaSet // without a controller, by namespace
	names   map[types.NamespacedName]bool
}

func newIndex(sets []*appsv1.ReplicaSet) *index {
	i := &index{byOwner: map[types.UID][]*appsv1.ReplicaSet{}, loose: map[string][]*appsv1.ReplicaSet{}, names: map[types.NamespacedName]bool{}}
	for _, rs := range sets {
		i.names[types.NamespacedName{Namespace: rs.Namespace, Name: rs.Name}] = true
		if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
			i.byOwner[ref.UID] = append(i.byOwner[ref.UID], rs)
		} else {
			i.loose[rs.Namespace] = append(i.loose[rs.Namespace], rs)
		}
	}
	return i
}

func (i *index) of(d *appsv1.Deployment) []*appsv1.ReplicaSet { return i.byOwner[d.UID] }

func (i *index) orphans(namespace string) []*appsv1.ReplicaSet { return i.loose[namespace] }

func (i *index) has(namespace, name string) bool {
	return i.names[types.NamespacedName{Namespace: namespace, Name: name}]
}

// sort tells the current set from the old ones: it is the oldest whose template is the deployment's.
func (r *rollout) sort(sets []*set) {
	slices.SortFunc(sets, older)
	for _, s := range sets {
		if r.current == nil && sameTemplate(&s.Spec.Template, &r.d.Spec.Template) {
			r.current = s
		} else {
			r.old = append(r.old, s)
		}
	}
}

func older(a, b *set) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// sameTemplate compares two templates but for the hash label.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	if !sameLabels(a.Labels, b.Labels) || !equality.Semantic.DeepEqual(a.Spec, b.Spec) {
		return false
	}
	x, y := a.ObjectMeta, b.ObjectMeta
	x.Labels, y.Labels = nil, nil
	return equality.Semantic.DeepEqual(x, y)
}

func sameLabels(a, b map[string]string) bool {
	return labelsIn(a, b) && labelsIn(b, a)
}

func labelsIn(a, b map[string]string) bool {
	for k, v := range a {
		if w, has := b[k]; k != appsv1.DefaultDeploymentUniqueLabelKey && (!has || v != w) {
			return false
		}
	}
	return true
}

func without(refs []metav1.OwnerReference, uid types.UID) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(refs), func(ref metav1.OwnerReference) bool { return ref.UID == uid })
}

// create asks for the ReplicaSet of the present template. When another object has its name, the hash collided: the
// count that goes into the hash is raised, and the next plan tries another name.
func (r *rollout) create() {
	if r.closing[r.d.Namespace] {
		return
	}
	rs := r.newSet()
	if r.sets.has(rs.Namespace, rs.Name) {
		count := deref(r.d.Status.CollisionCount, 0) + 1
		r.d.Status.CollisionCount = &count
		return
	}
	r.created = rs
}

func (r *rollout) newSet() *appsv1.ReplicaSet {
	hash := templateHash(&r.d.Spec.Template, r.d.Status.CollisionCount)
	template := *r.d.Spec.Template.DeepCopy()
	template.Labels = with(template.Labels, hash)
	selector := r.d.Spec.Selector.DeepCopy()
	selector.MatchLabels = with(selector.MatchLabels, hash)
	zero := int32(0)
	s := &set{ReplicaSet: &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: r.d.Namespace, Name: setName(r.d.Name, hash), Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{controller.Reference(r.d, "apps/v1", "Deployment")},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &zero, MinReadySeconds: r.d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}}
	size := r.newReplicas(s)
	s.Spec.Replicas = &size
	r.copyAnnotations(s)
	raiseRevision(s, r.nextRevision())
	r.annotateReplicas(s)
	return s.ReplicaSet
}

func (r *rollout) creationEvents() []controller.Event {
	if size := deref(r.created.Spec.Replicas, 0); size > 0 {
		return []controller.Event{r.event(corev1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled up replica set %s from 0 to %d", r.created.Name, size))}
	}
	return nil
}

func with(labels map[string]string, hash string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	return labels
}

// setName is the deployment's name, cut to leave room, and the hash.
func setName(deployment, hash string) string {
	const limit = 253
	return deployment[:min(len(deployment), limit-1-len(hash))] + "-" + hash
}

// templateHash is upstream's ComputeHash.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%v", dump.ForHash(*template))
	if collisions != nil {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(uint32(*collisions))))
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}
