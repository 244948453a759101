// Package usage measures what the containers of this node use. The keeper reads the cgroups, whose files it keeps open;
// this package turns two of its readings into a rate, names whose they are, and writes pages for Prometheus.
//
// It judges nothing and sends nothing: the uplink answers the coordinator with its report, the agent's metrics page shows
// its last reading.
package usage

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/messaging"
)

// Timing of the readings. A rate is the mean between the last two of them.
const (
	// Every is how often the cgroups are read though nobody asks: it bounds the window of the next answer.
	Every = 15 * time.Second
	// Window is the least time between two readings: over less than that a rate says little.
	Window = 5 * time.Second
)

// Reader reads cgroups; it is the keeper.
type Reader interface {
	// Stats reads the running containers.
	Stats(ctx context.Context, ids ...string) ([]keeper.Stats, error)
	// List says whose they are.
	List(ctx context.Context) ([]keeper.Container, error)
}

// Container is one running container as it was last read.
type Container struct {
	UID, Namespace, Pod, Name string
	Stats                     keeper.Stats
}

// Meter measures. It is safe for concurrent use.
type Meter struct {
	reader Reader
	log    *slog.Logger

	mu     sync.Mutex // held while reading, so that two who ask share one reading
	before reading
	last   reading
	owners map[string]Container // of running containers, by id; Stats are empty
}

type reading struct {
	at    time.Time
	stats []keeper.Stats
}

// New returns a meter that has read nothing.
func New(r Reader, log *slog.Logger) *Meter { return &Meter{reader: r, log: log} }

// Run reads now and then until ctx ends, so that who asks gets a rate at once.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for well := true; ; {
		_, err := m.Containers(ctx, time.Now())
		if err != nil && well && ctx.Err() == nil {
			m.log.Warn("containers not measured", "err", err)
		}
		well = err == nil
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Containers returns the running containers as they were read at most Window ago, sorted by pod and name.
func (m *Meter) Containers(ctx context.Context, now time.Time) ([]Container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(ctx, now); err != nil {
		return nil, err
	}
	out := make([]Container, 0, len(m.last.stats))
	for _, s := range m.last.stats {
		c, ok := m.owners[s.ID]
		if ok && c.UID != "" {
			c.Stats = s
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Container) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UID, b.UID), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// Report says what each pod uses, over the time between the last two readings. A pod with a container that has only been
// read once is left out: half of a pod's use would be taken for all of it.
func (m *Meter) Report(ctx context.Context, now time.Time) (messaging.UsageReport, error) {
	containers, err := m.Containers(ctx, now)
	if err != nil {
		return messaging.UsageReport{}, err
	}
	m.mu.Lock()
	before, window, at := m.before.cpu(), m.last.at.Sub(m.before.at), m.last.at
	known := !m.before.at.IsZero()
	m.mu.Unlock()
	if !known || window <= 0 {
		return messaging.UsageReport{}, nil
	}
	return messaging.UsageReport{Age: now.Sub(at), Window: window, Pods: pods(containers, before, window)}, nil
}

func pods(containers []Container, before map[string]uint64, window time.Duration) []messaging.PodUsage {
	var out []messaging.PodUsage
	for len(containers) > 0 {
		uid := containers[0].UID
		n := slices.IndexFunc(containers, func(c Container) bool { return c.UID != uid })
		if n < 0 {
			n = len(containers)
		}
		if p, ok := pod(containers[:n], before, window); ok {
			out = append(out, p)
		}
		containers = containers[n:]
	}
	return out
}

func pod(containers []Container, before map[string]uint64, window time.Duration) (messaging.PodUsage, bool) {
	p := messaging.PodUsage{UID: containers[0].UID}
	for _, c := range containers {
		then, ok := before[c.Stats.ID]
		if !ok || c.Stats.CPUNanos < then {
			return p, false
		}
		p.Containers = append(p.Containers, messaging.ContainerUsage{
			Name: c.Name, CPUNanos: uint64(float64(c.Stats.CPUNanos-then) / window.Seconds()), MemoryBytes: c.Stats.MemoryBytes,
		})
	}
	return p, true
}

// cpu is the processor time of each container.
func (r reading) cpu() map[string]uint64 {
	out := make(map[string]uint64, len(r.stats))
	for _, s := range r.stats {
		out[s.ID] = s.CPUNanos
	}
	return out
}

// refresh reads again unless the last reading is younger than Window.
func (m *Meter) refresh(ctx context.Context, now time.Time) error {
	if !m.last.at.IsZero() && now.Sub(m.last.at) < Window {
		return nil
	}
	stats, err := m.reader.Stats(ctx)
	if err != nil {
		return fmt.Errorf("read cgroups: %w", err)
	}
	if err := m.name(ctx, stats); err != nil {
		return err
	}
	m.before, m.last = m.last, reading{now, stats}
	return nil
}

// name finds out whose the containers are. The list is asked for only when there is one that was not there before.
func (m *Meter) name(ctx context.Context, stats []keeper.Stats) error {
	known := func(s keeper.Stats) bool { _, ok := m.owners[s.ID]; return ok }
	if !slices.ContainsFunc(stats, func(s keeper.Stats) bool { return !known(s) }) {
		return nil
	}
	list, err := m.reader.List(ctx)
	if err != nil {
		return fmt.Errorf("name containers: %w", err)
	}
	m.owners = make(map[string]Container, len(list))
	for _, c := range list {
		m.owners[c.ID] = Container{
			UID: c.Labels[containerspec.LabelUID], Namespace: c.Labels[containerspec.LabelNamespace],
			Pod: c.Labels[containerspec.LabelPod], Name: c.Labels[containerspec.LabelContainer],
		}
	}
	return nil
}
