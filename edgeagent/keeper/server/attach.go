package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// tapPatience is how long a container's output waits for somebody who is attached and does not read. Then he is detached.
const tapPatience = 10 * time.Second

// taps are the ends of those who are attached to a container's output.
type taps struct {
	mu   sync.Mutex
	ends map[string][]*os.File // by stream
}

// tapped is a source whose bytes go to the attached as well.
type tapped struct {
	waiting
	name string
	taps *taps
}

// Read reads once and tells the attached. A waiting container costs nothing: nobody is attached to most.
func (t tapped) Read(b []byte) (int, error) {
	n, err := t.waiting.Read(b)
	if n > 0 {
		t.taps.write(t.name, b[:n])
	}
	return n, err
}

func (t *taps) write(stream string, data []byte) {
	t.mu.Lock()
	ends := slices.Clone(t.ends[stream])
	t.mu.Unlock()
	for _, f := range ends {
		err := f.SetWriteDeadline(time.Now().Add(tapPatience))
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.remove(f)
		}
	}
}

func (t *taps) add(stream string, f *os.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = map[string][]*os.File{}
	}
	t.ends[stream] = append(t.ends[stream], f)
}

// remove closes an end: who reads it sees that there is no more. It may be repeated.
func (t *taps) remove(f *os.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, ends := range t.ends {
		t.ends[name] = slices.DeleteFunc(ends, func(e *os.File) bool { return e == f })
	}
	_ = f.Close() // what the reader has not taken is lost to him alone: it is in the log
}

// stdin is what the keeper knows of a container's standard input.
type stdin struct {
	open     bool     // it has one that has not ended
	held     *os.File // of one that is to end: keeps the pipe from ending; its writers come and go
	terminal *os.File // the terminal's master, which the pump owns
}

// attach serves one attachment: the connection is the session, and ends with it.
func (t *dialogue) attach(ctx context.Context, f wire.Frame, files []*os.File) error {
	var req wire.Attach
	if err := wire.DecodeBody(f, &req); err != nil {
		return t.done(f, fmt.Errorf("%w: %w", keeper.ErrInvalid, err))
	}
	a, err := t.openAttachment(req, files)
	if err != nil {
		return t.done(f, err)
	}
	defer t.closeAttachment(a)
	if err := t.send(wire.Frame{Op: f.Op, More: true}, wire.Started{}); err != nil {
		return err
	}
	err = t.untilHangup(ctx, func(ctx context.Context) error { t.carry(ctx, a); return nil })
	if errors.Is(err, io.EOF) {
		return err
	}
	if err != nil {
		return t.done(f, err)
	}
	return t.send(wire.Frame{Op: f.Op}, keeper.ExecResult{})
}

// attachment is one session on a container's own streams.
type attachment struct {
	c       *container
	from    *os.File // what the peer types; nil for nobody
	into    *os.File // the container's standard input; nil for none, or one that has ended
	outputs []*os.File
}

func (s *Server) openAttachment(req wire.Attach, files []*os.File) (*attachment, error) {
	c, err := s.find(req.ID)
	if err != nil {
		return nil, err
	}
	if state := c.current(); state != keeper.Running && state != keeper.Created {
		return nil, fmt.Errorf("it is %s: %w", state, keeper.ErrConflict)
	}
	stdin, stdout, stderr, err := sorted(req.Has, files)
	if err != nil {
		return nil, err
	}
	a := &attachment{c: c}
	if err := s.connect(a, stdin, stdout, stderr); err != nil {
		s.closeAttachment(a)
		return nil, err
	}
	return a, nil
}

// connect takes over the descriptors that came along.
func (s *Server) connect(a *attachment, stdin, stdout, stderr *os.File) (err error) {
	if stdin != nil {
		if a.from, err = nonBlocking(stdin); err != nil {
			return err
		}
		if a.into, err = s.openInput(a.c); err != nil {
			return err
		}
	}
	for name, f := range map[string]*os.File{stdoutFile: stdout, stderrFile: stderr} {
		if f == nil {
			continue
		}
		end, err := nonBlocking(f)
		if err != nil {
			return err
		}
		a.outputs = append(a.outputs, end)
		a.c.taps.add(name, end)
	}
	return nil
}

// openInput opens the container's standard input for one writer; nil when there is none.
func (s *Server) openInput(c *container) (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.stdin.terminal != nil:
		return again(c.stdin.terminal)
	case !c.stdin.open:
		return nil, nil
	}
	f, err := os.OpenFile(s.shelf.path(c.id, stdinFile), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENXIO) { // the container has closed it, or has ended
		return nil, nil
	}
	return f, err
}

// again opens a second file on f's description, with deadlines of its own. f is one that waits in the poller.
func again(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, nil //nolint:nilerr // it is closed: the container has ended
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, nil //nolint:nilerr // likewise
	}
	if dupErr != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// carry moves the peer's input until the session is over: with the container or with ctx. As in containerd, the end of an input that
// ends nothing in the container ends the session too.
func (s *Server) carry(ctx context.Context, a *attachment) {
	typed := make(chan struct{})
	if a.from != nil {
		go func() { // ends with the input, or when interrupted
			defer close(typed)
			a.copy()
		}()
		defer func() { a.interrupt(); <-typed }()
	}
	select {
	case <-ctx.Done():
		return
	case <-a.c.ended:
		return
	case <-typed:
	}
	if a.into != nil && !a.c.stdinOnce {
		return
	}
	s.endInput(a)
	select {
	case <-ctx.Done():
	case <-a.c.ended:
	}
}

func (a *attachment) interrupt() {
	for _, f := range []*os.File{a.from, a.into} {
		if f != nil {
			_ = f.SetDeadline(time.Unix(1, 0)) // fails only when closed
		}
	}
}

// copy moves what the peer types. Without a place to go, it is refused: who writes on sees a broken pipe.
func (a *attachment) copy() {
	if a.into == nil {
		_ = a.from.Close() // nothing was written to it
		return
	}
	_, _ = io.Copy(a.into, a.from) // either end may go; both mean that nothing more is typed
}

// endInput ends what the attachment writes to, and the container's standard input if this was its only chance.
func (s *Server) endInput(a *attachment) {
	if a.into == nil {
		return
	}
	_ = a.into.Close() // a pipe or a terminal: nothing is buffered
	a.into = nil
	if err := s.endStdin(a.c); err != nil {
		s.log.Warn("end of standard input not remembered", "id", a.c.id, "error", err) // a keeper that crashes now opens it again
	}
}

// endStdin ends a standard input that is for one attachment only.
func (s *Server) endStdin(c *container) error {
	c.mu.Lock()
	held := c.stdin.held
	if held == nil {
		c.mu.Unlock()
		return nil
	}
	c.stdin.held, c.stdin.open = nil, false
	c.mu.Unlock()
	return errors.Join(s.amend(c, func(r *record) { r.StdinEnded = true }), held.Close())
}

func (s *Server) closeAttachment(a *attachment) {
	for _, f := range a.outputs {
		a.c.taps.remove(f)
	}
	if a.from != nil {
		_ = a.from.Close() // only read from
	}
	s.endInput(a)
}

// resize tells the container's terminal its size.
func (s *Server) resize(id string, width, height uint16) error {
	c, err := s.find(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	terminal := c.stdin.terminal
	c.mu.Unlock()
	if terminal == nil {
		return nil
	}
	raw, err := terminal.SyscallConn()
	if err != nil {
		return nil //nolint:nilerr // it is closed: the container has ended
	}
	_ = raw.Control(func(fd uintptr) { // a terminal that has gone has no size
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return nil
}
