package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// unknownCode is reported when nobody saw how a process ended: as if it was killed.
const unknownCode = 128 + int(unix.SIGKILL)

// process is a process held by a pidfd, which never means another process. Waiting parks a goroutine in the poller, not a thread.
type process struct {
	pid   int
	file  *os.File
	child bool // ours to reap
}

// ending is how a process ended.
type ending struct {
	code    int
	signal  int
	unknown bool
}

func openProcess(pid int, child bool) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("hold process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	return &process{pid: pid, file: os.NewFile(uintptr(fd), "pidfd"), child: child}, nil
}

func (p *process) close() { _ = p.file.Close() } // a handle: nothing to flush

// signal sends sig. A process that has ended is no error.
func (p *process) signal(sig unix.Signal) error {
	return p.control(func(fd int) error {
		err := unix.PidfdSendSignal(fd, sig, nil, 0)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return os.NewSyscallError("pidfd_send_signal", err)
	})
}

func (p *process) control(call func(fd int) error) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	return errors.Join(raw.Control(func(fd uintptr) { callErr = call(int(fd)) }), callErr)
}

// wait blocks until the process has ended and reaps it if it is a child. When ctx ends first, its error is returned.
func (p *process) wait(ctx context.Context) (ending, error) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = p.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed
		close(interrupted)
	})
	defer func() {
		if !stop() { // it may be waited for again
			<-interrupted
			_ = p.file.SetReadDeadline(time.Time{})
		}
	}()
	raw, err := p.file.SyscallConn()
	if err != nil {
		return ending{}, err
	}
	var end ending
	look := p.ended
	if p.child {
		look = p.reap
	}
	var lookErr error
	err = raw.Read(func(fd uintptr) (done bool) {
		end, done, lookErr = look(int(fd))
		return done
	})
	if ctx.Err() != nil && err != nil {
		return ending{}, context.Cause(ctx)
	}
	return end, errors.Join(err, lookErr)
}

// reap collects a child. Its number cannot mean another process before it is reaped. Should somebody else have reaped it, ask the kernel.
func (p *process) reap(fd int) (ending, bool, error) {
	var status unix.WaitStatus
	pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
	switch {
	case errors.Is(err, unix.ECHILD):
		return exitInfo(fd), true, nil
	case errors.Is(err, unix.EINTR) || (err == nil && pid == 0): // a signal, or it still runs
		return ending{}, false, nil
	case err != nil:
		return ending{}, true, os.NewSyscallError("wait4", err)
	}
	return statusEnding(status), true, nil
}

// ended looks at a process that is not a child.
func (p *process) ended(fd int) (ending, bool, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	if n == 0 || errors.Is(err, unix.EINTR) {
		return ending{}, false, nil
	}
	if err != nil {
		return ending{}, true, os.NewSyscallError("poll", err)
	}
	return exitInfo(fd), true, nil
}

// reapPatience is how long the process that inherited an ended one gets to reap it: only then does the kernel tell the exit code.
const reapPatience = time.Second

// exitInfo asks the kernel for the exit code of a process that another one reaps: Linux 6.15 and later.
func exitInfo(fd int) ending {
	for limit := time.Now().Add(reapPatience); time.Now().Before(limit); time.Sleep(time.Millisecond) { //nolint:forbidigo // the kernel tells nobody when another process reaps
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil {
			break
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return statusEnding(unix.WaitStatus(info.Exit_code))
		}
	}
	return ending{code: unknownCode, unknown: true}
}

func statusEnding(ws unix.WaitStatus) ending {
	if ws.Signaled() {
		return ending{code: 128 + int(ws.Signal()), signal: int(ws.Signal())}
	}
	return ending{code: ws.ExitStatus()}
}
