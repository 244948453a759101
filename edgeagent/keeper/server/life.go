package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/exitlog"
)

// create makes a container whose process waits to be started. On error nothing is left.
func (s *Server) create(run context.Context, spec *keeper.Spec) error {
	if err := spec.Validate(); err != nil {
		return errors.Join(fmt.Errorf("create %.*q: %w", keeper.MaxIDBytes, spec.ID, err), keeper.ErrInvalid)
	}
	if err := underParent(spec.CgroupPath, s.cfg.CgroupParent); err != nil {
		return fmt.Errorf("create %s: %w", spec.ID, err)
	}
	defer s.made()
	c := newContainer(spec, newInstance())
	c.op.Lock()
	defer c.op.Unlock()
	if err := s.add(c); err != nil {
		return err
	}
	if err := s.make(c, spec); err != nil {
		s.abandon(run, c)
		return fmt.Errorf("create %s: %w", spec.ID, err)
	}
	s.log.Info("container", "id", c.id, "state", keeper.Created, "pid", c.proc.pid)
	return nil
}

func (s *Server) make(c *container, spec *keeper.Spec) error {
	config, err := configOf(spec, s.machine)
	if err != nil {
		return err
	}
	r := &record{Spec: *spec, Instance: c.instance}
	if err := s.shelf.begin(r); err != nil {
		return err
	}
	if c.log, err = openLog(spec); err != nil {
		return err
	}
	stage, err := s.openStage(spec)
	if err != nil {
		return err
	}
	defer stage.close()
	ends, err := s.openEnds(spec)
	if err != nil {
		return err
	}
	defer ends.closeOwn()
	if c.lib, err = libcontainer.Create(s.libRoot(), spec.ID, config); err != nil {
		return err
	}
	if c.proc, err = s.orphans.birth(func() (int, error) { return startInit(c.lib, spec, ends, stage) }); err != nil {
		return noCommand(err)
	}
	if err := stage.await(); err != nil {
		return err
	}
	if err := ends.receiveTerminal(); err != nil {
		return err
	}
	c.createdAt = time.Now()
	r.Made, r.PID, r.CreatedAt = true, c.proc.pid, c.createdAt
	if err := s.shelf.write(r); err != nil {
		return err
	}
	ends.takeStdin(c)
	s.begin(c, keeper.Created, ends.takeSources())
	return nil
}

// startInit starts the container's first process up to the point where it waits for its release.
func startInit(lib *libcontainer.Container, spec *keeper.Spec, ends *ends, stage *stage) (int, error) {
	p := &libcontainer.Process{
		Args: spec.Args, Env: envOf(spec.Env), Cwd: spec.Cwd,
		UID: int(spec.User.UID), GID: int(spec.User.GID), AdditionalGroups: idsOf(spec.User.AdditionalGIDs),
		Init: true, ConsoleSocket: ends.console,
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	ends.give(p)
	stage.give(p)
	if err := lib.Start(p); err != nil {
		return 0, err
	}
	return p.Pid()
}

// noCommand marks the errors of a command that cannot be run, which libcontainer's second stage reports as text only.
func noCommand(err error) error {
	if strings.Contains(err.Error(), `exec: "`) {
		return fmt.Errorf("%w: %w", keeper.ErrNoCommand, err)
	}
	return err
}

// begin sets a container's state and starts its watcher and pumps.
func (s *Server) begin(c *container, state keeper.State, sources []source) {
	c.mu.Lock()
	c.state, c.sources = state, sources
	proc := c.proc
	c.mu.Unlock()
	for _, src := range sources {
		c.pumps.Add(1)
		s.pumps.Go(func() {
			defer c.pumps.Done()
			src.pump(s.flow, c.log, &c.taps)
		})
	}
	s.watchers.Go(func() { s.watch(s.life, c, proc) })
}

// abandon undoes a creation that went wrong, wherever it stopped.
func (s *Server) abandon(run context.Context, c *container) {
	if c.proc != nil {
		err := c.proc.signal(unix.SIGKILL)
		if err == nil {
			_, err = c.proc.wait(context.WithoutCancel(run)) // it has been killed: this ends
		}
		if err != nil {
			s.log.Warn("process not ended", "id", c.id, "error", err)
		}
		s.orphans.buried(c.proc.pid)
		c.proc.close()
	}
	if c.log != nil {
		_ = c.log.Close() // nothing was written
	}
	if err := s.erase(c.id, c.cgroup); err != nil {
		s.log.Warn("leftover", "id", c.id, "error", err)
	}
	s.drop(c)
}

// erase removes everything of a container whose processes need no mercy: its group, libcontainer's state, its folder. May be repeated.
func (s *Server) erase(id, cgroup string) error {
	if err := s.tree.clean(cgroup); err != nil {
		return err
	}
	s.tree.removeEmpty(filepath.Dir(cgroup), s.cfg.CgroupParent)
	return errors.Join(os.RemoveAll(filepath.Join(s.libRoot(), id)), s.shelf.remove(id))
}

// start releases a created container's process.
func (s *Server) start(run context.Context, id string) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch c.current() {
	case keeper.Running, keeper.Exited:
		return nil
	case keeper.Created:
	default: // its creation failed while we waited, or it was deleted
		return fmt.Errorf("start %s: %w", id, keeper.ErrNotFound)
	}
	now := time.Now()
	if err := s.amend(c, func(r *record) { r.StartedAt = now }); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	if err := s.release(run, c); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	c.running(now)
	s.log.Info("container", "id", id, "state", keeper.Running)
	return nil
}

func (c *container) running(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == keeper.Created {
		c.state = keeper.Running
	}
	c.startedAt, c.lib = since, nil
}

// watch waits for a container's end and records it. It ends without a word when the keeper does.
func (s *Server) watch(run context.Context, c *container, proc *process) {
	end, err := proc.wait(run)
	if err != nil && run.Err() != nil {
		return
	}
	if err != nil {
		s.log.Error("cannot wait for container", "id", c.id, "error", err)
		end = ending{code: unknownCode, unknown: true}
	}
	s.orphans.buried(proc.pid)
	s.finish(run, c, proc.pid, end)
}

// drainLimit bounds how long an exit waits for the rest of the output: a process that left the container may hold a pipe open for ever.
const drainLimit = 2 * time.Second

// finish records the end of a container's first process.
func (s *Server) finish(run context.Context, c *container, pid int, end ending) {
	at := time.Now()
	if !c.ownPID {
		if err := s.tree.signalAll(c.cgroup, unix.SIGKILL); err != nil {
			s.log.Warn("processes left", "id", c.id, "error", err)
		}
	}
	oom := s.tree.oomKills(c.cgroup) > 0 && end.code != 0
	endsWithin(&c.pumps, drainLimit)
	exit := keeper.Exit{
		ID: c.id, Labels: c.labels, PID: pid, Code: end.code, Signal: end.signal, Unknown: end.unknown, OOMKilled: oom, At: at,
		Cause: s.cause(c, end, oom),
	}
	if s.append(run, c, exit) {
		s.close(c)
		s.log.Info("container", "id", c.id, "state", keeper.Exited, "code", exit.Code, "cause", exit.Cause)
	}
}

// close puts away what an ended container leaves behind. Delete waits for it: after it nothing more is written for this container.
func (s *Server) close(c *container) {
	defer close(c.ended)
	if err := s.fence.set(c.id, 0); err != nil {
		s.log.Warn("deadline not cleared", "id", c.id, "error", err)
	}
	if c.log != nil {
		if err := c.log.Close(); err != nil {
			s.log.Warn("log not closed", "id", c.id, "error", err)
		}
	}
	if err := s.amend(c, func(r *record) { r.Exit = c.exit }); err != nil {
		s.log.Warn("record not updated", "id", c.id, "error", err) // adoption finds the exit in the log
	}
}

// amend alters a container's record on disk.
func (s *Server) amend(c *container, alter func(*record)) error {
	c.recording.Lock()
	defer c.recording.Unlock()
	return s.shelf.change(c.id, alter)
}

func (s *Server) cause(c *container, end ending, oom bool) keeper.Cause {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.fenced:
		return keeper.CauseDeadline
	case oom:
		return keeper.CauseOOM
	case end.unknown:
		return keeper.CauseUnknown
	default:
		return keeper.CauseExit
	}
}

// appendPause is the time between attempts to write the exit log. The exit is not announced before one succeeds.
const appendPause = time.Second

// append makes an exit durable and then known; false when the keeper ends first.
func (s *Server) append(run context.Context, c *container, exit keeper.Exit) bool {
	for {
		err := s.exits.Append(exitlog.Record{Exit: exit, Instance: c.instance}, func(r exitlog.Record) { c.exited(r.Exit) })
		if err == nil {
			return true
		}
		s.log.Error("exit not recorded", "id", c.id, "error", err)
		select {
		case <-run.Done():
			return false
		case <-time.After(appendPause):
		}
	}
}

// kill sends a signal to the first process or to all.
func (s *Server) kill(id string, sig unix.Signal, all bool) error {
	if sig <= 0 || sig > 64 {
		return fmt.Errorf("kill %s: signal %d: %w", id, sig, keeper.ErrInvalid)
	}
	c, err := s.find(id)
	if err != nil {
		return err
	}
	return c.live(func(p *process) error {
		if all && (!c.ownPID || sig != unix.SIGKILL) { // killing the first process of a PID namespace kills the others
			if err := s.tree.signalAll(c.cgroup, sig); err != nil {
				return fmt.Errorf("kill %s: %w", id, err)
			}
		}
		if err := p.signal(sig); err != nil {
			return fmt.Errorf("kill %s: %w", id, err)
		}
		return nil
	})
}

// remove deletes an exited or created container; one that is not there is no error.
func (s *Server) remove(run context.Context, id string) error {
	c, err := s.find(id)
	if errors.Is(err, keeper.ErrNotFound) {
		return nil
	}
	c.op.Lock()
	defer c.op.Unlock()
	switch c.current() {
	case keeper.Running:
		return fmt.Errorf("delete %s: it is running: %w", id, keeper.ErrConflict)
	case keeper.Created:
		if err := s.end(run, c); err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
	case keeper.Exited:
		if err := c.awaitEnd(run); err != nil {
			return fmt.Errorf("delete %s: %w", id, err)
		}
	default:
		return nil
	}
	if err := s.erase(id, c.cgroup); err != nil {
		return fmt.Errorf("delete %s: %w", id, err)
	}
	c.mu.Lock()
	c.state = ""
	c.mu.Unlock()
	s.drop(c)
	return nil
}

// end kills a container and waits until its exit is recorded.
func (s *Server) end(run context.Context, c *container) error {
	if err := s.kill(c.id, unix.SIGKILL, true); err != nil {
		return err
	}
	return c.awaitEnd(run)
}

// awaitEnd waits until the container's exit is recorded and everything of it is at rest.
func (c *container) awaitEnd(run context.Context) error {
	select {
	case <-c.ended:
		return nil
	case <-run.Done():
		return context.Cause(run)
	}
}

// cleanAll ends and removes every container, and whatever else is in the cgroup parent.
func (s *Server) cleanAll(run context.Context) error {
	var errs []error
	for _, c := range s.all() {
		c.op.Lock()
		alive := c.current() == keeper.Running
		c.op.Unlock()
		if alive {
			errs = append(errs, s.end(run, c))
		}
		errs = append(errs, s.remove(run, c.id))
	}
	return errors.Join(append(errs, s.tree.clean(s.cfg.CgroupParent))...)
}

// expire is called by the fence.
func (s *Server) expire(id string) {
	c, err := s.find(id)
	if err != nil {
		return // it was deleted in this moment
	}
	c.mu.Lock()
	c.fenced = c.proc != nil
	c.mu.Unlock()
	s.log.Warn("deadline passed", "id", id)
	if err := s.kill(id, unix.SIGKILL, true); err != nil {
		s.log.Error("deadline not enforced", "id", id, "error", err)
	}
}

// setDeadline remembers a deadline, so that it holds across a crash, and arms it.
func (s *Server) setDeadline(id string, at time.Duration) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	if at < 0 {
		return fmt.Errorf("deadline of %s: %w", id, keeper.ErrInvalid)
	}
	return c.live(func(*process) error {
		if err := s.shelf.writeDeadline(id, at); err != nil {
			return fmt.Errorf("deadline of %s: %w", id, err)
		}
		return s.fence.set(id, at)
	})
}
