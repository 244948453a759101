package rebalance

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/scheduler"
)

// NodeLoad is how much a node carries, as parts of its allocatable CPU and memory.
type NodeLoad struct {
	Name      string
	Requested float64 // mean of CPU and memory asked for by its pods
	Measured  float64 // mean of CPU and memory in use as its last heartbeat said; zero when Known is false
	Known     bool
	Load      float64 // what counts: the mean of both when all nodes that count are measured, else Requested alone
	Excluded  string  // why the node neither gives nor takes pods; empty when it does
}

// field is the fleet's loads, kept up to date while moves are tried in thought.
type field struct {
	loads  []*NodeLoad
	byName map[string]*NodeLoad
	n      float64 // nodes that count
	sum    float64
	square float64
}

func (p *planner) fleet() *scheduler.Fleet {
	in := scheduler.Input{Nodes: p.s.Nodes, Namespaces: p.s.Namespaces, Now: p.now}
	for _, pod := range p.s.Pods {
		if pod.Spec.NodeName != "" {
			in.Bound = append(in.Bound, pod)
		}
	}
	return scheduler.NewFleet(in)
}

func (p *planner) field(fleet *scheduler.Fleet) *field {
	f := &field{byName: map[string]*NodeLoad{}}
	measured := true
	for _, n := range p.s.Nodes {
		load := p.load(fleet, n)
		f.loads = append(f.loads, load)
		f.byName[n.Name] = load
		measured = measured && (load.Known || load.Excluded != "")
	}
	for _, load := range f.loads {
		load.Load = load.Requested
		if measured && load.Known {
			load.Load = (load.Requested + load.Measured) / 2
		}
		if load.Excluded == "" {
			f.n++
			f.add(load.Load)
		}
	}
	return f
}

func (p *planner) load(fleet *scheduler.Fleet, n *corev1.Node) *NodeLoad {
	cpu, memory := fleet.Requested(n.Name)
	load := &NodeLoad{Name: n.Name, Requested: (cpu + memory) / 2, Excluded: p.excluded(n)}
	load.Measured, load.Known = p.measured(n)
	return load
}

// measured is the node's use as its last heartbeat said, as a part of what pods may have. A node uses some for itself, so
// it can be above one.
func (p *planner) measured(n *corev1.Node) (float64, bool) {
	live, heard := p.s.Liveness[n.Name]
	cpu, memory := n.Status.Allocatable.Cpu().MilliValue(), n.Status.Allocatable.Memory().Value()
	if !heard || live.Load.MemoryTotalBytes == 0 || cpu == 0 || memory == 0 {
		return 0, false
	}
	return (float64(live.Load.CPUMillis)/float64(cpu) + float64(live.Load.MemoryBytes)/float64(memory)) / 2, true
}

// excluded is why a node takes no part.
func (p *planner) excluded(n *corev1.Node) string {
	since := readySince(n)
	switch {
	case !since.ok:
		return "it is not ready"
	case n.Spec.Unschedulable || n.DeletionTimestamp != nil:
		return "it is cordoned"
	case since.at.Add(p.Settle).After(p.now):
		p.wake = controller.Sooner(p.wake, since.at.Add(p.Settle))
		return "it has been ready since " + since.at.UTC().Format(time.TimeOnly) + " only"
	}
	return ""
}

type since struct {
	at time.Time
	ok bool
}

func readySince(n *corev1.Node) since {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return since{c.LastTransitionTime.Time, true}
		}
	}
	return since{}
}

func (f *field) add(load float64) { f.sum += load; f.square += load * load }

func (f *field) remove(load float64) { f.sum -= load; f.square -= load * load }

// Imbalance is the standard deviation of the nodes' loads: 0 when all carry the same, at most about 0.5.
func (f *field) imbalance() float64 {
	if f.n == 0 {
		return 0
	}
	mean := f.sum / f.n
	return math.Sqrt(max(0, f.square/f.n-mean*mean))
}

// after is the imbalance when a pod with these shares has moved. Of a node's measured use a pod is taken to make up what
// it asks for: nobody measures single pods here.
func (f *field) after(from, to *NodeLoad, fromShare, toShare float64) float64 {
	g := *f
	g.shift(from.Load, from.Load-fromShare)
	g.shift(to.Load, to.Load+toShare)
	return g.imbalance()
}

func (f *field) shift(was, is float64) {
	f.remove(was)
	f.add(is)
}

// move books a move.
func (f *field) move(from, to *NodeLoad, fromShare, toShare float64) {
	f.shift(from.Load, from.Load-fromShare)
	f.shift(to.Load, to.Load+toShare)
	from.Load -= fromShare
	to.Load += toShare
	from.Requested -= fromShare
	to.Requested += toShare
}
