// Package footprint measures what a running cluster takes of its machines: memory, disk writes, CPU, bytes on the wire and
// the size of the programs, and how long single pods and containers take to come and come back.
package footprint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"skerry.dev/skerry/tests/bench/process"
	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/cluster"
)

// Section is the chapter about footprint.
type Section struct{}

// Name is "footprint".
func (Section) Name() string { return "footprint" }

// effort is how much is measured.
type effort struct {
	idle   time.Duration // before, and again while, an idle cluster is looked at
	rounds int           // of a pod's life
	pods   int           // on one node
}

func effortOf(quick bool) effort {
	if quick {
		return effort{idle: 10 * time.Second, rounds: 5, pods: 20}
	}
	return effort{idle: 40 * time.Second, rounds: 20, pods: 100}
}

// bench is one run.
type bench struct {
	effort
	cluster *cluster.Cluster
	out     strings.Builder
}

// Run starts a cluster of three nodes, measures, and stops it.
func (Section) Run(ctx context.Context, quick bool, _ *section.Goals) (markdown string, err error) {
	b := &bench{effort: effortOf(quick)}
	b.out.WriteString("## Footprint\n\n")
	if err := b.sizes(); err != nil {
		return "", err
	}
	if b.cluster, err = cluster.Start(ctx, cluster.Options{Nodes: 3}); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, b.cluster.Stop()) }()
	for _, step := range []func(context.Context) error{b.atRest, b.image, b.latencies, b.crowd} {
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	return b.out.String(), nil
}

// sizes lists the programs as `make build cross` leaves them.
func (b *bench) sizes() error {
	t := section.NewTable("program", "size")
	for _, name := range []string{
		"skerry", "skerry-coordinator", "skerry-keeper", "skerry-agent-amd64", "skerry-agent-arm64", "skerry-agent-arm",
	} {
		info, err := os.Stat(filepath.Join("bin", name))
		if err != nil {
			return fmt.Errorf("%w: run this as `make bench`, which builds it", err)
		}
		t.Row("`"+name+"`", section.Bytes(info.Size()))
	}
	fmt.Fprintf(&b.out, "### Programs\n\nStripped, as `make build cross` leaves them; the last one is for armv7.\n\n%s\n", t)
	return nil
}

// reading is what one process has used and uses.
type reading struct {
	resident, written int64
	cpu               time.Duration
}

func read(pid int) (reading, error) {
	var r reading
	var err error
	if r.resident, err = process.ResidentBytes(pid); err != nil {
		return r, err
	}
	if r.written, err = process.WrittenBytes(pid); err != nil {
		return r, err
	}
	r.cpu, err = process.CPU(pid)
	return r, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
