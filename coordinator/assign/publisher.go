package assign

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/messaging"
)

// State is the view of the API's objects that assignments are made from.
type State interface {
	// Changed receives after the state changed; one receive may stand for many changes.
	Changed() <-chan struct{}
	Nodes() []*corev1.Node
	Pods() []*corev1.Pod
	ConfigMap(namespace, name string) (*corev1.ConfigMap, bool)
	Secret(namespace, name string) (*corev1.Secret, bool)
	Claim(namespace, name string) (*corev1.PersistentVolumeClaim, bool)
	Volume(name string) (*corev1.PersistentVolume, bool)
	Volumes() []*corev1.PersistentVolume
	Services() messaging.ServiceTable // Epoch and Generation are the publisher's to set
}

// Keys is stream KV_assign.
type Keys interface {
	Put(ctx context.Context, node, part string, data []byte, signature string) (revision uint64, err error)
	Delete(ctx context.Context, node, part string) error
	// List returns every part of a node, or of all nodes when node is empty.
	List(ctx context.Context, node string) ([]messaging.Assigned, error)
}

// Signer signs what nodes act on.
type Signer interface {
	Sign(subject string, data []byte) (string, error)
}

// Sealer seals a secret to a node's public curve key and names its own.
type Sealer interface {
	Seal(data []byte, recipient string) ([]byte, error)
	PublicKey() (string, error)
}

// Config is what a Publisher needs.
type Config struct {
	State   State
	Keys    Keys
	Signer  Signer
	Sealer  Sealer
	Cluster string
	Epoch   uint64
	// DigestKey keys the digests that tell an unchanged assignment from a changed one; it must survive restarts.
	DigestKey []byte
	// Applied says which manifest and service table a node's last heartbeat named; heard is false when there was none.
	Applied func(node string) (manifest, services uint64, heard bool)
	// Resync asks a node to read its keys again.
	Resync func(node string)
	// Tokens makes the tokens that pods' volumes ask for.
	Tokens Tokens
	Log    *slog.Logger
}

// parallelNodes bounds how many nodes are written to at once: the stream syncs together what is put at the same time.
const parallelNodes = 64

// lagCheck is how often heartbeats are compared with what was published. Publishing on core NATS is at most once: a node
// that missed a message is asked to read its keys again when two checks in a row find it behind.
const lagCheck = 5 * time.Second

// retryAfter is the pause after a pass that could not write everything.
const retryAfter = time.Second

// share bounds what comparing takes of one core: a pass that took long to see who gets what is not followed by the next
// one before share times as long.
const share = 20

// Publisher keeps KV_assign equal to the state. Its fields belong to Run's goroutine.
type Publisher struct {
	Config

	nodes    map[string]*held
	services heldTable
	sealKeys map[string]string
	behind   map[string]bool // by the last lag check
	compared time.Duration   // how long the last pass took to see who gets what
	stale    time.Time       // when the first token is to be made anew; zero for never
}

// held is what the stream holds for one node.
type held struct {
	epoch      uint64
	generation uint64
	revision   uint64 // of the manifest; zero when there is none
	pods       map[types.UID]*heldPod
	manifest   []messaging.PodRef
	discard    []string // volumes, as the manifest names them
}

type heldPod struct {
	digest   string
	revision uint64
	source   sources // what the digest was made of, to skip unchanged objects without hashing
}

type heldTable struct {
	content    string
	generation uint64
	revision   uint64
}

// New returns a publisher that has not read the stream yet.
func New(c Config) *Publisher {
	return &Publisher{Config: c, nodes: map[string]*held{}}
}

// Run reads back the stream and then follows the state until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return err
	}
	lag := time.NewTicker(lagCheck)
	defer lag.Stop()
	for {
		// A write that fails is tried again on a timer, so that a store that comes back needs no change to be noticed.
		var retry <-chan time.Time
		if err := p.pass(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			p.Log.Warn("assignments not written, will retry", "err", err, "after", retryAfter)
			retry = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After((share - 1) * p.compared):
		}
		for wake := false; !wake; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-lag.C:
				p.nudge()
			case <-p.State.Changed():
				wake = true
			case <-retry:
				wake = true
			case <-p.staleAfter():
				wake = true
			}
		}
	}
}

// nudge asks the nodes that stay behind to read their keys.
func (p *Publisher) nudge() {
	behind := map[string]bool{}
	for name, h := range p.nodes {
		manifest, services, heard := p.Applied(name)
		if !heard || (manifest == h.revision && services == p.services.revision) {
			continue
		}
		behind[name] = true
		if p.behind[name] {
			p.Log.Info("node is behind, asking it to resync", "node", name, "applied", manifest, "published", h.revision)
			p.Resync(name)
		}
	}
	p.behind = behind
}

func (p *Publisher) load(ctx context.Context) error {
	keys, err := p.Keys.List(ctx, "")
	if err != nil {
		return fmt.Errorf("read assignments: %w", err)
	}
	for _, key := range keys {
		if err := p.loadKey(key); err != nil {
			// What cannot be read is written anew; it is derived.
			p.Log.Warn("assignment unreadable, will be rewritten", "node", key.Node, "part", key.Part, "err", err)
		}
	}
	return nil
}

func (p *Publisher) loadKey(key messaging.Assigned) error {
	if key.Node == messaging.Broadcast {
		return p.loadTable(key.Data, key.Revision)
	}
	h := p.node(key.Node)
	if key.Part == messaging.ManifestPart {
		var m messaging.Manifest
		if err := json.Unmarshal(key.Data, &m); err != nil {
			return err
		}
		h.epoch, h.generation, h.revision, h.manifest, h.discard = m.Epoch, m.Generation, key.Revision, m.Pods, m.Discard
		return nil
	}
	uid, err := messaging.ParsePodPart(key.Part)
	if err != nil {
		return err
	}
	var a messaging.Assignment
	if err := json.Unmarshal(key.Data, &a); err != nil {
		return err
	}
	h.pods[types.UID(uid)] = &heldPod{digest: a.Digest, revision: key.Revision}
	return nil
}

func (p *Publisher) loadTable(data []byte, revision uint64) error {
	var t messaging.ServiceTable
	if err := json.Unmarshal(data, &t); err != nil {
		return err
	}
	p.services = heldTable{content: tableContent(t), generation: t.Generation, revision: revision}
	return nil
}

func (p *Publisher) node(name string) *held {
	h := p.nodes[name]
	if h == nil {
		h = &held{pods: map[types.UID]*heldPod{}}
		p.nodes[name] = h
	}
	return h
}

// pass writes every difference it can and returns the first error.
func (p *Publisher) pass(ctx context.Context) error {
	began := time.Now()
	desired, discard, table := p.desired(), p.condemned(), p.State.Services()
	p.compared = time.Since(began)
	var g errgroup.Group // one node's trouble cancels nobody else's writes
	g.SetLimit(parallelNodes)
	for name, pods := range desired {
		h := p.node(name)
		g.Go(func() error { return p.writeNode(ctx, name, h, pods, discard[name]) })
	}
	g.Go(func() error { return p.writeTable(ctx, table) })
	return g.Wait()
}

// desired returns each node's pods. A node that has left the API but still holds keys is listed with what is bound to
// it, by then nothing: its manifest becomes empty.
func (p *Publisher) desired() map[string][]*corev1.Pod {
	out := make(map[string][]*corev1.Pod, len(p.nodes))
	p.sealKeys, p.stale = map[string]string{}, time.Time{}
	now := time.Now()
	for name := range p.nodes {
		out[name] = nil
	}
	for _, n := range p.State.Nodes() {
		out[n.Name] = nil
		p.sealKeys[n.Name] = sealKey(n)
	}
	for _, pod := range p.State.Pods() {
		if pod.Spec.NodeName == "" {
			continue
		}
		if _, known := out[pod.Spec.NodeName]; known {
			p.note(pod, now)
			out[pod.Spec.NodeName] = append(out[pod.Spec.NodeName], pod)
		}
	}
	return out
}

// writeNode brings one node's keys up to date: pods first, then the manifest that lists them, then the keys that it
// no longer lists. Dying in between leaves the old manifest in force or the new one with a key too many.
func (p *Publisher) writeNode(ctx context.Context, node string, h *held, pods []*corev1.Pod, discard []string) error {
	want := make([]messaging.PodRef, 0, len(pods))
	for _, pod := range pods {
		ref, err := p.writePod(ctx, node, h, pod)
		if err != nil {
			return err
		}
		want = append(want, ref)
	}
	slices.SortFunc(want, func(a, b messaging.PodRef) int { return cmp.Compare(a.UID, b.UID) })
	if h.revision == 0 || !slices.Equal(want, h.manifest) || !slices.Equal(discard, h.discard) {
		if err := p.writeManifest(ctx, node, h, want, discard); err != nil {
			return err
		}
	}
	return p.sweep(ctx, node, h, want)
}

func (p *Publisher) writeManifest(ctx context.Context, node string, h *held, want []messaging.PodRef, discard []string) error {
	m := messaging.Manifest{Cluster: p.Cluster, Epoch: p.Epoch, Generation: h.generation + 1, Pods: want, Discard: discard}
	revision, err := p.put(ctx, node, messaging.ManifestPart, m)
	if err != nil {
		return err
	}
	h.epoch, h.generation, h.revision, h.manifest, h.discard = m.Epoch, m.Generation, revision, want, discard
	p.Log.Debug("manifest", "node", node, "generation", m.Generation, "pods", len(want), "revision", revision)
	return nil
}

func (p *Publisher) sweep(ctx context.Context, node string, h *held, want []messaging.PodRef) error {
	if len(h.pods) == len(want) {
		return nil
	}
	listed := make(map[types.UID]bool, len(want))
	for _, ref := range want {
		listed[types.UID(ref.UID)] = true
	}
	for uid := range h.pods {
		if listed[uid] {
			continue
		}
		if err := p.Keys.Delete(ctx, node, messaging.PodPart(string(uid))); err != nil {
			return fmt.Errorf("delete assignment of pod %s on %s: %w", uid, node, err)
		}
		delete(h.pods, uid)
	}
	return nil
}

func (p *Publisher) writeTable(ctx context.Context, t messaging.ServiceTable) error {
	content := tableContent(t)
	if p.services.revision != 0 && content == p.services.content {
		return nil
	}
	t.Epoch, t.Generation = p.Epoch, p.services.generation+1
	revision, err := p.put(ctx, messaging.Broadcast, messaging.ServicesPart, t)
	if err != nil {
		return err
	}
	p.services = heldTable{content: content, generation: t.Generation, revision: revision}
	return nil
}

func (p *Publisher) put(ctx context.Context, node, part string, v any) (uint64, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("encode %s of %s: %w", part, node, err)
	}
	signature, err := p.Signer.Sign(messaging.AssignKey(node, part), data)
	if err != nil {
		return 0, err
	}
	revision, err := p.Keys.Put(ctx, node, part, data, signature)
	if err != nil {
		return 0, fmt.Errorf("write %s of %s: %w", part, node, err)
	}
	return revision, nil
}
