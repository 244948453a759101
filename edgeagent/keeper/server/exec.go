package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// outputPatience is how long the rest of an exec's output may take after its process has ended: what it left in the background may hold
// the pipe open for ever.
const outputPatience = 100 * time.Millisecond

// exec runs a process in a container, waits for it and returns its output. It is killed when ctx or its timeout ends.
func (s *Server) exec(ctx context.Context, id string, spec keeper.ExecSpec) (keeper.ExecResult, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return keeper.ExecResult{}, fmt.Errorf("exec in %s: %w", id, err)
	}
	defer func() { _ = reader.Close() }() // only read from
	proc, err := s.startExec(ctx, id, spec, &ends{stdout: writer, stderr: writer})
	if err = errors.Join(err, writer.Close()); err != nil {
		return keeper.ExecResult{}, fmt.Errorf("exec in %s: %w", id, err)
	}
	defer s.orphans.buried(proc.pid)
	defer proc.close()
	out := capture(reader, outputLimit(spec.MaxOutput))
	end, timedOut, err := awaitExec(ctx, proc, spec.Timeout)
	output, truncated := out.take(reader)
	if err != nil {
		return keeper.ExecResult{}, fmt.Errorf("exec in %s: %w", id, err)
	}
	return keeper.ExecResult{ExitCode: end.code, Output: output, Truncated: truncated, TimedOut: timedOut}, nil
}

func outputLimit(asked int) int {
	if asked <= 0 {
		return keeper.DefaultExecOutput
	}
	return min(asked, keeper.MaxExecOutput)
}

// startExec starts a process in a running container on the given ends.
func (s *Server) startExec(ctx context.Context, id string, spec keeper.ExecSpec, e *ends) (*process, error) {
	c, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if state := c.current(); state != keeper.Running {
		return nil, fmt.Errorf("it is %s: %w", state, keeper.ErrConflict)
	}
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return nil, fmt.Errorf("args is empty: %w", keeper.ErrInvalid)
	}
	defer s.made()
	r, err := s.shelf.read(id)
	if err != nil {
		return nil, err
	}
	lib, err := libcontainer.Load(s.libRoot(), id)
	if err != nil {
		return nil, err
	}
	p := execProcess(&r.Spec, spec)
	p.ConsoleWidth, p.ConsoleHeight = spec.Width, spec.Height
	if err := e.belong(r.Spec.IDs); err != nil {
		return nil, err
	}
	e.give(p)
	return s.runExec(ctx, lib, p, &r.Spec)
}

// runExec starts p, filtered as the container is.
func (s *Server) runExec(ctx context.Context, lib *libcontainer.Container, p *libcontainer.Process, spec *keeper.Spec) (*process, error) {
	stage, err := s.joinStage(spec)
	if err != nil {
		return nil, err
	}
	defer stage.close()
	stage.give(p)
	proc, err := s.orphans.birth(func() (int, error) {
		if err := lib.Run(p); err != nil {
			return 0, err
		}
		return p.Pid()
	})
	if err != nil {
		return nil, noCommand(err)
	}
	if err := stage.await(); err != nil {
		err = errors.Join(err, proc.killGroup(), endOf(ctx, proc))
		s.orphans.buried(proc.pid)
		proc.close()
		return nil, err
	}
	return proc, nil
}

// execProcess fills in from the container what the exec leaves open.
func execProcess(c *keeper.Spec, spec keeper.ExecSpec) *libcontainer.Process {
	user, env, cwd := c.User, c.Env, c.Cwd
	if spec.User != nil {
		user = *spec.User
	}
	if spec.Env != nil {
		env = spec.Env
	}
	if spec.Cwd != "" {
		cwd = spec.Cwd
	}
	if cwd == "" {
		cwd = "/"
	}
	return &libcontainer.Process{
		Args: spec.Args, Env: envOf(env), Cwd: cwd,
		UID: int(user.UID), GID: int(user.GID), AdditionalGroups: idsOf(user.AdditionalGIDs),
	}
}

// awaitExec waits for proc and kills it when ctx or timeout (zero: none) ends. Only the end of ctx is an error.
func awaitExec(ctx context.Context, proc *process, timeout time.Duration) (ending, bool, error) {
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	end, err := proc.wait(limited)
	if err == nil || limited.Err() == nil {
		return end, false, err
	}
	if err := proc.killGroup(); err != nil {
		return ending{}, false, err
	}
	end, err = proc.wait(context.WithoutCancel(ctx)) // it has been killed: this ends
	return end, ctx.Err() == nil, errors.Join(err, ctx.Err())
}

// killGroup kills an exec's process and what it started in its session, of which libcontainer made it the leader.
func (p *process) killGroup() error {
	err := p.signal(unix.SIGKILL)
	if group := unix.Kill(-p.pid, unix.SIGKILL); group != nil && !errors.Is(group, unix.ESRCH) {
		err = errors.Join(err, os.NewSyscallError("kill", group))
	}
	return err
}

// captured is the kept beginning of an exec's output. What comes after the limit is read and dropped, so that the process is not blocked.
type captured struct {
	limit int
	done  chan struct{}

	mu   sync.Mutex
	data []byte
	more bool
}

func capture(r *os.File, limit int) *captured {
	c := &captured{limit: limit, done: make(chan struct{})}
	go c.run(r) // ends when take sets a deadline, at the latest
	return c
}

func (c *captured) run(r *os.File) {
	defer close(c.done)
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		c.mu.Lock()
		kept := min(n, c.limit-len(c.data))
		c.data = append(c.data, buf[:kept]...)
		c.more = c.more || kept < n
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take ends the capture once the output has ended, or outputPatience from now.
func (c *captured) take(r *os.File) (data []byte, truncated bool) {
	if err := r.SetReadDeadline(time.Now().Add(outputPatience)); err == nil {
		<-c.done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data, c.more
}
