// Package server is the keeper itself: the parent of every container of a node. It starts, watches, limits and removes containers with
// libcontainer, of which it is the only importer, and answers agents over the protocol of package keeper.
//
// It must not know pods, images, networks or NATS, and has no network code. It decides nothing but this: a container whose deadline
// passes is killed. Agents come and go; containers, their logs and their exit codes stay. The keeper itself may be killed at any time and
// finds everything again (adopt.go).
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/exitlog"
)

// Config says where a keeper lives. Two keepers must share none of it.
type Config struct {
	// StateDir holds the exit log, which must survive a power cut.
	StateDir string
	// RunDir holds what need not: records, pipes, deadlines, libcontainer's state. Best on tmpfs. Empty means StateDir/run.
	RunDir string
	// Socket is where agents connect; others may pass through its folder, but not see it. Empty means RunDir/keeper.sock.
	Socket string
	// CgroupParent is the group below which every container's group lies, such as "/skerry". The keeper removes everything in it at a new boot.
	CgroupParent string
	// SeccompDir holds the profiles that pods name as Localhost. Empty means StateDir/seccomp. It need not be there.
	SeccompDir string
	// Ready is called, if not nil, when agents can connect.
	Ready func() error
	// Release names this keeper's release for people.
	Release string
	// Replace asks for the program Image to take this one's place; nil when it may not.
	Replace <-chan os.Signal
	Image   string
	// Handover is what an earlier image of this process left, nil for none. It is used up.
	Handover *Handover
}

// Server is a keeper.
type Server struct {
	cfg     Config
	log     *slog.Logger
	tree    cgroupTree
	machine machine
	shelf   shelf
	exits   *exitlog.Log
	fence   *fence
	orphans *orphans
	filters *filters
	boot    string
	busy    chan struct{} // something was made; one word is enough
	lock    *os.File      // held while we live: one keeper per state folder
	socket  int           // a second descriptor of the socket, for the next image; zero when there will be none

	// life ends the watchers of containers, after the last request has been answered, and flow their pumps, after the last watcher has seen to
	// a container's end. Set by Run.
	life, flow context.Context //nolint:containedctx // of Run; they outlive the requests that start what they end

	watchers, pumps sync.WaitGroup

	mu         sync.Mutex
	containers map[string]*container
}

// New checks cfg, makes the folders and locks them. It starts nothing.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	if cfg.RunDir == "" {
		cfg.RunDir = filepath.Join(cfg.StateDir, "run")
	}
	if cfg.Socket == "" {
		cfg.Socket = filepath.Join(cfg.RunDir, "keeper.sock")
	}
	if cfg.SeccompDir == "" {
		cfg.SeccompDir = filepath.Join(cfg.StateDir, "seccomp")
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	tree, err := findCgroups()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: log, tree: tree, machine: tree.machine(), orphans: newOrphans(), busy: make(chan struct{}, 1), filters: newFilters(cfg.SeccompDir),
		shelf: shelf{dir: filepath.Join(cfg.RunDir, "containers")}, containers: make(map[string]*container),
	}
	if s.machine.capabilities, err = ownCapabilities(); err != nil {
		return nil, err
	}
	if s.machine.oomScoreAdj, err = ownOOMScoreAdj(); err != nil {
		return nil, err
	}
	if !slices.Contains(s.machine.capabilities, "CAP_SYS_RESOURCE") {
		log.Warn("containers cannot be protected from the kernel's OOM killer: the keeper lacks CAP_SYS_RESOURCE", "score", s.machine.oomScoreAdj)
	}
	adoptLibraryLog(log)
	if err := s.claim(); err != nil {
		return nil, err
	}
	s.fence, err = newFence(s.expire)
	return s, err
}

func (c Config) validate() error {
	for name, p := range map[string]string{"state folder": c.StateDir, "run folder": c.RunDir, "socket": c.Socket, "cgroup parent": c.CgroupParent, "seccomp folder": c.SeccompDir} {
		if !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
			return fmt.Errorf("keeper: %s %q is not a clean absolute path below /", name, p)
		}
	}
	if len(c.Socket) >= maxSocketPath {
		return fmt.Errorf("keeper: socket path %q has %d bytes, the kernel takes at most %d", c.Socket, len(c.Socket), maxSocketPath-1)
	}
	return nil
}

// maxSocketPath is the size of sun_path in sockaddr_un.
const maxSocketPath = 108

// claim makes the folders and takes the lock.
func (s *Server) claim() error {
	for _, dir := range []string{s.cfg.StateDir, s.cfg.RunDir, s.shelf.dir, s.libRoot(), filepath.Dir(s.cfg.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("keeper: %w", err)
		}
	}
	lock, err := s.heirLock(filepath.Join(s.cfg.StateDir, "lock"))
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("keeper: another one uses %s: %w", s.cfg.StateDir, err), lock.Close())
	}
	s.lock = lock
	return nil
}

func (s *Server) libRoot() string { return filepath.Join(s.cfg.RunDir, "libcontainer") }

// Run adopts what is there, then serves agents until ctx ends, or until another image is to take over: it gets what Run returns, which is nil
// otherwise. Containers keep running when it returns.
func (s *Server) Run(ctx context.Context) (*Handover, error) {
	defer func() { _ = s.lock.Close() }() // nothing is written to it
	defer s.fence.close()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	disk, err := exitlog.OpenDisk(s.cfg.StateDir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = disk.Close() }() // a folder handle
	var endLife, endFlow context.CancelFunc
	s.life, endLife = context.WithCancel(ctx)
	s.flow, endFlow = context.WithCancel(context.WithoutCancel(ctx))
	err = s.adopt(s.life, disk) //nolint:contextcheck // of ctx
	s.cfg.Handover.close()
	if err == nil {
		err = s.serve(s.life) //nolint:contextcheck // of ctx
	}
	endLife()
	s.watchers.Wait()
	var next *Handover
	if errors.Is(err, errReplace) {
		next, err = s.handOver(), nil
	}
	endFlow()
	s.pumps.Wait()
	if s.exits != nil {
		err = errors.Join(err, s.exits.Close())
	}
	return next, err
}

func (s *Server) serve(ctx context.Context) error {
	l, err := s.heir()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.fence.run(ctx) })
	g.Go(func() error { s.orphans.run(ctx); return nil })
	g.Go(func() error {
		err := l.run(ctx, s.talk)
		if errors.Is(err, errUnanswered) {
			s.log.Warn("keeper goes without having answered all", "after", farewell)
		}
		return err
	})
	if s.cfg.Replace != nil {
		s.socket = keep(l.file)
		g.Go(func() error { return s.awaitReplacement(ctx) })
	}
	g.Go(func() error { s.tidy(ctx); return nil })
	s.log.Info("keeper ready", "release", s.cfg.Release, "socket", s.cfg.Socket, "containers", len(s.all()), "cgroup", s.cfg.CgroupParent)
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			s.log.Warn("ready not announced", "error", err)
		}
	}
	return g.Wait()
}

// quiet is how long nothing must have been started before memory is given back: longer than the pauses within a rollout.
const quiet = 5 * time.Second

// tidy gives the memory that starts took back to the system once they are over. libcontainer makes a megabyte of garbage for each, which the
// runtime would keep for the next one, on most nodes hours away.
func (s *Server) tidy(ctx context.Context) {
	rest := time.NewTimer(quiet)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.busy:
			rest.Reset(quiet)
		case <-rest.C:
			debug.FreeOSMemory()
		}
	}
}

// made tells tidy that there is garbage.
func (s *Server) made() {
	select {
	case s.busy <- struct{}{}:
	default: // it has been told
	}
}

func within(group, outer string) bool { return group == outer || strings.HasPrefix(group, outer+"/") }

// add reserves an ID and its cgroup.
func (s *Server) add(c *container) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.containers[c.id]; ok {
		return fmt.Errorf("container %s: %w", c.id, keeper.ErrExists)
	}
	for _, other := range s.containers { // one's end would be the end of both
		if within(c.cgroup, other.cgroup) || within(other.cgroup, c.cgroup) {
			return fmt.Errorf("container %s: cgroup %s overlaps that of %s: %w", c.id, c.cgroup, other.id, keeper.ErrInvalid)
		}
	}
	s.containers[c.id] = c
	return nil
}

func (s *Server) drop(c *container) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.containers, c.id)
}

func (s *Server) find(id string) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.containers[id]; ok {
		return c, nil
	}
	return nil, fmt.Errorf("container %.*q: %w", keeper.MaxIDBytes, id, keeper.ErrNotFound)
}

// all returns the containers sorted by ID.
func (s *Server) all() []*container {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *container) int { return strings.Compare(a.id, b.id) })
	return out
}
