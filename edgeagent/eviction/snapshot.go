package eviction

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Amount is what is left of something, and how much there is in all.
type Amount struct{ Available, Capacity int64 }

// Snapshot is a node at one moment.
type Snapshot struct {
	// Signals that could be measured; a missing one meets no threshold.
	Signals map[Signal]Amount
	// Pods that have not ended.
	Pods []Pod
	// Reclaimed says that the node has just removed what it can do without, as the plan before asked.
	Reclaimed bool
}

// Pod is a pod with what it uses.
type Pod struct {
	*corev1.Pod
	// Ending says that it is being stopped: it frees what it has by itself.
	Ending     bool
	Containers map[string]Use
	// Volumes are the bytes in its emptyDirs on the disk, and what else it has there, by name.
	Volumes map[string]Disk
	// Measured says that the disk usage in Containers and Volumes is known.
	Measured bool
}

// Use is what one container uses.
type Use struct {
	MemoryBytes int64 // working set
	Pids        int64
	Rootfs      Disk // what it wrote to its own file system
	Logs        Disk
}

// Disk is room taken on the node's disk.
type Disk struct{ Bytes, Inodes int64 }

func (d Disk) plus(e Disk) Disk { return Disk{d.Bytes + e.Bytes, d.Inodes + e.Inodes} }

// State is what one decision leaves for the next. Its zero value is that of a node which was never under pressure.
type State struct {
	since   map[Threshold]time.Time                // thresholds that are met, since when
	met     []Threshold                            // those of them whose grace is over
	seen    map[corev1.NodeConditionType]time.Time // when a condition was last called for
	evicted map[string]time.Time                   // pods by UID, while they are waited for
}

// Config is what does not change between decisions.
type Config struct {
	Thresholds []Threshold
	// Transition is how long a condition stays when nothing calls for it any more.
	Transition time.Duration
	// MaxGrace bounds the time that a pod gets to stop by itself at a soft threshold.
	MaxGrace time.Duration
}

// Plan is what the node should do.
type Plan struct {
	// Conditions that the node has now, sorted.
	Conditions []corev1.NodeConditionType
	// Reclaim says to remove images and dead containers that nothing needs, measure again, and decide again with
	// Snapshot.Reclaimed. Resource is what is short; empty when nothing is.
	Reclaim  bool
	Resource corev1.ResourceName
	Evict    []Verdict
	// Wake is when to measure and decide again.
	Wake time.Time
}

// Verdict is a pod to be evicted.
type Verdict struct {
	UID     string
	Message string
	Grace   time.Duration
	// Pressure says that the node's need is the reason, not the pod's own limit.
	Pressure bool
}

// Measure says whether the disk usage of all pods must be known to decide, and which pods' must be known anyhow.
func Measure(c Config, signals map[Signal]Amount, pods []*corev1.Pod) (all bool, some map[string]bool) {
	for _, t := range c.Thresholds {
		if t.Signal.onDisk() && met(t, signals, true) {
			return true, nil
		}
	}
	some = map[string]bool{}
	for _, p := range pods {
		if limited(p) {
			some[string(p.UID)] = true
		}
	}
	return false, some
}

func (s Signal) onDisk() bool { return signals[s].condition == corev1.NodeDiskPressure }
