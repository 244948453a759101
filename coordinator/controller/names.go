package controller

import (
	"encoding/binary"
	"hash/fnv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod names are their owner's name, cut to leave room, and five letters out of an alphabet that spells no words, as the
// API's own generated names are.
const (
	nameLimit = 63
	alphabet  = "bcdfghjklmnpqrstvwxz2456789"
	letters   = 5
)

// Names yields names for new pods of one owner. They follow from the owner, the revision of the state and their number,
// so that a plan that is made twice asks for the same pods.
type Names struct {
	seed  uint64
	taken map[string]bool
}

// NewNames makes names that no pod in taken has, decided at that revision of the state.
func NewNames(owner metav1.Object, revision uint64, taken []*corev1.Pod) *Names {
	h := fnv.New64a()
	h.Write([]byte(owner.GetUID()))
	h.Write(binary.LittleEndian.AppendUint64(nil, revision))
	n := &Names{seed: h.Sum64(), taken: make(map[string]bool, len(taken))}
	for _, pod := range taken {
		n.taken[pod.Name] = true
	}
	return n
}

// Next is a further name that starts with prefix.
func (n *Names) Next(prefix string) string {
	for {
		n.seed++
		name := prefix + spell(mix(n.seed))
		if !n.taken[name] {
			n.taken[name] = true
			return name
		}
	}
}

// NamePrefix is what names of an owner's pods start with: the owner's name, cut so that suffix and letters fit, and
// suffix.
func NamePrefix(owner, suffix string) string {
	if limit := nameLimit - letters - len(suffix); len(owner) > limit {
		owner = owner[:limit]
	}
	return owner + suffix
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
