package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

const (
	// backlog is how many connections may wait to be accepted.
	backlog = 64
	// maxConns bounds the goroutines an agent can cause; each request under way has a connection.
	maxConns = 256
)

// farewell bounds how long a keeper that ends, or is to be replaced, waits for what it was asked before: no deadline holds meanwhile, and nobody
// else is answered. What it leaves is what one that was killed leaves.
const farewell = 6 * replyLimit

// errUnanswered means that the farewell was over before all requests were answered.
var errUnanswered = errors.New("requests are left unanswered")

// listener accepts agents.
type listener struct {
	file     *os.File
	farewell time.Duration
}

// listen makes the socket, in place of one left over by an earlier keeper: the state folder's lock says that it is gone.
func listen(path string) (*listener, error) {
	if err := guard(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen: %w", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := bindAt(fd, path); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), unix.Close(fd))
	}
	return &listener{file: os.NewFile(uintptr(fd), path), farewell: farewell}, nil
}

func bindAt(fd int, path string) error {
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := os.Chmod(path, 0o600); err != nil { // nobody can connect before listen
		return err
	}
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
}

// guard keeps others from replacing the socket, or seeing what is beside it. They may still pass through: containers of other users come to
// their root file systems that way, and the socket has a mode of its own.
func guard(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()&0o711)
}

// run accepts until ctx ends, talks on each connection in a goroutine of its own, and returns when all have ended; errUnanswered: some do not.
func (l *listener) run(ctx context.Context, talk func(context.Context, *wire.Conn)) (err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) }) // fails only when closed
	defer stop()
	defer func() { _ = l.file.Close() }() // nothing is buffered in a listener
	var talks sync.WaitGroup
	defer func() {
		if !endsWithin(&talks, l.farewell) {
			err = errors.Join(err, errUnanswered)
		}
	}()
	slots := make(chan struct{}, maxConns)
	for {
		fd, err := l.accept()
		if ctx.Err() != nil {
			if err == nil {
				return unix.Close(fd)
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		conn, err := wire.NewConn(fd)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		slots <- struct{}{} // the rest waits in the backlog
		talks.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = conn.Close() }() // replies were sent whole or not at all
			talk(ctx, conn)
		})
	}
}

// endsWithin waits for a group, at most for limit, and says whether it has ended.
func endsWithin(group *sync.WaitGroup, limit time.Duration) bool {
	ended := make(chan struct{})
	go func() { // ends with the group
		group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

func (l *listener) accept() (int, error) {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var acceptErr error
	err = raw.Read(func(lfd uintptr) bool {
		fd, _, acceptErr = unix.Accept4(int(lfd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return !errors.Is(acceptErr, unix.EAGAIN) && !errors.Is(acceptErr, unix.EINTR) && !errors.Is(acceptErr, unix.ECONNABORTED)
	})
	return fd, errors.Join(err, acceptErr)
}
