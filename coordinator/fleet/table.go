package fleet

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// Table is when each node was last heard, on this process's monotonic clock. Detection costs the same for ten nodes and
// ten thousand: a beat is one map write, and nobody scans the table but the controllers' pass. Safe for concurrent use.
type Table struct {
	log *slog.Logger

	mu    sync.Mutex
	beats map[string]beat
}

type beat struct {
	liveness controller.Liveness
	seq      uint64
	manifest uint64
	services uint64
}

// NewTable returns an empty table.
func NewTable(log *slog.Logger) *Table {
	return &Table{log: log, beats: map[string]beat{}}
}

// Liveness returns a copy of what was heard, by node name.
func (t *Table) Liveness() map[string]controller.Liveness {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]controller.Liveness, len(t.beats))
	for name, b := range t.beats {
		out[name] = b.liveness
	}
	return out
}

// Applied returns the KV_assign sequences of the manifest and of the service table that the node said it holds. heard is
// false when this process has not heard the node since.
func (t *Table) Applied(node string, since time.Time) (manifest, services uint64, heard bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, heard := t.beats[node]
	return b.manifest, b.services, heard && !b.liveness.Heard.Before(since)
}

// Nodes returns the names of the nodes ever heard by this process.
func (t *Table) Nodes() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(t.beats))
	for name := range maps.Keys(t.beats) {
		names = append(names, name)
	}
	return names
}

// Hear records one beat. returned is true when the node was not heard for longer than silence before, or never: the
// controllers then want to look at once.
func (t *Table) Hear(node string, hb messaging.Heartbeat, now time.Time, silence time.Duration) (returned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.beats[node]
	t.beats[node] = beat{
		liveness: controller.Liveness{Heard: now, Boot: hb.Boot, Load: hb.Load},
		seq:      hb.Seq, manifest: hb.Manifest, services: hb.Services,
	}
	return !known || now.Sub(old.liveness.Heard) > silence || old.liveness.Boot != hb.Boot
}

// Forget drops a node that was removed from the fleet.
func (t *Table) Forget(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.beats, node)
}

// parseHeartbeat reads a heartbeat message. The node is the one its subject names: permissions let it publish on no other.
func parseHeartbeat(msg *nats.Msg) (string, messaging.Heartbeat, error) {
	var hb messaging.Heartbeat
	token := msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]
	node, err := messaging.ParseToken(token)
	if err != nil {
		return "", hb, err
	}
	if err := json.Unmarshal(msg.Data, &hb); err != nil {
		return "", hb, fmt.Errorf("heartbeat of %s: %w", node, err)
	}
	return node, hb, nil
}
