package edgeagent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/hwprobe"
	"skerry.dev/skerry/messaging"
)

const (
	statusEvery = 10 * time.Second
	statusSoon  = 200 * time.Millisecond
	keeperGrace = 5 * time.Second
)

// self makes and reports the node's own status.
type self struct {
	name     string
	version  string
	address  string
	config   Config
	images   Images
	report   Reporter
	log      *slog.Logger
	node     *node
	runs     func() int      // running pods
	answered <-chan struct{} // closed when the keeper has answered for the first time
	healthy  func() error
	pressed  <-chan struct{} // something became short, or is not any more
	limits   []eviction.Threshold

	inventories latest[api.Inventory]

	// --- owned by the heartbeat's goroutine:

	loads    *hwprobe.Meter
	loaded   hwprobe.Usage
	loadedAt time.Time

	// --- owned by run's goroutine:

	meter     *hwprobe.Meter
	inventory api.Inventory
	usage     hwprobe.Usage
	status    corev1.NodeStatus
	sent      []byte
}

// run reports the inventory and the status when they have changed, until ctx ends.
func (s *self) run(ctx context.Context) error {
	s.awaitKeeper(ctx)
	tick := time.NewTimer(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case inv := <-s.inventories:
			s.takeInventory(inv)
		case <-s.pressed:
		case <-tick.C:
		}
		if s.inventory.Kernel.Version != "" { // probed
			s.update(ctx, time.Now())
		}
		tick.Reset(s.pace())
	}
}

// awaitKeeper gives the keeper time to answer: that a new agent has not asked it yet is no reason to call a node not ready.
func (s *self) awaitKeeper(ctx context.Context) {
	grace := time.NewTimer(keeperGrace)
	defer grace.Stop()
	select {
	case <-s.answered:
	case <-grace.C:
	case <-ctx.Done():
	}
}

// pace is when to look again: soon while something that the node needs is not there yet, as at boot.
func (s *self) pace() time.Duration {
	if s.healthy() != nil {
		return statusSoon
	}
	return statusEvery
}

func (s *self) takeInventory(inv api.Inventory) {
	s.inventory = inv
	data, err := json.Marshal(inv)
	if err == nil {
		err = s.report.Inventory(data)
	}
	if err != nil {
		s.log.Error("inventory not reported", "err", err)
	}
}

func (s *self) update(ctx context.Context, now time.Time) {
	usage, err := s.meter.Read(ctx, now)
	if err != nil {
		s.log.Warn("usage not measured", "err", err)
	}
	s.usage = usage
	s.status = s.compute(now)
	s.node.now.Store(&facts{
		HostIPs: []string{s.address}, MemoryBytes: s.inventory.Memory.TotalBytes, Allocatable: s.status.Allocatable,
	})
	labels := s.labels()
	data, err := s.status.Marshal()
	if err != nil {
		s.log.Error("node status cannot be encoded", "err", err)
		return
	}
	key := append(slices.Clone(data), fmt.Sprint(slices.Sorted(maps.Keys(labels)), labels)...)
	if bytes.Equal(key, s.sent) {
		return
	}
	if err := s.report.NodeStatus(messaging.NodeReport{Labels: labels, Status: data}); err != nil {
		s.log.Error("node status not reported", "err", err)
		return
	}
	s.sent = key
}

// loadWindow is the least time that a heartbeat's CPU use is the mean of: beats that follow each other at once, as when a
// pod comes, would say nothing.
const loadWindow = 5 * time.Second

// load is the usage for a heartbeat, since an earlier one.
func (s *self) load(ctx context.Context) messaging.Load {
	u := s.loaded
	if now := time.Now(); now.Sub(s.loadedAt) >= loadWindow {
		var err error
		if u, err = s.loads.Read(ctx, now); err != nil {
			s.log.Warn("usage not measured", "err", err)
		}
		s.loaded, s.loadedAt = u, now
	}
	return messaging.Load{
		CPUMillis: u.CPUMillis, MemoryBytes: u.MemoryBytes, MemoryTotalBytes: u.MemoryTotalBytes,
		DiskBytes: u.DiskBytes, DiskTotalBytes: u.DiskTotalBytes, Pods: s.runs(),
	}
}

func (s *self) labels() map[string]string {
	out := hwprobe.Labels(s.inventory)
	out[corev1.LabelHostname] = s.name
	out[corev1.LabelOSStable] = "linux"
	out[corev1.LabelArchStable] = s.inventory.Kernel.Architecture
	return out
}

func (s *self) compute(now time.Time) corev1.NodeStatus {
	capacity := hwprobe.Capacity(s.inventory, s.usage.DiskTotalBytes, s.config.Pods.Max)
	if s.node.devices != nil {
		for class, n := range s.node.devices.Counts() {
			capacity[corev1.ResourceName(device.ResourcePrefix+class)] = *resource.NewQuantity(n, resource.DecimalSI)
		}
	}
	status := corev1.NodeStatus{
		Capacity: capacity, Allocatable: allocatable(capacity, s.config.Reserved, s.limits),
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: s.address}, {Type: corev1.NodeHostName, Address: s.name},
		},
		NodeInfo: s.info(),
	}
	users, yes := s.node.noUsers == nil, true
	status.RuntimeHandlers = []corev1.NodeRuntimeHandler{{Features: &corev1.NodeRuntimeHandlerFeatures{UserNamespaces: &users}}}
	status.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &yes}
	for _, c := range s.conditions() {
		status.Conditions = append(status.Conditions, s.dated(c, now))
	}
	images, err := s.images.List()
	if err != nil {
		s.log.Warn("images not listed", "err", err)
	}
	status.Images = images
	return status
}

// allocatable is the capacity without what is reserved and what the hard thresholds keep from pods, as in the kubelet.
func allocatable(capacity corev1.ResourceList, reserved ReservedConfig, limits []eviction.Threshold) corev1.ResourceList {
	out := capacity.DeepCopy()
	less := func(name corev1.ResourceName, by resource.Quantity) {
		q := out[name]
		q.Sub(by)
		if q.Sign() < 0 {
			q = *resource.NewQuantity(0, q.Format)
		}
		out[name] = q
	}
	kept := func(name corev1.ResourceName, signal eviction.Signal) resource.Quantity {
		all := capacity[name]
		return *resource.NewQuantity(eviction.Hard(limits, signal, all.Value()), resource.BinarySI)
	}
	less(corev1.ResourceCPU, resource.MustParse(reserved.CPU)) // Validate has parsed them
	less(corev1.ResourceMemory, resource.MustParse(reserved.Memory))
	less(corev1.ResourceMemory, kept(corev1.ResourceMemory, eviction.MemoryAvailable))
	less(corev1.ResourceEphemeralStorage, kept(corev1.ResourceEphemeralStorage, eviction.NodeAvailable))
	return out
}

func (s *self) info() corev1.NodeSystemInfo {
	inv := s.inventory
	return corev1.NodeSystemInfo{
		MachineID: inv.System.MachineID, SystemUUID: inv.System.Serial, BootID: inv.System.BootID,
		KernelVersion: inv.Kernel.Version, OSImage: inv.Kernel.OSImage, ContainerRuntimeVersion: "skerry://" + s.version,
		KubeletVersion: s.version, OperatingSystem: "linux", Architecture: inv.Kernel.Architecture,
	}
}

func (s *self) conditions() []corev1.NodeCondition {
	short := func(t corev1.NodeConditionType) bool {
		now := s.node.pressures.Load()
		return now != nil && slices.Contains(*now, t)
	}
	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "the agent is ready to run pods",
	}
	if err := s.healthy(); err != nil {
		ready.Status, ready.Reason, ready.Message = corev1.ConditionFalse, "KubeletNotReady", err.Error()
	}
	return []corev1.NodeCondition{
		pressureCondition(corev1.NodeMemoryPressure, short(corev1.NodeMemoryPressure), "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory", "memory available"),
		pressureCondition(corev1.NodeDiskPressure, short(corev1.NodeDiskPressure), "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk space"),
		pressureCondition(corev1.NodePIDPressure, short(corev1.NodePIDPressure), "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PIDs available"),
		ready,
	}
}

func pressureCondition(t corev1.NodeConditionType, on bool, bad, good, what string) corev1.NodeCondition {
	if on {
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: bad, Message: "the node is short of " + what}
	}
	return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: good, Message: "the node has enough " + what}
}

// dated keeps the time of a condition's last change. The heartbeat's time is the coordinator's to know.
func (s *self) dated(c corev1.NodeCondition, now time.Time) corev1.NodeCondition {
	c.LastTransitionTime = metav1.NewTime(now)
	for _, old := range s.status.Conditions {
		if old.Type == c.Type && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}
