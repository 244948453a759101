package edgeagent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/messaging"
)

// fakeKeeper keeps the keeper's contract without processes: a container runs until it is killed or a test ends it.
type fakeKeeper struct {
	mu         sync.Mutex
	containers map[string]*keeper.Container
	specs      map[string]keeper.Spec
	exits      []keeper.Exit
	more       chan struct{} // closed and replaced at each exit, and when the keeper goes away
	away       bool
	calls      []string
	stubborn   map[string]bool // containers, by name, that ignore SIGTERM
	startError map[string]error
	deadlines  map[string]time.Duration
	instant    map[string]bool // containers, by name, that end with code 0 as soon as they start
	hung       chan struct{}   // nil, or Create waits until it is closed
	exec       func(id string, args []string) keeper.ExecResult
}

func newFakeKeeper() *fakeKeeper {
	return &fakeKeeper{
		containers: map[string]*keeper.Container{}, specs: map[string]keeper.Spec{}, more: make(chan struct{}),
		stubborn: map[string]bool{}, startError: map[string]error{}, instant: map[string]bool{}, deadlines: map[string]time.Duration{},
		exec: func(string, []string) keeper.ExecResult { return keeper.ExecResult{} },
	}
}

func (k *fakeKeeper) begin(format string, args ...any) error {
	if k.away {
		return keeper.ErrUnavailable
	}
	if format != "" {
		k.calls = append(k.calls, fmt.Sprintf(format, args...))
	}
	return nil
}

func (k *fakeKeeper) Create(ctx context.Context, spec keeper.Spec) error {
	if k.hung != nil {
		select {
		case <-k.hung:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin("create %s", spec.ID); err != nil {
		return err
	}
	if k.containers[spec.ID] != nil {
		return keeper.ErrExists
	}
	k.containers[spec.ID] = &keeper.Container{ID: spec.ID, Labels: spec.Labels, State: keeper.Created, CreatedAt: time.Now()}
	k.specs[spec.ID] = spec
	return nil
}

func (k *fakeKeeper) Start(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin("start %s", id); err != nil {
		return err
	}
	c := k.containers[id]
	if c == nil {
		return keeper.ErrNotFound
	}
	if err := k.startError[c.Labels[containerspec.LabelContainer]]; err != nil {
		k.end(c, keeper.Exit{Code: 128})
		return err
	}
	c.State, c.StartedAt = keeper.Running, time.Now()
	if k.instant[c.Labels[containerspec.LabelContainer]] {
		k.end(c, keeper.Exit{})
	}
	return nil
}

func (k *fakeKeeper) Kill(_ context.Context, id string, sig syscall.Signal, _ bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin("kill %s %d", id, sig); err != nil {
		return err
	}
	c := k.containers[id]
	if c == nil {
		return keeper.ErrNotFound
	}
	if c.State == keeper.Running && (sig == syscall.SIGKILL || !k.stubborn[c.Labels[containerspec.LabelContainer]]) {
		k.end(c, keeper.Exit{Code: 128 + int(sig), Signal: int(sig)})
	}
	return nil
}

func (k *fakeKeeper) end(c *keeper.Container, e keeper.Exit) {
	e.Seq, e.ID, e.Labels, e.At = uint64(len(k.exits)+1), c.ID, c.Labels, time.Now()
	c.State, c.Exit = keeper.Exited, &e
	k.exits = append(k.exits, e)
	k.wake()
}

func (k *fakeKeeper) wake() {
	close(k.more)
	k.more = make(chan struct{})
}

func (k *fakeKeeper) Delete(_ context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin("delete %s", id); err != nil {
		return err
	}
	if c := k.containers[id]; c != nil && c.State == keeper.Running {
		return keeper.ErrConflict
	}
	delete(k.containers, id)
	return nil
}

func (k *fakeKeeper) List(context.Context) ([]keeper.Container, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(""); err != nil {
		return nil, err
	}
	var out []keeper.Container
	for _, c := range k.containers {
		out = append(out, *c)
	}
	return out, nil
}

func (k *fakeKeeper) Exec(_ context.Context, id string, spec keeper.ExecSpec) (keeper.ExecResult, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(""); err != nil {
		return keeper.ExecResult{}, err
	}
	return k.exec(id, spec.Args), nil
}

func (k *fakeKeeper) Exits(ctx context.Context, from uint64, f func(keeper.Exit) error) error {
	for {
		k.mu.Lock()
		away, more, exits := k.away, k.more, slices.Clone(k.exits[min(int(from), len(k.exits)):])
		k.mu.Unlock()
		if away {
			return keeper.ErrUnavailable
		}
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

func (k *fakeKeeper) Stats(context.Context, ...string) ([]keeper.Stats, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(""); err != nil {
		return nil, err
	}
	var all []keeper.Stats
	for id, c := range k.containers {
		if c.State == keeper.Running {
			all = append(all, keeper.Stats{ID: id, CPUNanos: 1, MemoryBytes: 1 << 20})
		}
	}
	return all, nil
}

func (k *fakeKeeper) Deadline(_ context.Context, id string, at time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin(""); err != nil {
		return err
	}
	k.deadlines[id] = at
	return nil
}

// ExecStream runs "echo": what comes in on standard input goes out in upper case; the exit code is 7.
func (k *fakeKeeper) ExecStream(_ context.Context, _ string, spec keeper.ExecSpec, s keeper.Streams) (Session, *os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.begin("exec %v", spec.Args); err != nil {
		return nil, nil, err
	}
	var stdin, stdout, stderr *os.File
	for from, to := range map[*os.File]**os.File{s.Stdin: &stdin, s.Stdout: &stdout, s.Stderr: &stderr} {
		if from == nil {
			continue
		}
		fd, err := syscall.Dup(int(from.Fd()))
		if err != nil {
			return nil, nil, err
		}
		*to = os.NewFile(uintptr(fd), from.Name())
	}
	p := &fakeSession{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if stdin != nil {
			data, _ := io.ReadAll(stdin)
			_ = stdin.Close()
			_, _ = stdout.Write(bytes.ToUpper(data))
		}
		if stderr != nil {
			_, _ = stderr.WriteString("bye")
			_ = stderr.Close()
		}
		if stdout != nil {
			_ = stdout.Close()
		}
	}()
	return p, nil, nil
}

// Attach is ExecStream here.
func (k *fakeKeeper) Attach(ctx context.Context, id string, s keeper.Streams) (Session, error) {
	session, _, err := k.ExecStream(ctx, id, keeper.ExecSpec{Args: []string{"attached"}}, s)
	return session, err
}

func (k *fakeKeeper) Resize(_ context.Context, id string, width, height uint16) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.begin("resize %s %dx%d", id, width, height)
}

type fakeSession struct{ done chan struct{} }

func (s *fakeSession) Wait(ctx context.Context) (int, error) {
	select {
	case <-s.done:
		return 7, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *fakeSession) Close() error { return nil }

// test's side

// buried puts the exit of an instance into the log that the keeper does not have any more.
func (k *fakeKeeper) buried(id, uid, container string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(&keeper.Container{ID: id, Labels: labelsOf(uid, container)}, keeper.Exit{Code: 137, Cause: keeper.CauseReboot})
}

// stray is an instance that runs without the agent's knowledge.
func (k *fakeKeeper) stray(id, uid, container string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.containers[id] = &keeper.Container{ID: id, Labels: labelsOf(uid, container), State: keeper.Running}
}

func labelsOf(uid, container string) map[string]string {
	return map[string]string{containerspec.LabelUID: uid, containerspec.LabelContainer: container, containerspec.LabelAttempt: "0"}
}

func (k *fakeKeeper) setAway(away bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.away = away
	k.wake()
}

func (k *fakeKeeper) exit(id string, code int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.end(k.containers[id], keeper.Exit{Code: code})
}

// powerCut ends everything, as a keeper finds it after a boot.
func (k *fakeKeeper) powerCut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.containers {
		if c.State == keeper.Running {
			k.end(c, keeper.Exit{Code: 137, Cause: keeper.CauseReboot, Unknown: true})
		}
	}
}

func (k *fakeKeeper) running() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for id, c := range k.containers {
		if c.State == keeper.Running {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (k *fakeKeeper) all() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for id := range k.containers {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// heard returns the calls since the last time.
func (k *fakeKeeper) heard() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := strings.Join(k.calls, "; ")
	k.calls = nil
	return out
}

func (k *fakeKeeper) spec(id string) keeper.Spec {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.specs[id]
}

type fakeSandboxes struct {
	mu   sync.Mutex
	uids map[string]netip.Addr
	last network.SandboxOptions // of the last one made
	fail error
}

func (s *fakeSandboxes) CreateSandbox(_ context.Context, uid string, o network.SandboxOptions) (network.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = o
	if s.fail != nil {
		return network.Sandbox{}, s.fail
	}
	if _, ok := s.uids[uid]; !ok {
		s.uids[uid] = netip.AddrFrom4([4]byte{10, 42, 1, byte(len(s.uids) + 2)})
	}
	return network.Sandbox{NetNS: "/ns/" + uid + "/net", IPCNS: "/ns/" + uid + "/ipc", UTSNS: "/ns/" + uid + "/uts", IP: s.uids[uid]}, nil
}

func (s *fakeSandboxes) RemoveSandbox(_ context.Context, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uids, uid)
	return nil
}

func (s *fakeSandboxes) List() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for uid := range s.uids {
		out = append(out, uid)
	}
	return out, nil
}

type fakeImages struct {
	mu      sync.Mutex
	rootfs  string
	mounted map[string]bool
	missing map[string]bool // references that no registry has
	pulls   int
}

func (i *fakeImages) Pull(_ context.Context, ref string, _ corev1.PullPolicy, _ [][]byte) (containerspec.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulls++
	if i.missing[ref] {
		return containerspec.Image{}, errors.New("no such image")
	}
	return containerspec.Image{ID: "reg/" + ref + "@sha256:1", Entrypoint: []string{"/app"}}, nil
}

func (i *fakeImages) Mount(_ context.Context, id, _ string, _ image.Users) (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mounted[id] = true
	return i.rootfs, nil
}

func (i *fakeImages) Unmount(_ context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.mounted, id)
	return nil
}

func (i *fakeImages) Mounted() ([]string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []string
	for id := range i.mounted {
		out = append(out, id)
	}
	return out, nil
}

func (i *fakeImages) List() ([]corev1.ContainerImage, error) { return nil, nil }

// fakeReports is a coordinator that only listens.
type fakeReports struct {
	volumes []string // that are gone
	mu      sync.Mutex
	pods    []messaging.PodReport
	events  []messaging.EventReport
}

func (r *fakeReports) Pod(p messaging.PodReport) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods = append(r.pods, p)
	return nil
}

func (r *fakeReports) Event(e messaging.EventReport) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func (r *fakeReports) NodeStatus(messaging.NodeReport) error { return nil }
func (r *fakeReports) Inventory([]byte) error                { return nil }

func (r *fakeReports) discarded() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.volumes)
}

func (r *fakeReports) Volume(v messaging.VolumeReport) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.volumes = append(r.volumes, v.Volume)
	return nil
}

// status is the last one reported of a pod, and whether it is gone.
func (r *fakeReports) status(uid string) (*corev1.PodStatus, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range slices.Backward(r.pods) {
		if p.UID == uid {
			s := &corev1.PodStatus{}
			if err := s.Unmarshal(p.Status); err != nil {
				panic(err)
			}
			return s, p.Gone
		}
	}
	return &corev1.PodStatus{}, false
}

func (r *fakeReports) reasons() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, e.Reason)
	}
	return strings.Join(out, " ")
}
