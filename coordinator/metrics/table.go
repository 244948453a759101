// Package metrics knows what pods and nodes use now, for people and for the autoscaler. Nothing of it is stored.
//
// Nodes are asked, they do not tell: a Collector asks those whose pods somebody wants to know of, when the last answer is
// too old, and a Table keeps each node's last answer until it is stale. What a node as a whole uses comes with its
// heartbeat and costs nothing more. The package serves no HTTP and decides nothing.
package metrics

import (
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// Timing of answers.
const (
	// Fresh is how long an answer is good enough not to ask again; metrics-server's default resolution.
	Fresh = 15 * time.Second
	// Stale is when an answer says nothing any more.
	Stale = 90 * time.Second
)

// Table is each node's last answer. It is safe for concurrent use.
type Table struct {
	mu    sync.Mutex
	nodes map[string]*controller.Usage // replaced, never changed, once it was given out
	given bool
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{nodes: map[string]*controller.Usage{}} }

// Usage returns the answers that are not stale, by node name. The map is shared and never changed.
func (t *Table) Usage(now time.Time) map[string]*controller.Usage {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, u := range t.nodes {
		if now.Sub(u.At) > Stale {
			t.own()
			delete(t.nodes, name)
		}
	}
	t.given = true
	return t.nodes
}

// put takes an answer that came now.
func (t *Table) put(node string, r messaging.UsageReport, now time.Time) {
	u := &controller.Usage{At: now.Add(-r.Age), Window: r.Window, Pods: make(map[types.UID][]messaging.ContainerUsage, len(r.Pods))}
	for _, p := range r.Pods {
		u.Pods[types.UID(p.UID)] = p.Containers
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.own()
	t.nodes[node] = u
}

// own makes the map one that nobody else has.
func (t *Table) own() {
	if t.given {
		t.nodes, t.given = maps.Clone(t.nodes), false
	}
}
