package server

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"

	"skerry.dev/skerry/edgeagent/keeper"
)

// defaultCPUPeriodMicros is the kernel's own.
const defaultCPUPeriodMicros = 100_000

// Paths hidden from, and read-only in, an ordinary container: those of containerd and Docker.
var (
	defaultMaskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	defaultReadonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// machine is what a config depends on beside its spec.
type machine struct {
	cgroup2    bool // controllers are on the unified hierarchy
	memorySwap bool // v1 counts swap
	// capabilities are the keeper's own: more than these cannot be given, so they are what privileged means.
	capabilities []string
	// oomScoreAdj is the keeper's own, below which it can put nobody unless it has CAP_SYS_RESOURCE.
	oomScoreAdj int
}

// oomScoreAdjOf is what spec asks for, or as near to it as the keeper may go: a container that the kernel kills sooner than it should is
// better than none. containerd calls this restrict_oom_score_adj.
func oomScoreAdjOf(spec *keeper.Spec, m machine) *int {
	asked := spec.OOMScoreAdj
	if asked == nil || *asked >= m.oomScoreAdj || slices.Contains(m.capabilities, "CAP_SYS_RESOURCE") {
		return asked
	}
	return &m.oomScoreAdj
}

// ownOOMScoreAdj reads this process's.
func ownOOMScoreAdj() (int, error) {
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0, fmt.Errorf("read own OOM score: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// configOf translates a valid spec for libcontainer.
func configOf(spec *keeper.Spec, m machine) (*configs.Config, error) {
	nodes, rules, err := devicesOf(spec)
	if err != nil {
		return nil, err
	}
	limits, err := rlimitsOf(spec)
	if err != nil {
		return nil, err
	}
	caps, err := capabilitiesOf(spec, m)
	if err != nil {
		return nil, err
	}
	c := &configs.Config{
		Rootfs: spec.Rootfs, Readonlyfs: spec.ReadonlyRootfs,
		Namespaces: namespacesOf(spec.Namespaces), Mounts: mountsOf(spec), Devices: nodes,
		Capabilities: caps, NoNewPrivileges: spec.NoNewPrivs,
		Sysctl: spec.Sysctls, Rlimits: limits, OomScoreAdj: oomScoreAdjOf(spec, m),
		Cgroups: &cgroups.Cgroup{Path: spec.CgroupPath, Resources: resourcesOf(spec.Resources, m)},
	}
	c.Cgroups.Devices = rules
	if ids := spec.IDs; ids.Count > 0 {
		c.UIDMappings = []configs.IDMap{{ContainerID: 0, HostID: int64(ids.First), Size: int64(ids.Count)}}
		c.GIDMappings = c.UIDMappings
	}
	if spec.Namespaces.UTS == "" {
		c.Hostname = spec.Hostname
	}
	if !spec.Privileged {
		c.MaskPaths = orDefault(spec.MaskedPaths, defaultMaskedPaths)
		c.ReadonlyPaths = orDefault(spec.ReadonlyPaths, defaultReadonlyPaths)
	}
	if spec.Namespaces.Net == "" { // a new one: its loopback is brought up, a joined one is the agent's
		c.Networks = []*configs.Network{{Type: "loopback"}}
	}
	return c, nil
}

func orDefault(own, other []string) []string {
	if own == nil {
		return other
	}
	return own
}

func namespacesOf(ns keeper.Namespaces) configs.Namespaces {
	out := configs.Namespaces{{Type: configs.NEWNS}, {Type: configs.NEWCGROUP}}
	for _, n := range []struct {
		kind configs.NamespaceType
		path string
	}{{configs.NEWNET, ns.Net}, {configs.NEWIPC, ns.IPC}, {configs.NEWUTS, ns.UTS}, {configs.NEWPID, ns.PID}} {
		if n.path != keeper.Host {
			out = append(out, configs.Namespace{Type: n.kind, Path: n.path})
		}
	}
	if ns.User != "" {
		out = append(out, configs.Namespace{Type: configs.NEWUSER, Path: ns.User})
	}
	return out
}

func capabilitiesOf(spec *keeper.Spec, m machine) (*configs.Capabilities, error) {
	set := spec.Capabilities
	switch {
	case spec.Privileged:
		set = m.capabilities
	case set == nil:
		set = keeper.DefaultCapabilities()
	}
	known := make(map[string]bool)
	for _, c := range capabilities.KnownCapabilities() {
		known[c] = true
	}
	for _, c := range set {
		if !known[c] {
			return nil, fmt.Errorf("capability %q is unknown: %w", c, keeper.ErrInvalid)
		}
	}
	return &configs.Capabilities{Bounding: set, Effective: set, Permitted: set}, nil
}

// ownCapabilities reads what this process may use. The library lists capabilities by their numbers, which are bits in the kernel's mask.
func ownCapabilities() ([]string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	_, after, _ := strings.Cut(string(status), "CapEff:\t")
	line, _, _ := strings.Cut(after, "\n")
	mask, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		return nil, fmt.Errorf("read own capabilities: %w", err)
	}
	var own []string
	for i, name := range capabilities.KnownCapabilities() {
		if mask&(1<<i) != 0 {
			own = append(own, name)
		}
	}
	return own, nil
}

func resourcesOf(r keeper.Resources, m machine) *cgroups.Resources {
	out := &cgroups.Resources{
		CpuShares: r.CPUShares, CpuQuota: r.CPUQuotaMicros, CpusetCpus: r.CPUSet,
		Memory: r.MemoryBytes, MemorySwap: r.MemorySwapBytes,
	}
	if out.CpuQuota != 0 {
		out.CpuPeriod = r.CPUPeriodMicros
		if out.CpuPeriod == 0 {
			out.CpuPeriod = defaultCPUPeriodMicros
		}
	}
	if out.Memory != 0 && out.MemorySwap == 0 {
		out.MemorySwap = out.Memory
	}
	if !m.memorySwap {
		out.MemorySwap = 0 // the kernel counts none, so it has no such limit to set
	}
	if m.cgroup2 {
		out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares)
		out.CpuShares = 0
	}
	if m.cgroup2 && out.Memory != 0 { // without a limit the controller need not be there
		// A container that is short of memory goes as a whole, as the kubelet has it: half of one is of no use.
		out.Unified = map[string]string{"memory.oom.group": "1"}
	}
	if r.PidsLimit != 0 {
		out.PidsLimit = &r.PidsLimit
	}
	return out
}

// envOf is the process's environment with what every shell expects.
func envOf(env []string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, "PATH=") {
			return env
		}
	}
	return append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
}

func idsOf(gids []uint32) []int {
	out := make([]int, len(gids))
	for i, g := range gids {
		out[i] = int(g)
	}
	return out
}
