package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/utils"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/server/crilog"
)

// ends are both ends of a new process's standard streams while it is being started.
type ends struct {
	stdin, stdout, stderr *os.File // the process's
	console               *os.File // where libcontainer sends the pseudo-terminal's master
	terminal              *os.File // our end of console
	held                  *os.File // ours: keeps a standard input that is to end some day from ending now
	sources               []source // ours
}

// source is the reading end of one output of a container.
type source struct {
	name string // "stdout" or "stderr"
	file *os.File
}

func openLog(spec *keeper.Spec) (*crilog.File, error) {
	if spec.LogPath == "" {
		return nil, nil
	}
	size, files := spec.LogMaxBytes, spec.LogMaxFiles
	if size == 0 {
		size = keeper.DefaultLogMaxBytes
	}
	if files == 0 {
		files = keeper.DefaultLogMaxFiles
	}
	return crilog.Open(spec.LogPath, size, files)
}

// openEnds opens the container's pipes, or a way to get its terminal. The process's ends are opened for reading and writing, so that it
// never meets a broken pipe: while no keeper runs, output waits in the pipe.
func (s *Server) openEnds(spec *keeper.Spec) (*ends, error) {
	e := &ends{}
	var err error
	if spec.Terminal {
		err = e.openConsole()
	} else {
		err = e.openPipes(s.shelf, spec)
	}
	if err != nil {
		e.closeOwn()
		return nil, err
	}
	return e, nil
}

func (e *ends) openPipes(s shelf, spec *keeper.Spec) (err error) {
	if spec.Stdin {
		if err = e.openStdin(s.path(spec.ID, stdinFile), spec.StdinOnce); err != nil {
			return err
		}
	}
	if e.sources, err = openSources(s, spec.ID); err != nil {
		return err
	}
	if e.stdout, err = openBlocking(s.path(spec.ID, stdoutFile)); err != nil {
		return err
	}
	if e.stderr, err = openBlocking(s.path(spec.ID, stderrFile)); err != nil {
		return err
	}
	return e.belong(spec.IDs)
}

// openStdin opens the process's standard input: for writing too, so that it never ends, unless it is for one attachment only. Then
// we hold the end for writing; it ends early for a process that reads while no keeper runs.
func (e *ends) openStdin(path string, once bool) (err error) {
	if !once {
		e.stdin, err = openBlocking(path)
		return err
	}
	if e.held, err = holdOpen(path); err != nil {
		return err
	}
	e.stdin, err = openAs(path, unix.O_RDONLY) // does not wait: there is a writer
	return err
}

// holdOpen opens a pipe for writing, whether or not anybody reads.
func holdOpen(path string) (*os.File, error) {
	both, err := openBlocking(path)
	if err != nil {
		return nil, err
	}
	held, err := openAs(path, unix.O_WRONLY)
	return held, errors.Join(err, both.Close())
}

// belong makes the root of a user namespace the owner of the process's streams: a program may open /dev/stdout again.
func (e *ends) belong(ids keeper.IDs) error {
	for _, f := range []*os.File{e.stdin, e.stdout, e.stderr} {
		if f == nil || ids.Count == 0 {
			continue
		}
		if err := unix.Fchown(int(f.Fd()), int(ids.First), int(ids.First)); err != nil {
			return &os.PathError{Op: "chown", Path: f.Name(), Err: err}
		}
	}
	return nil
}

// openSources opens the reading ends of a container's output.
func openSources(s shelf, id string) ([]source, error) {
	var out []source
	for _, name := range []string{stdoutFile, stderrFile} {
		f, err := os.OpenFile(s.path(id, name), os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			closeSources(out)
			return nil, err
		}
		out = append(out, source{name: name, file: f})
	}
	return out, nil
}

func closeSources(sources []source) {
	for _, src := range sources {
		_ = src.file.Close() // only read from
	}
}

// openBlocking opens a pipe for a process, which expects its streams to block.
func openBlocking(path string) (*os.File, error) { return openAs(path, unix.O_RDWR) }

func openAs(path string, mode int) (*os.File, error) {
	fd, err := unix.Open(path, mode|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (e *ends) openConsole() error {
	parent, child, err := utils.NewSockPair("console")
	if err != nil {
		return fmt.Errorf("make console socket: %w", err)
	}
	e.terminal, e.console = parent, child
	return nil
}

// give puts the streams into p: only files, or libcontainer would copy in a goroutine. Absent ones become /dev/null.
func (e *ends) give(p *libcontainer.Process) {
	if e.stdin != nil {
		p.Stdin = e.stdin
	}
	if e.stdout != nil {
		p.Stdout = e.stdout
	}
	if e.stderr != nil {
		p.Stderr = e.stderr
	}
	p.ConsoleSocket = e.console
}

// receiveTerminal takes the master of the pseudo-terminal, which the started process has sent, as the only source.
func (e *ends) receiveTerminal() error {
	if e.terminal == nil {
		return nil
	}
	master, err := utils.RecvFile(e.terminal) //nolint:staticcheck // deprecated for lack of users outside runc; there is no other
	if err != nil {
		return fmt.Errorf("receive terminal: %w", err)
	}
	pollable, err := nonBlocking(master)
	if err != nil {
		return err
	}
	e.sources = []source{{name: stdoutFile, file: pollable}}
	return nil
}

// nonBlocking replaces f by a file that waits in the poller.
func nonBlocking(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// takeStdin hands over what the container's standard input needs of us.
func (e *ends) takeStdin(c *container) {
	c.stdin.held, e.held = e.held, nil
	if e.terminal != nil {
		c.stdin.terminal = e.sources[0].file
	}
}

// takeSources hands the reading ends over.
func (e *ends) takeSources() []source {
	taken := e.sources
	e.sources = nil
	return taken
}

// closeOwn closes everything that was not handed over.
func (e *ends) closeOwn() {
	for _, f := range []*os.File{e.stdin, e.stdout, e.stderr, e.console, e.terminal, e.held} {
		if f != nil {
			_ = f.Close() // the process has its own descriptor; nothing was written through ours
		}
	}
	closeSources(e.sources)
}

// pump moves the output to log, or nowhere when it is nil, and to those who are attached, until it ends or run does.
func (src source) pump(run context.Context, log *crilog.File, taps *taps) {
	stop := context.AfterFunc(run, func() { _ = src.file.SetReadDeadline(time.Unix(1, 0)) }) // fails only when closed
	defer stop()
	defer closeSources([]source{src})
	from := tapped{waiting: waiting{src.file}, name: src.name, taps: taps}
	if log == nil {
		crilog.Discard(from)
		return
	}
	crilog.Pump(log, src.name, from)
}

// waiting is a pipe or terminal one can wait for without giving it a buffer.
type waiting struct{ *os.File }

// Ready blocks until there is something to read, or the end.
func (w waiting) Ready() error {
	raw, err := w.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
}
