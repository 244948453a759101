package edgeagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/channels"
)

// instance finds the running instance of a container.
func (s *streams) instance(ctx context.Context, params map[string]string) (id string, err error) {
	uid, container := params["uid"], params["container"]
	w := s.loop.worker(uid)
	if w == nil {
		return "", fmt.Errorf("pod with uid %q is not on this node", uid)
	}
	err = fmt.Errorf("container %s is not running", container)
	w.call(ctx, func() {
		if c := w.obs.Containers[container]; c.State == pod.Running {
			id, err = c.ID, nil
		}
	})
	return id, err
}

// execTarget reads the parameters of an exec: uid, container, command (a JSON list), and stdin, stdout, stderr, tty.
func (s *streams) execTarget(ctx context.Context, params map[string]string) (id string, spec keeper.ExecSpec, err error) {
	if err := json.Unmarshal([]byte(params["command"]), &spec.Args); err != nil || len(spec.Args) == 0 {
		return "", spec, fmt.Errorf("command %.80q is not a list of words", params["command"])
	}
	spec.Terminal = params["tty"] == "true"
	spec.Width, spec.Height = 80, 24 // until the client says its size
	id, err = s.instance(ctx, params)
	return id, spec, err
}

// serveExec runs a command and carries its streams. The last frame says how it ended.
func (s *streams) serveExec(ctx context.Context, req messaging.OpenRequest, conn net.Conn) error {
	w := channels.NewWriter(conn)
	id, spec, err := s.execTarget(ctx, req.Params)
	if err != nil {
		return w.SendExit(channels.Exit{Error: err.Error()})
	}
	x := &execution{params: req.Params, terminal: spec.Terminal, in: channels.NewReader(conn), out: w}
	x.open = func(ctx context.Context, streams keeper.Streams) (session Session, err error) {
		session, x.screen, err = s.node.keeper.ExecStream(ctx, id, spec, streams)
		return session, err
	}
	x.resize = x.resizeScreen
	return x.serve(ctx)
}

// serveAttach carries a container's own streams from now on until it ends.
func (s *streams) serveAttach(ctx context.Context, req messaging.OpenRequest, conn net.Conn) error {
	w := channels.NewWriter(conn)
	id, err := s.instance(ctx, req.Params)
	if err != nil {
		return w.SendExit(channels.Exit{Error: err.Error()})
	}
	x := &execution{params: req.Params, in: channels.NewReader(conn), out: w}
	x.open = func(ctx context.Context, streams keeper.Streams) (Session, error) {
		return s.node.keeper.Attach(ctx, id, streams)
	}
	x.resize = func(size channels.Size) {
		if err := s.node.keeper.Resize(ctx, id, size.Width, size.Height); err != nil {
			s.node.log.Warn("terminal not resized", "id", id, "err", err)
		}
	}
	return x.serve(ctx)
}

// execution is one session, a process's or an attachment's, with its streams.
type execution struct {
	open     func(context.Context, keeper.Streams) (Session, error)
	resize   func(channels.Size)
	params   map[string]string
	terminal bool // the process gets one instead of streams
	in       *channels.Reader
	out      *channels.Writer
	stdin    *os.File // our end; nil when nobody types
	screen   *os.File // our end of the terminal, once open
	copies   sync.WaitGroup
}

// serve runs the session and says how it ended.
func (x *execution) serve(ctx context.Context) error {
	code, err := x.run(ctx)
	if err != nil {
		return errors.Join(x.out.SendExit(channels.Exit{Error: err.Error()}), err)
	}
	return x.out.SendExit(channels.Exit{Code: code})
}

func (x *execution) run(ctx context.Context) (int, error) {
	streams, outputs, err := x.pipes()
	if err != nil {
		return 0, err
	}
	session, err := x.open(ctx, streams)
	for _, f := range []*os.File{streams.Stdin, streams.Stdout, streams.Stderr} {
		if f != nil {
			_ = f.Close() // the process has its own
		}
	}
	defer x.close(outputs)
	if err != nil {
		return 0, err
	}
	defer func() { _ = session.Close() }() // a process that has ended, or that nobody talks to any more
	if x.screen != nil {
		x.stdin = x.screen
		outputs = map[byte]*os.File{channels.Stdout: x.screen}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for channel, f := range outputs {
		x.copies.Go(func() { _, _ = io.Copy(x.out.Channel(channel), f) }) // ends with the process, or with the stream
	}
	go func() { // ends with the stream, which is closed when we return
		x.input()
		cancel()
	}()
	code, err := session.Wait(ctx)
	if err == nil {
		x.drain()
	}
	return code, err
}

// drainTime bounds the wait for output after the process has ended: its children may keep the pipe open for ever.
const drainTime = 2 * time.Second

func (x *execution) drain() {
	done := make(chan struct{})
	go func() { // ends when the outputs are closed, at the latest
		x.copies.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTime):
	}
}

// pipes makes the ends for the process, and ours.
func (x *execution) pipes() (streams keeper.Streams, outputs map[byte]*os.File, err error) {
	outputs = map[byte]*os.File{}
	if x.terminal {
		return streams, outputs, nil
	}
	var errs []error
	output := func(name string, channel byte) *os.File {
		if x.params[name] != "true" {
			return nil
		}
		r, w, err := pipe(0)
		errs = append(errs, err)
		outputs[channel] = r
		return w
	}
	streams.Stdout, streams.Stderr = output("stdout", channels.Stdout), output("stderr", channels.Stderr)
	if x.params["stdin"] == "true" {
		streams.Stdin, x.stdin, err = pipe(1)
		errs = append(errs, err)
	}
	return streams, outputs, errors.Join(errs...)
}

// pipe makes a pipe of which one end, 0 to read or 1 to write, is ours. The other blocks: os.Pipe's do not, and a process
// that gets one fails with EAGAIN when it is faster than we are.
func pipe(ours int) (r, w *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	err = unix.SetNonblock(ends[ours], true) // so that closing it ends a read
	return os.NewFile(uintptr(ends[0]), "|0"), os.NewFile(uintptr(ends[1]), "|1"), os.NewSyscallError("setnonblock", err)
}

func (x *execution) close(outputs map[byte]*os.File) {
	for _, f := range outputs {
		_ = f.Close() // read to its end
	}
	for _, f := range []*os.File{x.stdin, x.screen} {
		if f != nil {
			_ = f.Close() // the process has gone; closing twice is harmless
		}
	}
}

// input carries what the client sends until it closes the stream.
func (x *execution) input() {
	for {
		channel, payload, err := x.in.Next()
		if err != nil {
			return
		}
		switch channel {
		case channels.Stdin:
			if x.stdin != nil {
				_, _ = x.stdin.Write(payload) // a process that does not read, or has ended, is no reason to end the session
			}
		case channels.Close:
			if x.stdin != nil && x.screen == nil {
				_ = x.stdin.Close() // the process sees the end of its input
			}
		case channels.Resize:
			var size channels.Size
			if json.Unmarshal(payload, &size) == nil {
				x.resize(size)
			}
		}
	}
}

func (x *execution) resizeScreen(size channels.Size) {
	if x.screen == nil {
		return
	}
	raw, err := x.screen.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // a terminal that has gone has no size
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	})
}

// target is a port inside a pod.
type target struct {
	netNS string // empty on the node's own network
	port  uint16
}

// forwardTarget reads the parameters of a port-forward: uid, port.
func (s *streams) forwardTarget(ctx context.Context, params map[string]string) (target, error) {
	port, err := strconv.ParseUint(params["port"], 10, 16)
	if err != nil || port == 0 {
		return target{}, fmt.Errorf("port %q is not a number from 1 to 65535", params["port"])
	}
	w := s.loop.worker(params["uid"])
	if w == nil {
		return target{}, fmt.Errorf("pod with uid %q is not on this node", params["uid"])
	}
	t, err := target{port: uint16(port)}, errors.New("the pod is not running")
	w.call(ctx, func() {
		if w.obs.Sandbox.State == pod.Done {
			t.netNS, err = w.sandbox.NetNS, nil
		}
	})
	return t, err
}

// forwardTimeout bounds the connection to a port inside the pod, which is on this very machine.
const forwardTimeout = 5 * time.Second

// serveForward carries one connection to a port on the pod's loopback address, as the kubelet does. One frame before all
// else says whether the port could be reached.
func (s *streams) serveForward(ctx context.Context, req messaging.OpenRequest, conn net.Conn) error {
	t, err := s.forwardTarget(ctx, req.Params)
	if err != nil {
		return err
	}
	inner, err := t.dial(ctx)
	if err != nil {
		return channels.NewWriter(conn).SendExit(channels.Exit{Error: err.Error()})
	}
	defer func() { _ = inner.Close() }() // it serves nobody any more
	if err := channels.NewWriter(conn).SendExit(channels.Exit{}); err != nil {
		return err
	}
	messaging.Join(inner, conn)
	return nil
}

func (t target) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: forwardTimeout}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(t.port)))
	if t.netNS == "" {
		return dialer.DialContext(ctx, "tcp", address)
	}
	return netns.Dial(dialer, t.netNS, "tcp", address)
}
