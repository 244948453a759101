package assign

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/messaging"
)

// sources are the objects an assignment is made from. The view's objects are immutable, so equal pointers mean equal
// content and need no hashing.
type sources struct {
	pod     *corev1.Pod
	sealKey string
	objects []any // *corev1.ConfigMap and *corev1.Secret in the order of references; nil for a missing one
	claims  map[string]messaging.Claim
	tokens  []need
}

func (s sources) equal(o sources) bool {
	return s.pod == o.pod && s.sealKey == o.sealKey && slices.Equal(s.tokens, o.tokens) && slices.Equal(s.objects, o.objects) && maps.Equal(s.claims, o.claims)
}

// writePod writes the pod's assignment if it differs from what the stream holds, and returns where it is.
func (p *Publisher) writePod(ctx context.Context, node string, h *held, pod *corev1.Pod) (messaging.PodRef, error) {
	src, configMaps, secrets := p.gather(pod)
	src.sealKey = p.sealKeys[node]
	old := h.pods[pod.UID]
	if old != nil && old.source.equal(src) {
		return messaging.PodRef{UID: string(pod.UID), Revision: old.revision}, nil
	}
	if old != nil && pod.DeletionTimestamp == nil && orphaned(src.tokens) {
		// Its account is gone, so there is no new token: a running pod is better off with what it has.
		return messaging.PodRef{UID: string(pod.UID), Revision: old.revision}, nil
	}
	a, err := p.compose(pod, configMaps, secrets, src)
	if err != nil {
		return messaging.PodRef{}, err
	}
	if old != nil && old.digest == a.Digest {
		old.source = src
		return messaging.PodRef{UID: string(pod.UID), Revision: old.revision}, nil
	}
	if err := p.mint(pod, src.tokens, secrets); err != nil {
		return messaging.PodRef{}, err
	}
	if err := p.seal(&a, secrets, src.sealKey); err != nil {
		return messaging.PodRef{}, fmt.Errorf("seal secrets of pod %s/%s to %s: %w", pod.Namespace, pod.Name, node, err)
	}
	revision, err := p.put(ctx, node, messaging.PodPart(string(pod.UID)), a)
	if err != nil {
		return messaging.PodRef{}, err
	}
	h.pods[pod.UID] = &heldPod{digest: a.Digest, revision: revision, source: src}
	return messaging.PodRef{UID: string(pod.UID), Revision: revision}, nil
}

// gather finds what the pod refers to. A missing object is left out: whether that is an error is the pod's "optional",
// which the node reads.
func (p *Publisher) gather(pod *corev1.Pod) (src sources, configMaps, secrets map[string]map[string][]byte) {
	src.pod = pod
	r := references(pod)
	configMaps, secrets = map[string]map[string][]byte{}, map[string]map[string][]byte{}
	for _, name := range r.configMaps {
		cm, ok := p.State.ConfigMap(pod.Namespace, name)
		src.objects = append(src.objects, cm)
		if ok {
			configMaps[name] = configMapData(cm)
		}
	}
	for _, name := range r.secrets {
		s, ok := p.State.Secret(pod.Namespace, name)
		src.objects = append(src.objects, s)
		if ok {
			secrets[name] = s.Data
		}
	}
	src.claims = p.claims(pod, r.claims)
	src.tokens = p.needs(pod, time.Now())
	return src, configMaps, secrets
}

func configMapData(cm *corev1.ConfigMap) map[string][]byte {
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	maps.Copy(data, cm.BinaryData)
	return data
}

// gates are the conditions that the pod's readiness waits for, as others have written them, without what changes nothing for the node.
func gates(pod *corev1.Pod) (out []corev1.PodCondition) {
	for _, g := range pod.Spec.ReadinessGates {
		for _, c := range pod.Status.Conditions {
			if c.Type == g.ConditionType {
				out = append(out, corev1.PodCondition{Type: c.Type, Status: c.Status})
			}
		}
	}
	return out
}

// compose makes the assignment without its secrets, and the digest that covers them too. Status (but for readiness gates), revision and managed
// fields are dropped: the node that writes the status needs no copy of it, and they would make every report a change.
func (p *Publisher) compose(pod *corev1.Pod, configMaps, secrets map[string]map[string][]byte, src sources) (messaging.Assignment, error) {
	bare := pod.DeepCopy()
	bare.Status = corev1.PodStatus{QOSClass: pod.Status.QOSClass, Conditions: gates(pod)}
	bare.ResourceVersion, bare.ManagedFields = "", nil
	delete(bare.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	encoded, err := bare.Marshal()
	if err != nil {
		return messaging.Assignment{}, fmt.Errorf("encode pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	a := messaging.Assignment{Pod: encoded, ConfigMaps: configMaps, Claims: src.claims}
	content, err := json.Marshal(struct {
		Assignment messaging.Assignment
		Secrets    map[string]map[string][]byte
		SealKey    string
		Tokens     []string `json:",omitempty"` // not what they are, which is another one each time they are made
	}{a, secrets, src.sealKey, describe(src.tokens)})
	if err != nil {
		return messaging.Assignment{}, fmt.Errorf("encode pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	mac := hmac.New(sha256.New, p.DigestKey)
	mac.Write(content)
	a.Digest = hex.EncodeToString(mac.Sum(nil)[:16])
	return a, nil
}

func (p *Publisher) seal(a *messaging.Assignment, secrets map[string]map[string][]byte, sealKey string) error {
	if len(secrets) == 0 {
		return nil
	}
	if sealKey == "" {
		return fmt.Errorf("the node has not registered its seal key")
	}
	var err error
	if a.SealedBy, err = p.Sealer.PublicKey(); err != nil {
		return err
	}
	a.Secrets = make(map[string]map[string][]byte, len(secrets))
	for name, data := range secrets {
		sealed := make(map[string][]byte, len(data))
		for key, value := range data {
			if sealed[key], err = p.Sealer.Seal(value, sealKey); err != nil {
				return fmt.Errorf("secret %s: %w", name, err)
			}
		}
		a.Secrets[name] = sealed
	}
	return nil
}

func sealKey(n *corev1.Node) string { return n.Annotations[api.AnnotationSealKey] }

// tableContent is the table without its numbering, to tell a changed one. The table is built from sorted slices.
func tableContent(t messaging.ServiceTable) string {
	t.Epoch, t.Generation = 0, 0
	data, err := json.Marshal(t)
	if err != nil { // strings and integers only
		panic(fmt.Sprintf("encode service table: %v", err))
	}
	return string(data)
}
