package uplink

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/messaging"
)

// ErrRefused means that a message is not for this node to act on: wrong signature, other cluster, or older than what it
// holds.
var ErrRefused = errors.New("refused")

// Desired is a complete set of pods. The zero value is a node that was never told anything, which is not the same as one
// told to run nothing.
type Desired struct {
	Manifest   messaging.Assigned // as it was signed; Revision 0 for none
	Epoch      uint64
	Generation uint64
	Pods       map[string]Pod // by UID
	Discard    []string       // persistent volumes whose data are to be removed
}

// Pod is one pod of a complete set with what it refers to.
type Pod struct {
	Pod        *corev1.Pod
	Assignment messaging.Assignment // Pod is nil in it: it is decoded above
	Source     messaging.Assigned   // as it was signed
}

// Decode reads a complete set, such as a checkpoint holds. Pods that are not in pods are left out and named in the error,
// which then comes with the rest.
func Decode(manifest messaging.Assigned, pods map[string]messaging.Assigned) (Desired, error) {
	if manifest.Revision == 0 {
		return Desired{}, nil
	}
	m, err := parseManifest(manifest)
	if err != nil {
		return Desired{}, err
	}
	d := Desired{Manifest: manifest, Epoch: m.Epoch, Generation: m.Generation, Pods: map[string]Pod{}, Discard: m.Discard}
	var errs []error
	for _, ref := range m.Pods {
		source, ok := pods[ref.UID]
		if !ok {
			errs = append(errs, fmt.Errorf("pod %s of manifest %d is missing", ref.UID, manifest.Revision))
			continue
		}
		pod, err := decodePod(ref.UID, source)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.Pods[ref.UID] = pod
	}
	return d, errors.Join(errs...)
}

func parseManifest(a messaging.Assigned) (messaging.Manifest, error) {
	var m messaging.Manifest
	if err := json.Unmarshal(a.Data, &m); err != nil {
		return m, fmt.Errorf("manifest %d: %w", a.Revision, err)
	}
	return m, nil
}

func decodePod(uid string, a messaging.Assigned) (Pod, error) {
	p := Pod{Pod: &corev1.Pod{}, Source: a}
	if err := json.Unmarshal(a.Data, &p.Assignment); err != nil {
		return p, fmt.Errorf("pod %s at %d: %w", uid, a.Revision, err)
	}
	if err := p.Pod.Unmarshal(p.Assignment.Pod); err != nil {
		return p, fmt.Errorf("pod %s at %d: %w", uid, a.Revision, err)
	}
	if string(p.Pod.UID) != uid {
		return p, fmt.Errorf("pod %s at %d: holds pod %s", uid, a.Revision, p.Pod.UID)
	}
	p.Assignment.Pod = nil
	return p, nil
}

// judge says whether a manifest may replace the one held: nil when it is newer, errSame when it is the one held.
func judge(held Desired, a messaging.Assigned, trust Trust) (messaging.Manifest, error) {
	if err := checkSource(a, trust.Node, messaging.ManifestPart, trust.SigningKey); err != nil {
		return messaging.Manifest{}, err
	}
	m, err := parseManifest(a)
	if err != nil {
		return m, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if m.Cluster != trust.Cluster {
		return m, fmt.Errorf("%w: manifest %d is of cluster %q, this node belongs to %q", ErrRefused, a.Revision, m.Cluster, trust.Cluster)
	}
	if held.Manifest.Revision == 0 {
		return m, nil
	}
	switch order := cmp.Or(cmp.Compare(m.Epoch, held.Epoch), cmp.Compare(m.Generation, held.Generation)); {
	case order < 0:
		return m, fmt.Errorf("%w: manifest %d has epoch %d and generation %d, older than %d and %d held",
			ErrRefused, a.Revision, m.Epoch, m.Generation, held.Epoch, held.Generation)
	case order == 0:
		return m, errSame
	default:
		return m, nil
	}
}

var errSame = errors.New("the manifest held")

// checkSource says whether a was signed by key for that part of that node.
func checkSource(a messaging.Assigned, node, part, key string) error {
	if a.Node != node || a.Part != part {
		return fmt.Errorf("%w: message is part %q of node %q", ErrRefused, a.Part, a.Node)
	}
	if err := a.Verify(key); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// Trust is whom a node believes.
type Trust struct {
	Node       string
	Cluster    string
	SigningKey string
}
