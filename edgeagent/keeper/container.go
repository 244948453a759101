package keeper

import "time"

// State is where a container is in its life.
type State string

// States. A container leaves only by Delete.
const (
	Created State = "created" // its process waits for Start
	Running State = "running"
	Exited  State = "exited"
)

// Container is what a keeper knows about one container.
type Container struct {
	ID        string            `json:"id"`
	Labels    map[string]string `json:"labels,omitempty"`
	State     State             `json:"state"`
	PID       int               `json:"pid,omitempty"` // in the keeper's PID namespace; zero once exited
	CreatedAt time.Time         `json:"createdAt"`
	StartedAt time.Time         `json:"startedAt,omitzero"`
	Exit      *Exit             `json:"exit,omitempty"` // nil unless State is Exited
}

// Cause says why a container ended.
type Cause string

// Causes.
const (
	CauseExit     Cause = "exit"     // it ended by itself or by a signal it was sent
	CauseOOM      Cause = "oom"      // the kernel killed it, or a process in it, for its memory limit
	CauseDeadline Cause = "deadline" // the keeper killed it because its deadline was not renewed
	CauseReboot   Cause = "reboot"   // the node restarted under it
	CauseUnknown  Cause = "unknown"  // it ended while no keeper ran
)

// Exit is one ended container. Exits are numbered per node and written to disk before anyone hears of them.
type Exit struct {
	// Seq grows by one per exit and is never used twice in one state folder.
	Seq    uint64            `json:"seq"`
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels,omitempty"`
	PID    int               `json:"pid"`
	// Code is the exit code; 128 + Signal when a signal ended the process; 137 when Unknown.
	Code   int   `json:"code"`
	Signal int   `json:"signal,omitempty"`
	Cause  Cause `json:"cause"`
	// OOMKilled is true when the kernel killed a process of the container for its memory limit and the container did not end with code 0.
	OOMKilled bool `json:"oomKilled,omitempty"`
	// Unknown is true when nobody saw the exit code: the node restarted, or the container ended while the keeper was down.
	Unknown bool `json:"unknown,omitempty"`
	// At is when the keeper saw the end; the wall clock of the node.
	At time.Time `json:"at"`
}

// Stats is one reading of a container's cgroup.
type Stats struct {
	ID string `json:"id"`
	// CPUNanos is the processor time used since the container was created.
	CPUNanos uint64 `json:"cpuNanos"`
	// MemoryBytes is the working set: usage minus inactive page cache, as the kubelet counts it.
	MemoryBytes uint64 `json:"memoryBytes"`
	// RSSBytes is memory that no file backs.
	RSSBytes uint64 `json:"rssBytes"`
	Pids     uint64 `json:"pids"`
	OOMKills uint64 `json:"oomKills"`
}
