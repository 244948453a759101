package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopTimeout is how long keeper and agent may take to end when they are asked to.
	stopTimeout = 5 * time.Second
	// pollInterval is how often a shutdown looks whether containers are gone.
	pollInterval = 20 * time.Millisecond
)

// Run makes this process a node, as described in the package's documentation, and returns after an orderly shutdown,
// which the end of ctx begins, or when the node cannot be made. It must be PID 1 of its process namespace, and nothing
// else in the process may wait for children. When it returns and the process ends, the kernel kills what is left.
func Run(ctx context.Context, c Config) error {
	if err := c.validate(); err != nil {
		return fmt.Errorf("node settings: %w", err)
	}
	if os.Getpid() != 1 {
		return errors.New("a node must be the first process of new pid, mount, network, uts and ipc namespaces")
	}
	if err := prepare(c); err != nil {
		return fmt.Errorf("boot node %s: %w", c.Hostname, err)
	}
	deaths := make(chan os.Signal, 1) // the signal is only a hint: one look finds all the dead
	signal.Notify(deaths, unix.SIGCHLD)
	defer signal.Stop(deaths)
	upgrades := make(chan os.Signal, 1) // one is enough: it is a wish, not a count
	signal.Notify(upgrades, unix.SIGHUP)
	defer signal.Stop(upgrades)
	s := &supervisor{
		log: c.Log, grace: c.Grace, deaths: deaths, upgrades: upgrades,
		keeper: &service{name: "keeper", program: c.Keeper}, agent: &service{name: "agent", program: c.Agent},
	}
	s.log.Info("node booted", "node", c.Hostname)
	s.supervise(ctx)
	s.shutDown()
	s.log.Info("node shut down", "node", c.Hostname)
	return nil
}

// supervisor is the parent of keeper, agent and all orphans. One goroutine owns it.
type supervisor struct {
	log      *slog.Logger
	grace    time.Duration
	deaths   <-chan os.Signal
	upgrades <-chan os.Signal

	keeper, agent *service
	stopping      bool // nothing is started again
}

// service is a program that should always run.
type service struct {
	name    string
	program Program
	pid     int // 0 while it does not run
	started time.Time
	backoff backoff
	due     time.Time // when to start it
}

// supervise keeps both programs running until ctx ends.
func (s *supervisor) supervise(ctx context.Context) {
	for {
		now := time.Now()
		next := now.Add(time.Hour)
		for _, service := range []*service{s.keeper, s.agent} {
			if service.pid == 0 && !now.Before(service.due) {
				s.start(service, now)
			}
			if service.pid == 0 && service.due.Before(next) {
				next = service.due
			}
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.deaths:
			timer.Stop()
			s.reap()
		case <-s.upgrades:
			timer.Stop()
			s.upgrade()
		case <-timer.C:
		}
	}
}

// upgrade has what is in the programs' files now take their place: the keeper keeps its children and hands itself over, the agent ends
// and is started again. The keeper goes first: a new agent that it does not suit waits for it.
func (s *supervisor) upgrade() {
	s.log.Info("programs are replaced by what is in their files")
	for _, v := range []struct {
		*service
		signal unix.Signal
	}{{s.keeper, unix.SIGHUP}, {s.agent, unix.SIGTERM}} {
		if v.pid == 0 {
			continue // it is started anew anyway
		}
		if err := unix.Kill(v.pid, v.signal); err != nil && !errors.Is(err, unix.ESRCH) {
			s.log.Error("program not replaced", "program", v.name, "pid", v.pid, "err", err)
		}
	}
}

func (s *supervisor) start(v *service, now time.Time) {
	env := v.program.Env
	if env == nil {
		env = os.Environ()
	}
	argv := append([]string{filepath.Base(v.program.Path)}, v.program.Args...)
	pid, err := syscall.ForkExec(v.program.Path, argv, &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		s.log.Error("program does not start", "program", v.name, "file", v.program.Path, "err", err)
		v.due = now.Add(v.backoff.after(0))
		return
	}
	v.pid, v.started = pid, now
	s.log.Info("program started", "program", v.name, "pid", pid)
}

// reap buries all the dead: ours, and orphans that the kernel gave us.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 { // no children at all, or none of them dead
			return
		}
		for _, service := range []*service{s.keeper, s.agent} {
			if service.pid == pid {
				s.died(service, status, time.Now())
			}
		}
	}
}

func (s *supervisor) died(v *service, status unix.WaitStatus, now time.Time) {
	ran := now.Sub(v.started)
	wait := v.backoff.after(ran)
	v.pid, v.due = 0, now.Add(wait)
	if s.stopping {
		s.log.Info("program ended", "program", v.name, "how", describe(status))
		return
	}
	s.log.Warn("program died", "program", v.name, "how", describe(status), "ran", ran, "again_in", wait)
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// shutDown ends the agent first, so that it starts nothing more and takes no container's end for a failure; then the
// containers, while the keeper writes down how they end; then the keeper.
func (s *supervisor) shutDown() {
	s.stopping = true
	s.stop(s.agent)
	deadline := time.Now().Add(s.grace)
	if s.grace > 0 {
		s.signalRest(unix.SIGTERM)
	}
	for s.signalRest(0) > 0 && time.Now().Before(deadline) {
		s.pause()
	}
	if left := s.signalRest(unix.SIGKILL); left > 0 {
		s.log.Warn("processes killed at shutdown", "processes", left)
	}
	for deadline = time.Now().Add(stopTimeout); s.signalRest(0) > 0 && time.Now().Before(deadline); {
		s.pause()
	}
	s.stop(s.keeper)
}

func (s *supervisor) stop(v *service) {
	deadline := time.Now().Add(stopTimeout)
	for signal := unix.SIGTERM; v.pid != 0; {
		if err := unix.Kill(v.pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			s.log.Warn("program cannot be signalled", "program", v.name, "err", err)
		}
		for v.pid != 0 && time.Now().Before(deadline) {
			s.pause()
		}
		if v.pid != 0 && signal == unix.SIGKILL {
			s.log.Error("program does not die", "program", v.name, "pid", v.pid)
			return
		}
		signal, deadline = unix.SIGKILL, time.Now().Add(stopTimeout)
	}
}

// pause waits for a death, or a little.
func (s *supervisor) pause() {
	timer := time.NewTimer(pollInterval)
	defer timer.Stop()
	select {
	case <-s.deaths:
	case <-timer.C:
	}
	s.reap()
}

// signalRest signals every process of the node but the keeper and us, and says how many there are. Signal 0 only counts.
func (s *supervisor) signalRest(signal unix.Signal) int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		s.log.Error("processes cannot be listed", "err", err)
		return 0
	}
	count := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() || pid == s.keeper.pid {
			continue
		}
		if err := unix.Kill(pid, signal); err == nil {
			count++
		}
	}
	return count
}
