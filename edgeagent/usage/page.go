package usage

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"time"
)

// Pages are the names of the pages that Page writes, as the kubelet has them.
var Pages = []string{"metrics", "metrics/cadvisor", "metrics/resource"}

// Machine is what the node as a whole has used.
type Machine struct {
	CPUSeconds  float64 // since it started, of all cores together
	MemoryBytes int64   // what it could not give out
}

// Page writes one of Pages in Prometheus' text format, with the kubelet's names. Figures have no timestamps: a node's clock
// may be wrong.
func (m *Meter) Page(ctx context.Context, name string, now time.Time, machine Machine) ([]byte, error) {
	containers, err := m.Containers(ctx, now)
	if err != nil {
		return nil, err
	}
	p := &page{}
	switch name {
	case "metrics":
		p.agent(containers)
	case "metrics/cadvisor":
		p.details(containers)
	case "metrics/resource":
		p.resources(containers, machine)
	default:
		return nil, fmt.Errorf("this node has no page %q", name)
	}
	return p.out, nil
}

// page is text in the making. It is written by hand: a library for it would take more room than the rest of the package.
type page struct{ out []byte }

// family begins a metric.
func (p *page) family(name, kind, help string) {
	p.out = fmt.Appendf(p.out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample adds a figure. Labels are name, value, name, value; values are names of objects, which need no escaping.
func (p *page) sample(name string, value float64, labels ...string) {
	p.out = append(p.out, name...)
	for i := 0; i < len(labels); i += 2 {
		p.out = append(p.out, "{,"[min(i, 1)])
		p.out = append(append(p.out, labels[i]...), '=')
		p.out = strconv.AppendQuote(p.out, labels[i+1])
	}
	if len(labels) > 0 {
		p.out = append(p.out, '}')
	}
	p.out = strconv.AppendFloat(append(p.out, ' '), value, 'g', -1, 64)
	p.out = append(p.out, '\n')
}

// each adds a figure for each container.
func (p *page) each(name, kind, help string, containers []Container, of func(Container) float64, more ...string) {
	p.family(name, kind, help)
	for _, c := range containers {
		labels := []string{"container", c.Name, "namespace", c.Namespace, "pod", c.Pod}
		for i := 0; i < len(more); i += 2 {
			value := more[i+1]
			if value == "" {
				value = c.Stats.ID
			}
			labels = append(labels, more[i], value)
		}
		p.sample(name, of(c), labels...)
	}
}

func seconds(c Container) float64 { return float64(c.Stats.CPUNanos) / 1e9 }
func memory(c Container) float64  { return float64(c.Stats.MemoryBytes) }

// resources is what metrics-server and autoscalers read.
func (p *page) resources(containers []Container, machine Machine) {
	p.each("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the container in core-seconds", containers, seconds)
	p.each("container_memory_working_set_bytes", "gauge", "Current working set of the container in bytes", containers, memory)
	p.family("node_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the node in core-seconds")
	p.sample("node_cpu_usage_seconds_total", machine.CPUSeconds)
	p.family("node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes")
	p.sample("node_memory_working_set_bytes", float64(machine.MemoryBytes))
	p.pods("pod_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed by the pod's running containers in core-seconds", containers, seconds)
	p.pods("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes", containers, memory)
	p.family("resource_scrape_error", "gauge", "1 if there was an error while getting container metrics, 0 otherwise")
	p.sample("resource_scrape_error", 0)
}

// pods adds the sum of each pod's containers, which stand together.
func (p *page) pods(name, kind, help string, containers []Container, of func(Container) float64) {
	p.family(name, kind, help)
	sum := 0.0
	for i, c := range containers {
		sum += of(c)
		if i+1 == len(containers) || containers[i+1].UID != c.UID {
			p.sample(name, sum, "namespace", c.Namespace, "pod", c.Pod)
			sum = 0
		}
	}
}

// details is what cAdvisor says of a container and the keeper reads.
func (p *page) details(containers []Container) {
	p.each("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds.", containers, seconds, "cpu", "total", "name", "")
	p.each("container_memory_working_set_bytes", "gauge", "Current working set in bytes.", containers, memory, "name", "")
	p.each("container_memory_rss", "gauge", "Size of RSS in bytes.", containers, func(c Container) float64 { return float64(c.Stats.RSSBytes) }, "name", "")
	p.each("container_processes", "gauge", "Number of processes running inside the container.", containers, func(c Container) float64 { return float64(c.Stats.Pids) }, "name", "")
	p.each("container_oom_events_total", "counter", "Count of out of memory events observed for the container", containers, func(c Container) float64 { return float64(c.Stats.OOMKills) }, "name", "")
}

// agent is what the agent says of itself.
func (p *page) agent(containers []Container) {
	pods := 0
	for i, c := range containers {
		if i == 0 || containers[i-1].UID != c.UID {
			pods++
		}
	}
	p.family("kubelet_running_containers", "gauge", "Number of containers currently running")
	p.sample("kubelet_running_containers", float64(len(containers)), "container_state", "running")
	p.family("kubelet_running_pods", "gauge", "Number of pods with a running container")
	p.sample("kubelet_running_pods", float64(pods))
	p.family("go_goroutines", "gauge", "Number of goroutines that currently exist.")
	p.sample("go_goroutines", float64(runtime.NumGoroutine()))
}
