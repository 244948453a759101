package telemetry

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// The figures of the state, counted when somebody asks.
var (
	objectsDesc  = desc("apiserver_resource_objects", "Objects of a kind.", "group", "resource")
	revisionDesc = desc("skerry_store_revision", "The last change that the coordinator knows: the store's sequence number.")
	pendingDesc  = desc("scheduler_pending_pods", "Pods without a node: gated ones wait to be released, unschedulable ones for room.", "queue")
	podsDesc     = desc("skerry_pods", "Pods that have a node, by phase.", "phase")
	nodesDesc    = desc("skerry_nodes", "Nodes by state: ready, suspect (silent for more than one heartbeat), unreachable (for more than three), unheard (since this coordinator started).", "state")
	silenceDesc  = desc("skerry_node_silence_seconds", "How long ago a node was heard last.", "node")
)

// state reads the view and the heartbeats.
type state struct {
	Config
	nodes, pods *resource.Resource
}

func newState(c Config) *state {
	return &state{Config: c, nodes: resource.Lookup("", "v1", "nodes"), pods: resource.Lookup("", "v1", "pods")}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{objectsDesc, revisionDesc, pendingDesc, podsDesc, nodesDesc, silenceDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counted := map[schema.GroupResource]bool{} // a kind that is served in two versions is kept in one
	for _, r := range resource.All() {
		if n := s.View.Len(r); n > 0 && !counted[r.GroupResource()] {
			counted[r.GroupResource()] = true
			send(objectsDesc, float64(n), r.GVK.Group, r.Plural)
		}
	}
	send(revisionDesc, float64(s.View.Revision()))
	s.countPods(send)
	s.countNodes(send, time.Now())
}

func (s *state) countPods(send func(*prometheus.Desc, float64, ...string)) {
	items, _ := s.View.List(s.pods, "")
	pending := map[string]int{"unschedulable": 0, "gated": 0}
	phases := map[string]int{}
	for _, p := range objectsOf[*corev1.Pod](items) {
		switch {
		case p.Spec.NodeName != "":
			phases[string(p.Status.Phase)]++
		case len(p.Spec.SchedulingGates) > 0:
			pending["gated"]++
		default:
			pending["unschedulable"]++
		}
	}
	for queue, n := range pending {
		send(pendingDesc, float64(n), queue)
	}
	for phase, n := range phases {
		send(podsDesc, float64(n), phase)
	}
}

func (s *state) countNodes(send func(*prometheus.Desc, float64, ...string), now time.Time) {
	items, _ := s.View.List(s.nodes, "")
	heard := s.Liveness()
	states := map[string]int{"ready": 0, "suspect": 0, "unreachable": 0, "unheard": 0}
	for _, n := range objectsOf[*corev1.Node](items) {
		l, ok := heard[n.Name]
		if !ok {
			states["unheard"]++
			continue
		}
		silence := now.Sub(l.Heard)
		send(silenceDesc, silence.Seconds(), n.Name)
		states[stateOf(silence, s.Heartbeat)]++
	}
	for state, n := range states {
		send(nodesDesc, float64(n), state)
	}
}

func stateOf(silence, heartbeat time.Duration) string {
	switch {
	case silence > 3*heartbeat:
		return "unreachable"
	case silence > heartbeat+heartbeat/2: // a beat that is a little late is none that is missing
		return "suspect"
	}
	return "ready"
}

func objectsOf[T any](items []*view.Item) []T {
	out := make([]T, 0, len(items))
	for _, i := range items {
		if o, ok := i.Object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// The figures of the coordinator's connection to NATS.
var (
	messagesDesc   = desc("skerry_nats_messages_total", "Messages over the coordinator's connection.", "direction")
	bytesDesc      = desc("skerry_nats_bytes_total", "Bytes of their payloads.", "direction")
	reconnectsDesc = desc("skerry_nats_reconnects_total", "How often the connection was made anew.")
)

type link struct{ conn *nats.Conn }

func newLink(conn *nats.Conn) link { return link{conn} }

// Describe implements prometheus.Collector.
func (l link) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{messagesDesc, bytesDesc, reconnectsDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (l link) Collect(out chan<- prometheus.Metric) {
	s := l.conn.Stats()
	send := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	send(messagesDesc, s.InMsgs, "in")
	send(messagesDesc, s.OutMsgs, "out")
	send(bytesDesc, s.InBytes, "in")
	send(bytesDesc, s.OutBytes, "out")
	send(reconnectsDesc, s.Reconnects)
}
