package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// Bounds of an exec.
const (
	// MaxExecOutput is the most output one Exec returns, in bytes; it fits one packet when encoded.
	MaxExecOutput = 128 << 10
	// DefaultExecOutput is used when ExecSpec.MaxOutput is zero; the kubelet keeps as much of a probe.
	DefaultExecOutput = 10 << 10
)

// ExecSpec is a process to run in a running container, with the container's namespaces, cgroup, capabilities and limits.
type ExecSpec struct {
	Args []string `json:"args"`
	// Env replaces the container's environment; nil means the container's own.
	Env []string `json:"env,omitempty"`
	// User is nil for the container's own.
	User *User `json:"user,omitempty"`
	// Cwd is absolute; empty means the container's own.
	Cwd string `json:"cwd,omitempty"`
	// Timeout kills the process; zero means no bound but the caller's context. Only for Exec.
	Timeout time.Duration `json:"timeout,omitempty"`
	// MaxOutput bounds what Exec keeps of standard output and error together; zero means DefaultExecOutput. The rest is read and dropped.
	MaxOutput int `json:"maxOutput,omitempty"`
	// Terminal gives the process a pseudo-terminal of Width by Height characters. Only for ExecStream.
	Terminal bool   `json:"terminal,omitempty"`
	Width    uint16 `json:"width,omitempty"`
	Height   uint16 `json:"height,omitempty"`
}

// ExecResult is how an exec ended.
type ExecResult struct {
	// ExitCode is 128 + the signal when a signal ended the process.
	ExitCode int `json:"exitCode"`
	// Output is standard output and error in the order they were read.
	Output    []byte `json:"output,omitempty"`
	Truncated bool   `json:"truncated,omitempty"` // there was more than MaxOutput
	TimedOut  bool   `json:"timedOut,omitempty"`  // the process was killed by Timeout; ExitCode is 137
}

// Streams are the ends that the process gets, each nil for /dev/null. They stay the caller's, who should close them after
// ExecStream returns so that the process's end is seen as end of file.
type Streams struct {
	Stdin, Stdout, Stderr *os.File
}

// Session is a process started by ExecStream, or an attachment. Use it from one goroutine; Close may be called from any.
type Session struct {
	// Terminal is the master side of the pseudo-terminal, nil without one. It is the caller's to use and close.
	Terminal *os.File
	// PID is in the keeper's PID namespace; zero for an attachment.
	PID  int
	conn *wire.Conn
}

// Exec runs a process in a container and waits for it. When ctx ends first, the process is killed and ctx's error returned.
func (c *Client) Exec(ctx context.Context, id string, spec ExecSpec) (ExecResult, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return ExecResult{}, fmt.Errorf("encode exec in %s: %w", id, err)
	}
	var res ExecResult
	err = c.call(ctx, wire.OpExec, wire.Exec{ID: id, Spec: raw}, &res)
	return res, err
}

// ExecStream starts a process in a container on the given streams, or on a new pseudo-terminal, and returns at once. The process is
// killed when the session is closed or the caller's process dies. ctx bounds only the start.
func (c *Client) ExecStream(ctx context.Context, id string, spec ExecSpec, streams Streams) (*Session, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	s, err := startSession(ctx, conn, id, spec, streams)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("exec in %s: %w", id, err), conn.Close())
	}
	return s, nil
}

func startSession(ctx context.Context, conn *wire.Conn, id string, spec ExecSpec, streams Streams) (*Session, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	files, has := streams.present()
	return openSession(ctx, conn, wire.OpStream, wire.Exec{ID: id, Spec: raw, Has: has}, files)
}

// present lists the streams that are not nil, and says which.
func (s Streams) present() (files []*os.File, has [3]bool) {
	for i, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			has[i] = true
			files = append(files, f)
		}
	}
	return files, has
}

// Attach connects the streams to a container's own: what it writes from now on, not before, and its standard input, if Spec.Stdin gives it
// one. The session ends with the container, and with Stdin unless Spec.StdinOnce says otherwise; Wait then returns zero, whatever
// the container's exit code. Who does not read for a while is detached rather than let the container wait. ErrConflict: it does not run.
func (c *Client) Attach(ctx context.Context, id string, streams Streams) (*Session, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	files, has := streams.present()
	s, err := openSession(ctx, conn, wire.OpAttach, wire.Attach{ID: id, Has: has}, files)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach to %s: %w", id, err), conn.Close())
	}
	return s, nil
}

// Resize tells the terminal of a container its size in characters. Without a terminal nothing happens.
func (c *Client) Resize(ctx context.Context, id string, width, height uint16) error {
	return c.call(ctx, wire.OpResize, wire.Resize{ID: id, Width: width, Height: height}, nil)
}

func openSession(ctx context.Context, conn *wire.Conn, op string, req any, files []*os.File) (*Session, error) {
	var started wire.Started
	frame, received, err := roundTrip(ctx, conn, op, req, files)
	if err == nil {
		err = reply(frame, &started)
	}
	if err != nil {
		wire.CloseAll(received)
		return nil, err
	}
	s := &Session{PID: started.PID, conn: conn}
	if len(received) > 0 {
		s.Terminal = received[0]
		wire.CloseAll(received[1:])
	}
	return s, nil
}

// Wait returns the exit code of the process; io.ErrUnexpectedEOF when the keeper has gone. When ctx ends first its error is returned and the
// process keeps running until Close.
func (s *Session) Wait(ctx context.Context) (int, error) {
	var res ExecResult
	frame, files, err := receive(ctx, s.conn)
	wire.CloseAll(files)
	if errors.Is(err, io.EOF) {
		return 0, io.ErrUnexpectedEOF
	}
	if err == nil {
		err = reply(frame, &res)
	}
	return res.ExitCode, err
}

// Close kills the process if it still runs (an attachment's goes on) and frees the session. It does not close Terminal.
func (s *Session) Close() error { return s.conn.Close() }
