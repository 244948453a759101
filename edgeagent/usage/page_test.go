package usage

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// figures reads a page as Prometheus does: by metric and the values of its labels, in the order of the page.
func figures(t *testing.T, page []byte) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatalf("%v:\n%s", err, page)
	}
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			if f.GetType() == dto.MetricType_COUNTER {
				out[key] = m.GetCounter().GetValue()
			} else {
				out[key] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

func TestPages(t *testing.T) {
	m := New(&machine{cpu: map[string]uint64{"a/web#0": 1_500_000_000, "a/side#0": 500_000_000, "b/web#0": 5e9}}, slog.New(slog.DiscardHandler))
	for name, want := range map[string]map[string]float64{
		"metrics/resource": {
			"container_cpu_usage_seconds_total web default pod-a":   1.5,
			"container_cpu_usage_seconds_total web default pod-b":   5,
			"container_memory_working_set_bytes side default pod-a": 7 << 20,
			"pod_cpu_usage_seconds_total default pod-a":             2,
			"pod_memory_working_set_bytes default pod-a":            14 << 20,
			"pod_memory_working_set_bytes default pod-b":            7 << 20,
			"node_cpu_usage_seconds_total":                          12.25,
			"node_memory_working_set_bytes":                         1 << 30,
			"resource_scrape_error":                                 0,
		},
		"metrics/cadvisor": {
			"container_cpu_usage_seconds_total web default pod-a total a/web#0": 1.5,
			"container_memory_rss web default pod-b b/web#0":                    5 << 20,
			"container_oom_events_total web default pod-b b/web#0":              0,
			"container_processes web default pod-b b/web#0":                     0,
		},
		"metrics": {"kubelet_running_containers running": 3, "kubelet_running_pods": 2},
	} {
		page, err := m.Page(t.Context(), name, time.Unix(1000, 0), Machine{CPUSeconds: 12.25, MemoryBytes: 1 << 30})
		if err != nil {
			t.Fatal(err)
		}
		got := figures(t, page)
		for key, value := range want {
			if have, ok := got[key]; !ok || have != value {
				t.Errorf("%s: %s is %g (%t), want %g; page:\n%s", name, key, have, ok, value, page)
			}
		}
	}
	if _, err := m.Page(t.Context(), "metrics/probes", time.Unix(1000, 0), Machine{}); err == nil {
		t.Error("a page that there is not was written")
	}
}
