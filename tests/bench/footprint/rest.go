package footprint

import (
	"context"
	"fmt"
	"time"

	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/bench/process"
	"skerry.dev/skerry/tests/bench/section"
)

// program is all processes of one program, which do the same work.
type program struct {
	name          string
	pids          []int
	before, after []reading
}

func programs(s up.State) []*program {
	agents, keepers := &program{name: "agent"}, &program{name: "keeper"}
	for _, n := range s.Nodes {
		agents.pids, keepers.pids = append(agents.pids, n.AgentPID), append(keepers.pids, n.KeeperPID)
	}
	return []*program{{name: "coordinator", pids: []int{s.CoordinatorPID}}, agents, keepers}
}

func (p *program) read() ([]reading, error) {
	out := make([]reading, len(p.pids))
	for i, pid := range p.pids {
		var err error
		if out[i], err = read(pid); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return out, nil
}

// row is the program's median process over the time from before to after, which lie length apart.
func (p *program) row(length time.Duration) []any {
	var resident, written []int64
	var cpu []time.Duration
	for i := range p.pids {
		resident = append(resident, p.after[i].resident)
		written = append(written, p.after[i].written-p.before[i].written)
		cpu = append(cpu, p.after[i].cpu-p.before[i].cpu)
	}
	minute := time.Minute.Seconds() / length.Seconds()
	return []any{
		p.name, section.Bytes(section.Median(resident)), section.Duration(time.Duration(float64(section.Median(cpu)) * minute)),
		section.Bytes(int64(float64(section.Median(written)) * minute)),
	}
}

// atRest measures a cluster that has nothing to do.
func (b *bench) atRest(ctx context.Context) error {
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	state, err := b.cluster.State(ctx)
	if err != nil {
		return err
	}
	all := programs(state)
	wire, err := b.watchIdle(ctx, state, all)
	if err != nil {
		return err
	}
	t := section.NewTable("at rest", "RSS", "CPU per minute", "written to disk per minute")
	for _, p := range all {
		t.Row(p.row(b.idle)...)
	}
	hour := time.Hour.Seconds() / b.idle.Seconds()
	fmt.Fprintf(&b.out, "### At rest\n\nA fresh `skerry up --nodes 3`, from %s after it was ready to %s after it; medians of three nodes. A node and the\n"+
		"coordinator exchange %s per hour on the wire, all headers included, with the heartbeat of one second that `skerry up` sets (the default is ten).\n\n%s\n", b.idle, 2*b.idle, section.Bytes(int64(float64(wire)*hour)), t)
	return nil
}

// watchIdle reads everything before and after a while, and returns the bytes on the wire of the median node.
func (b *bench) watchIdle(ctx context.Context, state up.State, all []*program) (int64, error) {
	before, err := wires(state)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.before, err = p.read(); err != nil {
			return 0, err
		}
	}
	if err := pause(ctx, b.idle); err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.after, err = p.read(); err != nil {
			return 0, err
		}
	}
	after, err := wires(state)
	if err != nil {
		return 0, err
	}
	for i := range after {
		after[i] -= before[i]
	}
	return section.Median(after), nil
}

// wires are the bytes that each node's links have carried, both ways.
func wires(state up.State) ([]int64, error) {
	out := make([]int64, len(state.Nodes))
	for i, n := range state.Nodes {
		received, sent, err := process.NetworkBytes(n.InitPID)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", n.Name, err)
		}
		out[i] = received + sent
	}
	return out, nil
}
