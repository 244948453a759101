package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/messaging"
)

// machine plays the keeper.
type machine struct {
	cpu          map[string]uint64 // by "uid/container#instance"
	fail         error
	reads, lists int
}

func (m *machine) Stats(context.Context, ...string) ([]keeper.Stats, error) {
	m.reads++
	var out []keeper.Stats
	for id, cpu := range m.cpu {
		out = append(out, keeper.Stats{ID: id, CPUNanos: cpu, MemoryBytes: 7 << 20, RSSBytes: 5 << 20})
	}
	return out, m.fail
}

func (m *machine) List(context.Context) ([]keeper.Container, error) {
	m.lists++
	var out []keeper.Container
	for id := range m.cpu {
		uid, rest, _ := strings.Cut(id, "/")
		name, _, _ := strings.Cut(rest, "#")
		out = append(out, keeper.Container{ID: id, Labels: map[string]string{
			containerspec.LabelUID: uid, containerspec.LabelNamespace: "default", containerspec.LabelPod: "pod-" + uid, containerspec.LabelContainer: name,
		}})
	}
	return out, m.fail
}

func text(r messaging.UsageReport) string {
	out := fmt.Sprintf("%s ago over %s:", r.Age, r.Window)
	for _, p := range r.Pods {
		out += " " + p.UID
		for _, c := range p.Containers {
			out += fmt.Sprintf(" %s=%dm", c.Name, c.CPUNanos/1e6)
		}
	}
	return out
}

func TestReport(t *testing.T) {
	keeper, start := &machine{cpu: map[string]uint64{"a/web#0": 1e9, "a/side#0": 0, "b/web#0": 5e9}}, time.Unix(1000, 0)
	m := New(keeper, slog.New(slog.DiscardHandler))
	for _, step := range []struct {
		what  string
		at    time.Duration
		cpu   map[string]uint64
		fail  error
		want  string
		reads int
	}{
		{"one reading is no rate", 0, nil, nil, "0s ago over 0s:", 1},
		{"too soon for another", 4 * time.Second, nil, nil, "0s ago over 0s:", 1},
		{
			"two are", 10 * time.Second,
			map[string]uint64{"a/web#0": 6e9, "a/side#0": 1e9, "b/web#0": 5e9},
			nil,
			"0s ago over 10s: a side=100m web=500m b web=0m", 2,
		},
		{
			"the same answer with its age", 13 * time.Second,
			map[string]uint64{"a/web#0": 9e9},
			nil,
			"3s ago over 10s: a side=100m web=500m b web=0m", 2,
		},
		{"no keeper, no answer", 20 * time.Second, nil, errors.New("away"), "", 3},
		{
			"a restarted container leaves its pod out, a pod that ended is gone", 30 * time.Second,
			map[string]uint64{"a/web#1": 1e9, "a/side#0": 2e9},
			nil,
			"0s ago over 20s:", 4,
		},
		{
			"and has a rate of its own then", 40 * time.Second,
			map[string]uint64{"a/web#1": 2e9, "a/side#0": 2e9},
			nil,
			"0s ago over 10s: a side=0m web=100m", 5,
		},
	} {
		if step.cpu != nil {
			keeper.cpu = step.cpu
		}
		keeper.fail = step.fail
		r, err := m.Report(t.Context(), start.Add(step.at))
		if !errors.Is(err, step.fail) {
			t.Errorf("%s: error %v", step.what, err)
		}
		if got := text(r); err == nil && got != step.want {
			t.Errorf("%s: got %q, want %q", step.what, got, step.want)
		}
		if keeper.reads != step.reads {
			t.Errorf("%s: %d readings, want %d", step.what, keeper.reads, step.reads)
		}
	}
	if keeper.lists != 2 {
		t.Errorf("containers were listed %d times, want once for each new one", keeper.lists)
	}
}

func TestContainersAreNamed(t *testing.T) {
	m := New(&machine{cpu: map[string]uint64{"b/web#3": 1, "a/web#0": 2}}, slog.New(slog.DiscardHandler))
	all, err := m.Containers(t.Context(), time.Unix(1, 0))
	if err != nil || len(all) != 2 || all[0].Pod != "pod-a" || all[1].UID != "b" || all[1].Name != "web" || all[1].Stats.RSSBytes != 5<<20 {
		t.Errorf("got %+v, %v", all, err)
	}
}
