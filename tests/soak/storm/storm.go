// Package storm is the soak: it breaks a real local cluster at random, and checks what must hold all the same.
package storm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/cluster"
)

// Options say how hard to blow.
type Options struct {
	Duration time.Duration // bounds the whole run
	Kills    int
	Seed     int64
	Nodes    int
	Out      io.Writer
}

// storm is one run.
type storm struct {
	Options
	cluster *cluster.Cluster
	dir     string
	began   time.Time

	mu      sync.Mutex
	counts  map[string]int
	killed  map[string]int  // kills of containers, by pod UID
	excused map[string]int  // power cuts and lost keepers, by node
	off     map[string]bool // nodes that are being handled: at most one trouble of each at a time
}

// settleTime is how long the cluster may take to come to rest once nobody kills any more. A container that was killed many
// times is restarted after up to five minutes, as Kubernetes has it, so in a long run containers are spared before the end.
const (
	settleTime = 4 * time.Minute
	spareTime  = 80 * time.Second
)

// killTime is the part of the run that kills; a short run has no container with the longest pause.
func (o Options) killTime() time.Duration { return max(o.Duration-settleTime, o.Duration/2) }

// Run starts a cluster of its own, breaks it, and returns what does not hold. The data folder is kept when something does
// not.
func Run(ctx context.Context, o Options) (err error) {
	s := &storm{Options: o, counts: map[string]int{}, killed: map[string]int{}, excused: map[string]int{}, off: map[string]bool{}, began: time.Now()}
	s.say("seed %d: up to %d kills in %s on %d nodes", o.Seed, o.Kills, o.killTime(), o.Nodes)
	if s.dir, err = os.MkdirTemp("", "skerry-soak-"); err != nil {
		return err
	}
	if s.cluster, err = cluster.Start(ctx, cluster.Options{Nodes: o.Nodes, DataDir: filepath.Join(s.dir, "up")}); err != nil {
		return err
	}
	err = s.blow(ctx)
	if err != nil {
		s.say("kept for reading: %s", s.dir)
		return errors.Join(err, s.cluster.Stop())
	}
	if err := s.cluster.Stop(); err != nil {
		return err
	}
	left, err := cluster.Leftovers(ctx, s.cluster.DataDir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left behind: %q", left)
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *storm) blow(ctx context.Context) error {
	client, err := newClient(s.cluster)
	if err != nil {
		return err
	}
	if err := s.post(ctx); err != nil {
		return fmt.Errorf("post the workload: %w", err)
	}
	w := newWriter(client, s.Seed)
	if err := s.while(ctx, w); err != nil {
		return err
	}
	s.say("quiet; %s", w.summary())
	settled := time.Now()
	if err := s.calm(ctx); err != nil {
		return err
	}
	if err := s.check(ctx, w); err != nil {
		return err
	}
	s.report(w, time.Since(settled))
	return nil
}

// while kills and writes until there were enough kills or the time is up.
func (s *storm) while(ctx context.Context, w *writer) error {
	blowing, stop := context.WithTimeout(ctx, s.killTime())
	defer stop()
	g, gctx := errgroup.WithContext(blowing)
	g.Go(func() error { return w.run(gctx) })
	g.Go(func() error { return w.deploy(gctx, s.dir) })
	g.Go(func() error { return s.progress(gctx, w) })
	g.Go(func() error { defer stop(); return s.kill(gctx) })
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// progress says now and then how far it is.
func (s *storm) progress(ctx context.Context, w *writer) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.mu.Lock()
			counts := fmt.Sprint(s.counts)
			s.mu.Unlock()
			s.say("%s kills %s; %s", time.Since(s.began).Round(time.Second), counts, w.summary())
		}
	}
}

// kill breaks something every now and then. Troubles that take long, such as a node without power, go on beside others.
func (s *storm) kill(ctx context.Context) error {
	random := rand.New(rand.NewSource(s.Seed))         //nolint:gosec // repeatable, not secret
	pause := s.killTime() / time.Duration(s.Kills) / 3 // some miss: their victim is away
	var troubles errgroup.Group
	for s.hits() < s.Kills && ctx.Err() == nil {
		kind, node := pick(random), s.cluster.State0.Nodes[random.Intn(s.Nodes)].Name
		if kind == "container" && s.killTime() > 2*spareTime && time.Since(s.began) > s.killTime()-spareTime {
			kind = "agent"
		}
		away := time.Duration(500+random.Intn(6000)) * time.Millisecond
		troubles.Go(func() error { return s.trouble(ctx, kind, node, away) })
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + time.Duration(random.Int63n(int64(pause)+1))):
		}
	}
	return troubles.Wait()
}

// pick chooses a trouble: most kills hit containers and agents, some the coordinator, few a keeper, a whole node or its link.
func pick(random *rand.Rand) string {
	switch n := random.Intn(100); {
	case n < 30:
		return "container"
	case n < 68:
		return "agent"
	case n < 75:
		return "keeper"
	case n < 86:
		return "coordinator"
	case n < 94:
		return "node"
	}
	return "link"
}

func (s *storm) trouble(ctx context.Context, kind, node string, away time.Duration) error {
	state, err := s.cluster.State(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	n, _ := state.Node(node)
	switch kind {
	case "container":
		s.hitContainer(s.anyContainer(n))
	case "agent":
		s.hit(kind, n.AgentPID)
	case "keeper":
		s.excuse(node)
		s.hit(kind, n.KeeperPID)
	case "coordinator":
		s.hit(kind, state.CoordinatorPID)
	case "node":
		return s.spell(ctx, node, up.VerbStop, up.VerbStart, away, kind)
	case "link":
		return s.spell(ctx, node, up.VerbCut, up.VerbHeal, away, kind)
	}
	return nil
}

// hit kills a process. One that has gone meanwhile counts as missed.
func (s *storm) hit(kind string, pid int) {
	if pid == 0 || unix.Kill(pid, unix.SIGKILL) != nil {
		kind = "missed"
	}
	s.count(kind)
}

// excuse notes that something happens to a node by which containers end.
func (s *storm) excuse(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.excused[node]++
}

// hitContainer kills a container's process and remembers whose it was.
func (s *storm) hitContainer(pid int) {
	if uid, err := podOf(pid); err == nil {
		s.mu.Lock()
		s.killed[uid]++
		s.mu.Unlock()
	}
	s.hit("container", pid)
}

// hits is how many kills hit.
func (s *storm) hits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for kind, times := range s.counts {
		if kind != "missed" {
			n += times
		}
	}
	return n
}

func (s *storm) count(kind string) {
	s.mu.Lock()
	s.counts[kind]++
	s.mu.Unlock()
}

// spell takes something from a node for a while. It always gives it back, also when the storm ends meanwhile.
func (s *storm) spell(ctx context.Context, node, take, give string, away time.Duration, kind string) error {
	s.mu.Lock()
	busy := s.off[node]
	s.off[node] = true
	s.mu.Unlock()
	if busy {
		s.count("missed")
		return nil
	}
	defer func() {
		s.mu.Lock()
		delete(s.off, node)
		s.mu.Unlock()
	}()
	if take == up.VerbStop {
		s.excuse(node)
	}
	calm := context.WithoutCancel(ctx)
	if err := s.cluster.Node(calm, node, take); err != nil {
		return fmt.Errorf("%s %s: %w", take, node, err)
	}
	s.count(kind)
	select {
	case <-ctx.Done():
	case <-time.After(away):
	}
	if err := s.cluster.Node(calm, node, give); err != nil {
		return fmt.Errorf("%s %s: %w", give, node, err)
	}
	return nil
}

// anyContainer is a process of the workload, on that node if it has one, as the host sees it; 0 when there is none.
func (s *storm) anyContainer(n up.NodeState) int {
	ours, err := cluster.ProcessesWithEnv("SOAK=" + s.dir)
	if err != nil || len(ours) == 0 {
		return 0
	}
	pids := s.on(n.Name, ours)
	if len(pids) == 0 {
		pids = ours // nothing there: any other will do
	}
	return pids[int(time.Now().UnixNano())%len(pids)]
}

func (s *storm) say(format string, args ...any) { fmt.Fprintf(s.Out, format+"\n", args...) }
