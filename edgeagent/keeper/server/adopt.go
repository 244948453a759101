package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/exitlog"
)

// bootFile holds the identity of the boot that the run folder belongs to.
const bootFile = "boot"

// bootIdentity is the kernel's boot and this process's init: a node that is simulated in a PID namespace boots with its init.
func bootIdentity() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify boot: %w", err)
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return "", fmt.Errorf("identify boot: %w", err)
	}
	// The name in parentheses may hold anything; start time is the 22nd field, the 20th after the name.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("identify boot: /proc/1/stat has %d fields", len(fields))
	}
	return strings.TrimSpace(string(id)) + "/" + string(fields[19]), nil
}

// adopt opens the exit log and takes over what an earlier keeper left: running containers after a crash, nothing but exits after a boot.
func (s *Server) adopt(run context.Context, disk exitlog.Disk) (err error) {
	if s.boot, err = bootIdentity(); err != nil {
		return err
	}
	recorded := make(map[string]keeper.Exit) // by instance
	s.exits, err = exitlog.Open(disk, exitlog.DefaultMaxBytes, func(r exitlog.Record) { recorded[r.Instance] = r.Exit })
	if err != nil {
		return err
	}
	if n := s.exits.Skipped(); n > 0 {
		s.log.Error("exit log has unreadable records", "count", n)
	}
	before, err := os.ReadFile(filepath.Join(s.cfg.StateDir, bootFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read boot identity: %w", err)
	}
	if string(before) == s.boot {
		return s.readopt(run, recorded)
	}
	return s.afterBoot(recorded)
}

// afterBoot records the end of everything that ran before this boot and clears the run folder and the cgroup parent. Interrupted, it is done again.
func (s *Server) afterBoot(recorded map[string]keeper.Exit) error {
	if err := s.tree.clean(s.cfg.CgroupParent); err != nil {
		return err
	}
	ids, err := s.shelf.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.bury(id, recorded); err != nil {
			return fmt.Errorf("container %s of an earlier boot: %w", id, err)
		}
	}
	if err := errors.Join(os.RemoveAll(s.libRoot()), os.MkdirAll(s.libRoot(), 0o700)); err != nil {
		return fmt.Errorf("clear run folder: %w", err)
	}
	return replaceFile(filepath.Join(s.cfg.StateDir, bootFile), []byte(s.boot))
}

func (s *Server) bury(id string, recorded map[string]keeper.Exit) error {
	r, err := s.shelf.read(id)
	if err != nil {
		s.log.Warn("record lost with the last boot", "id", id, "error", err)
		return s.shelf.remove(id)
	}
	if _, known := recorded[r.Instance]; r.Made && r.Exit == nil && !known {
		exit := keeper.Exit{
			ID: id, Labels: r.Spec.Labels, PID: r.PID, Code: unknownCode, Unknown: true, Cause: keeper.CauseReboot, At: time.Now(),
		}
		if err := s.exits.Append(exitlog.Record{Exit: exit, Instance: r.Instance}, nil); err != nil {
			return err
		}
		s.log.Info("container", "id", id, "state", keeper.Exited, "cause", exit.Cause)
	}
	return s.shelf.remove(id)
}

// readopt takes over the containers of a keeper that ended during this boot.
func (s *Server) readopt(run context.Context, recorded map[string]keeper.Exit) error {
	ids, err := s.shelf.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, err := s.shelf.read(id)
		if err == nil && r.Made {
			err = s.take(run, r, recorded)
		} else {
			err = s.discard(id, r)
		}
		if err != nil {
			return fmt.Errorf("adopt container %s: %w", id, err)
		}
	}
	return nil
}

// discard removes a container whose creation was never acknowledged, or of which only a part is left after an interrupted removal.
func (s *Server) discard(id string, r *record) error {
	s.log.Warn("unfinished container removed", "id", id)
	if r != nil {
		return s.erase(id, r.Spec.CgroupPath)
	}
	if lib, err := libcontainer.Load(s.libRoot(), id); err == nil {
		config := lib.Config()
		if underParent(config.Cgroups.Path, s.cfg.CgroupParent) == nil {
			return s.erase(id, config.Cgroups.Path)
		}
	}
	return errors.Join(os.RemoveAll(filepath.Join(s.libRoot(), id)), s.shelf.remove(id))
}

// take makes a recorded container known again, alive or not.
func (s *Server) take(run context.Context, r *record, recorded map[string]keeper.Exit) error {
	c := newContainer(&r.Spec, r.Instance)
	c.createdAt, c.startedAt = r.CreatedAt, r.StartedAt
	if err := s.add(c); err != nil {
		return err
	}
	if r.Exit == nil {
		if e, known := recorded[r.Instance]; known {
			r.Exit = &e
		}
	}
	if r.Exit != nil {
		c.exited(*r.Exit)
		close(c.ended)
		return nil
	}
	return s.resume(run, c, r)
}

func (s *Server) resume(run context.Context, c *container, r *record) error {
	var err error
	left := s.cfg.Handover.take(c.id)
	if left != nil {
		defer left.close()
	}
	if c.log, err = openLog(&r.Spec); err != nil {
		s.log.Error("log not opened", "id", c.id, "error", err) // the container matters more
	}
	if c.proc = s.held(r, left); c.proc == nil {
		c.state = keeper.Running
		end := ending{code: unknownCode, unknown: true}
		c.fenced = s.overdue(c.id)
		s.finish(run, c, r.PID, end)
		return nil
	}
	sources, err := s.reopen(c, r, left)
	if err != nil {
		return err
	}
	c.fenced = s.overdue(c.id) // it may have been killed, and not have ended before we looked
	s.begin(c, keeper.Created, sources)
	if err := s.fence.set(c.id, s.shelf.readDeadline(c.id)); err != nil {
		return err
	}
	if !r.StartedAt.IsZero() { // Start was asked for: finish it, whether or not it was done
		if err := s.release(run, c); err != nil && !c.isOver() {
			return err
		}
		c.running(r.StartedAt)
	}
	s.log.Info("container adopted", "id", c.id, "pid", r.PID, "state", c.current())
	return nil
}

// reopen opens our ends of a container's streams, those first that were handed over.
func (s *Server) reopen(c *container, r *record, left *handover) (sources []source, err error) {
	if left == nil {
		left = &handover{}
	}
	c.stdin.terminal = fileOf(&left.Terminal, stdoutFile)
	switch {
	case c.stdin.terminal != nil:
		return []source{{name: stdoutFile, file: c.stdin.terminal}}, nil
	case r.Spec.Terminal: // it went with the keeper that held it
		c.stdin.open = false
		return nil, nil
	}
	if c.stdin.open = c.stdin.open && !r.StdinEnded; c.stdin.open && c.stdinOnce {
		if c.stdin.held = fileOf(&left.Stdin, stdinFile); c.stdin.held == nil {
			if c.stdin.held, err = holdOpen(s.shelf.path(c.id, stdinFile)); err != nil {
				return nil, err
			}
		}
	}
	stdout, stderr := fileOf(&left.Stdout, stdoutFile), fileOf(&left.Stderr, stderrFile)
	if stdout != nil && stderr != nil {
		return []source{{name: stdoutFile, file: stdout}, {name: stderrFile, file: stderr}}, nil
	}
	return openSources(s.shelf, c.id)
}

// held holds the recorded process if it is still the same one, otherwise nil. A child of the image before us is the same, even a dead one:
// nobody else can have reaped it.
func (s *Server) held(r *record, left *handover) *process {
	if left == nil || !left.Child {
		return s.alive(r)
	}
	p, err := s.orphans.birth(func() (int, error) { return r.PID, nil })
	if err != nil {
		s.log.Error("child of the keeper's earlier image lost", "id", r.Spec.ID, "pid", r.PID, "error", err)
		return nil
	}
	return p
}

// alive holds the recorded process if it is still the same one, otherwise nil.
func (s *Server) alive(r *record) *process {
	p, err := openProcess(r.PID, false)
	if err != nil {
		return nil
	}
	lib, err := libcontainer.Load(s.libRoot(), r.Spec.ID)
	if err == nil {
		// Load compares the start time of the process; we hold the process since before it looked.
		var status libcontainer.Status
		if status, err = lib.Status(); err == nil && status != libcontainer.Stopped {
			return p
		}
	}
	p.close()
	return nil
}

func (s *Server) overdue(id string) bool {
	at := s.shelf.readDeadline(id)
	now, err := bootTime()
	return err == nil && at != 0 && at <= now
}
