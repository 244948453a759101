// Package nodelifecycle tells from heartbeats which nodes can be reached, marks the others with conditions and taints,
// and deletes pods from them when their tolerations end. It never stops anything on a node: a deleted pod ends when its
// node hears of it, and its replacement is its owner's business.
//
// Detection takes the same time at any fleet size: a node is silent when Silence has passed since it was last heard, and
// the plan asks to be woken at exactly the next such moment.
package nodelifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

// Options set the times. Zero values become the defaults.
type Options struct {
	// Heartbeat is how often a node is to be heard. Default 5 s.
	Heartbeat time.Duration
	// Grace is how long a node may take to be heard for the first time by this coordinator, counted from the start of the
	// coordinator or the creation of the Node, whichever is later. Default 30 s, at least Silence.
	Grace time.Duration
	// Window and Hold are the mass-failure brake: when more than half of the nodes, and at least three, fall silent within
	// Window, the link is to blame rather than the nodes, and no pod is evicted from a silent node for Hold. Defaults
	// 2 min and 10 min.
	Window, Hold time.Duration
}

// missed is how many heartbeats in a row a node may miss.
const missed = 3

// leastNodes is how many nodes must fall silent before it can be a mass failure: in a cluster of three, two lost nodes
// are evicted as usual.
const leastNodes = 3

// Silence is how long a node that was heard may be silent.
func (o Options) Silence() time.Duration { return missed * o.Heartbeat }

func (o Options) withDefaults() Options {
	o.Heartbeat = positive(o.Heartbeat, 5*time.Second)
	o.Grace = max(positive(o.Grace, 30*time.Second), o.Silence())
	o.Window = positive(o.Window, 2*time.Minute)
	o.Hold = positive(o.Hold, 10*time.Minute)
	return o
}

func positive(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Controller returns the plan as the shell runs it.
func Controller(o Options) controller.Controller {
	o = o.withDefaults()
	return controller.Controller{Name: "nodelifecycle", Reads: controller.Nodes | controller.Pods, Plan: o.plan}
}

func (o Options) plan(s *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
	p := &planner{Options: o, s: s, now: now}
	for _, node := range s.Nodes {
		p.watch(node)
	}
	p.brake()
	for i, node := range s.Nodes {
		p.mark(node, p.fallen[i])
	}
	p.readiness()
	p.evict()
	return p.changes, p.wake
}

type planner struct {
	Options
	s       *controller.Snapshot
	now     time.Time
	fallen  []time.Time // of each node: when it fell silent, zero while it is heard
	changes []controller.Change
	wake    time.Time

	massFailure bool // now; nodes that are held already stay so when it is over
	lost        int  // how many nodes it took
}

// watch finds out whether the node is silent.
func (p *planner) watch(node *corev1.Node) {
	due := p.due(node)
	if due.After(p.now) {
		p.fallen = append(p.fallen, time.Time{})
		p.wake = controller.Sooner(p.wake, due)
		return
	}
	p.fallen = append(p.fallen, due)
}

// due is when the node counts as silent if nothing is heard of it until then.
func (p *planner) due(node *corev1.Node) time.Time {
	if live, heard := p.s.Liveness[node.Name]; heard {
		return live.Heard.Add(p.Silence())
	}
	first := p.s.Started
	if created := node.CreationTimestamp.Time; created.After(first) {
		first = created
	}
	return first.Add(p.Grace)
}

// mark brings a node's conditions in line with what is known, and then, in the next plan, its taints with its conditions:
// two writes to one object at once would only get into each other's way.
func (p *planner) mark(node *corev1.Node, fallen time.Time) {
	if change, needed := p.conditions(node, fallen); needed {
		p.changes = append(p.changes, change)
		return
	}
	if change, needed := p.taints(node); needed {
		p.changes = append(p.changes, change)
	}
}
