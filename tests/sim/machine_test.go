package sim

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent"
	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/edgeagent/resolve"
	"skerry.dev/skerry/edgeagent/volume"
)

// machine is a node's hardware with a keeper that keeps its contract without processes: containers start at once and run
// until they are killed, crash, or the power goes. It outlives its agents.
type machine struct {
	mu         sync.Mutex
	containers map[string]*keeper.Container
	exits      []keeper.Exit
	more       chan struct{} // closed and replaced at each exit
	sandboxes  map[string]netip.Addr
	roots      map[string]bool
	prepared   map[string]resolve.Refs // what pods' volumes were last made of, by UID
	empty      string                  // the root file system of every container
	twins      []string                // containers that were started while another instance of theirs ran
}

func newMachine(empty string) *machine {
	return &machine{
		containers: map[string]*keeper.Container{}, more: make(chan struct{}), sandboxes: map[string]netip.Addr{},
		roots: map[string]bool{}, prepared: map[string]resolve.Refs{}, empty: empty,
	}
}

// Create implements edgeagent.Keeper.
func (m *machine) Create(_ context.Context, spec keeper.Spec) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.containers[spec.ID] != nil {
		return keeper.ErrExists
	}
	m.containers[spec.ID] = &keeper.Container{ID: spec.ID, Labels: spec.Labels, State: keeper.Created, CreatedAt: time.Now()}
	return nil
}

// Start implements edgeagent.Keeper.
func (m *machine) Start(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.containers[id]
	if c == nil {
		return keeper.ErrNotFound
	}
	for _, other := range m.containers {
		if other.State == keeper.Running && whose(other) == whose(c) {
			m.twins = append(m.twins, id)
		}
	}
	c.State, c.StartedAt = keeper.Running, time.Now()
	return nil
}

// whose names the container of which c is an instance.
func whose(c *keeper.Container) string {
	return c.Labels[containerspec.LabelUID] + "/" + c.Labels[containerspec.LabelContainer]
}

// Kill implements edgeagent.Keeper.
func (m *machine) Kill(_ context.Context, id string, sig syscall.Signal, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.containers[id]
	if c == nil {
		return keeper.ErrNotFound
	}
	if c.State == keeper.Running {
		m.end(c, keeper.Exit{Code: 128 + int(sig), Signal: int(sig), Cause: keeper.CauseExit})
	}
	return nil
}

func (m *machine) end(c *keeper.Container, e keeper.Exit) {
	e.Seq, e.ID, e.Labels, e.At = uint64(len(m.exits)+1), c.ID, c.Labels, time.Now()
	c.State, c.Exit = keeper.Exited, &e
	m.exits = append(m.exits, e)
	close(m.more)
	m.more = make(chan struct{})
}

// Delete implements edgeagent.Keeper.
func (m *machine) Delete(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.containers[id]; c != nil && c.State == keeper.Running {
		return keeper.ErrConflict
	}
	delete(m.containers, id)
	return nil
}

// List implements edgeagent.Keeper.
func (m *machine) List(context.Context) ([]keeper.Container, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []keeper.Container
	for _, c := range m.containers {
		out = append(out, *c)
	}
	return out, nil
}

// Stats implements edgeagent.Keeper: every container has used a tenth of a core since it started.
func (m *machine) Stats(context.Context, ...string) ([]keeper.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []keeper.Stats
	for _, c := range m.containers {
		if c.State == keeper.Running {
			out = append(out, keeper.Stats{ID: c.ID, CPUNanos: uint64(time.Since(c.StartedAt) / 10), MemoryBytes: 8 << 20})
		}
	}
	return out, nil
}

// Exits implements edgeagent.Keeper.
func (m *machine) Exits(ctx context.Context, from uint64, f func(keeper.Exit) error) error {
	for {
		m.mu.Lock()
		more, exits := m.more, slices.Clone(m.exits[min(int(from), len(m.exits)):])
		m.mu.Unlock()
		for _, e := range exits {
			from = e.Seq
			if err := f(e); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Deadline implements edgeagent.Keeper. No simulated pod has one.
func (m *machine) Deadline(context.Context, string, time.Duration) error { return errNoProcesses }

var errNoProcesses = errors.New("simulated containers have no processes")

// Exec implements edgeagent.Keeper.
func (m *machine) Exec(context.Context, string, keeper.ExecSpec) (keeper.ExecResult, error) {
	return keeper.ExecResult{}, errNoProcesses
}

// ExecStream implements edgeagent.Keeper.
func (m *machine) ExecStream(context.Context, string, keeper.ExecSpec, keeper.Streams) (edgeagent.Session, *os.File, error) {
	return nil, nil, errNoProcesses
}

// Attach implements edgeagent.Keeper.
func (m *machine) Attach(context.Context, string, keeper.Streams) (edgeagent.Session, error) {
	return nil, errNoProcesses
}

// Resize implements edgeagent.Keeper.
func (m *machine) Resize(context.Context, string, uint16, uint16) error { return errNoProcesses }

// parts are the machine as its agent's neighbours.
func (m *machine) parts() *edgeagent.Parts {
	inventory := api.Inventory{
		Kernel: api.Kernel{Version: "6.12", Architecture: "arm64"}, CPU: api.CPU{Threads: 4}, Memory: api.Memory{TotalBytes: 4 << 30},
	}
	return &edgeagent.Parts{
		Keeper: m, Sandboxes: (*sandboxes)(m), Images: (*images)(m), Volumes: (*volumes)(m),
		Watch: func(ctx context.Context, _ *slog.Logger, changed func(api.Inventory)) error {
			changed(inventory)
			<-ctx.Done()
			return ctx.Err()
		},
	}
}

// powerCut ends every container, as the keeper finds it after a boot, and takes what lives in memory only.
func (m *machine) powerCut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.containers {
		if c.State == keeper.Running {
			m.end(c, keeper.Exit{Code: 137, Cause: keeper.CauseReboot, Unknown: true})
		}
	}
	clear(m.sandboxes)
}

// crash ends one container of those that run, if any does, and returns its pod's UID.
func (m *machine) crash(choose func(n int) int) (uid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for id, c := range m.containers {
		if c.State == keeper.Running {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	c := m.containers[ids[choose(len(ids))]]
	m.end(c, keeper.Exit{Code: 1, Cause: keeper.CauseExit})
	return c.Labels[containerspec.LabelUID]
}

// running maps the UIDs of pods that run here to their instances.
func (m *machine) running() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]string{}
	for id, c := range m.containers {
		if c.State == keeper.Running {
			out[c.Labels[containerspec.LabelUID]] = id
		}
	}
	return out
}

func (m *machine) twinned() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.twins)
}

type sandboxes machine

// CreateSandbox implements edgeagent.Sandboxes.
func (s *sandboxes) CreateSandbox(_ context.Context, uid string, _ network.SandboxOptions) (network.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sandboxes[uid]; !ok {
		s.sandboxes[uid] = netip.AddrFrom4([4]byte{10, 42, 1, byte(len(s.sandboxes) + 2)})
	}
	return network.Sandbox{NetNS: "/ns/" + uid + "/net", IPCNS: "/ns/" + uid + "/ipc", UTSNS: "/ns/" + uid + "/uts", IP: s.sandboxes[uid]}, nil
}

// RemoveSandbox implements edgeagent.Sandboxes.
func (s *sandboxes) RemoveSandbox(_ context.Context, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, uid)
	return nil
}

// List implements edgeagent.Sandboxes.
func (s *sandboxes) List() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for uid := range s.sandboxes {
		out = append(out, uid)
	}
	return out, nil
}

type images machine

// Pull implements edgeagent.Images.
func (i *images) Pull(_ context.Context, ref string, _ corev1.PullPolicy, _ [][]byte) (containerspec.Image, error) {
	return containerspec.Image{ID: ref + "@sha256:1", Entrypoint: []string{"/app"}}, nil
}

// Mount implements edgeagent.Images.
func (i *images) Mount(_ context.Context, id, _ string, _ image.Users) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.roots[id] = true
	return i.empty, nil
}

// Unmount implements edgeagent.Images.
func (i *images) Unmount(_ context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.roots, id)
	return nil
}

// Mounted implements edgeagent.Images.
func (i *images) Mounted() ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for id := range i.roots {
		out = append(out, id)
	}
	return out, nil
}

// List implements edgeagent.Images.
func (i *images) List() ([]corev1.ContainerImage, error) { return nil, nil }

// volumes: simulated pods have none.
type volumes machine

// Prepare implements edgeagent.Volumes.
func (v *volumes) Prepare(refs resolve.Refs) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.prepared[string(refs.Pod.UID)] = refs
	return nil
}

// Attach implements edgeagent.Volumes.
func (v *volumes) Attach(*corev1.Pod, *corev1.Container, []string) ([]volume.Attachment, error) {
	return nil, nil
}

// Etc implements edgeagent.Volumes.
func (v *volumes) Etc(*corev1.Pod, []string) ([]volume.Attachment, error) { return nil, nil }

// Termination implements edgeagent.Volumes.
func (v *volumes) Termination(*corev1.Pod, *corev1.Container, int32) (volume.Attachment, error) {
	return volume.Attachment{Source: v.empty, Destination: "/dev/termination-log", Propagation: "private"}, nil
}

// LastWords implements edgeagent.Volumes.
func (v *volumes) LastWords(string, string, int32) (string, error) { return "", nil }

// Remove implements edgeagent.Volumes.
func (v *volumes) Remove(string) error { return nil }

// Pods implements edgeagent.Volumes.
func (v *volumes) Pods() ([]string, error) { return nil, nil }

// DeviceNode implements edgeagent.Volumes.
func (v *volumes) DeviceNode(string, string, string, int, int) (string, error) {
	return "", errNoProcesses
}

// Discard implements edgeagent.Volumes.
func (v *volumes) Discard(string) error { return nil }
