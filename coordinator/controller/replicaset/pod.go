package replicaset

import (
	"encoding/binary"
	"hash/fnv"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod names are the ReplicaSet's name, cut to leave room, and five letters out of an alphabet that spells no words, as
// the API's own generated names are.
const (
	nameLimit = 63
	alphabet  = "bcdfghjklmnpqrstvwxz2456789"
	letters   = 5
)

// NewPod makes the pod that rs asks for, under that name.
func NewPod(rs *appsv1.ReplicaSet, name string) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, Name: name, GenerateName: prefix(rs.Name),
			Labels: maps.Clone(template.Labels), Annotations: maps.Clone(template.Annotations), Finalizers: template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{reference(rs)},
		},
		Spec: template.Spec,
	}
}

func prefix(set string) string {
	if len(set) > nameLimit-letters-1 {
		set = set[:nameLimit-letters-1]
	}
	return set + "-"
}

// names yields names that no pod in taken has.
type names struct {
	prefix string
	seed   uint64
	taken  map[string]bool
}

// NewName is the name of a further pod of rs, decided at that revision of the state.
func NewName(rs *appsv1.ReplicaSet, revision uint64, taken []*corev1.Pod) string {
	return newNames(rs, revision, taken).next()
}

func newNames(rs *appsv1.ReplicaSet, revision uint64, taken []*corev1.Pod) *names {
	h := fnv.New64a()
	h.Write([]byte(rs.UID))
	h.Write(binary.LittleEndian.AppendUint64(nil, revision))
	n := &names{prefix: prefix(rs.Name), seed: h.Sum64(), taken: make(map[string]bool, len(taken))}
	for _, pod := range taken {
		n.taken[pod.Name] = true
	}
	return n
}

func (n *names) next() string {
	for {
		n.seed++
		name := n.prefix + spell(mix(n.seed))
		if !n.taken[name] {
			n.taken[name] = true
			return name
		}
	}
}

// mix is the finalizer of splitmix64: neighbouring seeds give unrelated values.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func spell(x uint64) string {
	var b [letters]byte
	for i := range b {
		b[i] = alphabet[x%uint64(len(alphabet))]
		x /= uint64(len(alphabet))
	}
	return string(b[:])
}
