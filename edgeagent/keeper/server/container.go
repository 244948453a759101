package server

import (
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/crilog"
)

// container is one container in memory. What is needed rarely (its spec, libcontainer's state) stays on disk.
type container struct {
	id        string
	labels    map[string]string
	instance  string
	cgroup    string
	ownPID    bool // it has a PID namespace of its own: the kernel ends all of it with its first process
	stdinOnce bool // its standard input ends with the first attachment to it

	op sync.Mutex // held by create, start and delete: one at a time per container

	// set before the container can be found, or while op is held and the state is still empty
	log   *crilog.File
	pumps sync.WaitGroup
	taps  taps
	ended chan struct{} // closed once the exit is recorded and nothing more is written for this container

	recording sync.Mutex // held while the record on disk is altered

	mu        sync.Mutex
	state     keeper.State // empty while it is being made and after it was deleted
	proc      *process     // nil once exited
	lib       *libcontainer.Container
	createdAt time.Time
	startedAt time.Time
	exit      *keeper.Exit
	fenced    bool // the keeper killed it for its deadline
	stdin     stdin
	sources   []source // as given to the pumps
	gauges    *gauges
}

func newContainer(spec *keeper.Spec, instance string) *container {
	return &container{
		id: spec.ID, labels: spec.Labels, instance: instance, cgroup: spec.CgroupPath,
		ownPID: spec.Namespaces.PID == "", ended: make(chan struct{}),
		stdinOnce: spec.StdinOnce && !spec.Terminal, stdin: stdin{open: spec.Stdin},
	}
}

func (c *container) current() keeper.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// view is what List shows; false while there is nothing to show.
func (c *container) view() (keeper.Container, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := keeper.Container{
		ID: c.id, Labels: c.labels, State: c.state, CreatedAt: c.createdAt, StartedAt: c.startedAt, Exit: c.exit,
	}
	if c.proc != nil {
		v.PID = c.proc.pid
	}
	return v, c.state != ""
}

// live calls f with the process, which stays open meanwhile; nothing happens to an exited container.
func (c *container) live(f func(*process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil
	}
	return f(c.proc)
}

// exited takes the container's end into memory and frees what only a living one needs.
func (c *container) exited(e keeper.Exit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state, c.exit, c.lib = keeper.Exited, &e, nil
	if c.proc != nil {
		c.proc.close()
		c.proc = nil
	}
	if c.stdin.held != nil {
		_ = c.stdin.held.Close() // nothing was written through it
	}
	c.stdin, c.sources = stdin{}, nil
	if c.gauges != nil {
		c.gauges.close()
		c.gauges = nil
	}
}
