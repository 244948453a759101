// Package keeper is the agent's side of the keeper, the process that is the parent of every container of a node.
//
// The client asks over a local SEQPACKET socket; keeper/server answers and is the only importer of libcontainer. Containers outlive the agent: a new
// agent dials, lists what runs (Spec.Labels tell it whose it is) and reads the exits it missed by their sequence number.
// This package must not import libcontainer, start processes, or decide what should run.
//
// Every request may be repeated after ErrUnavailable: Create answers ErrExists, Start and Delete of what is started or gone
// succeed, Kill of what has exited succeeds.
package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// maxIdle is how many unused connections are kept: as many as an agent's usual parallel starts.
const maxIdle = 4

// Client asks one keeper. Safe for concurrent use: each request has a connection of its own, and a keeper that was restarted is
// found again by the next request.
type Client struct {
	path      string
	handshake time.Duration // the longest that one may take

	mu     sync.Mutex
	idle   []*wire.Conn
	closed bool
	boot   string
}

// Dial connects to the keeper at socketPath and checks that both speak the same protocol. ErrUnavailable: nobody listens;
// ErrVersion: the releases differ.
func Dial(ctx context.Context, socketPath string) (*Client, error) {
	c := &Client{path: socketPath, handshake: handshakeLimit}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	c.put(conn)
	return c, nil
}

// Close closes the client's connections. Requests under way are not ended; sessions stay open.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for _, conn := range c.idle {
		errs = append(errs, conn.Close())
	}
	c.idle = nil
	return errors.Join(errs...)
}

// Boot identifies the keeper's boot of the node as of the latest connection. It changes with a restart of the node, not of the keeper.
func (c *Client) Boot() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.boot
}

// Create makes the container and its process, which waits for Start. Nothing of it is left when the keeper refuses; ErrNoCommand: there is
// no such command in Rootfs or it is not executable.
func (c *Client) Create(ctx context.Context, spec Spec) error {
	return c.call(ctx, wire.OpCreate, spec, nil)
}

// Start lets a created container's process run its command. A running or exited container is left as it is. A command that the kernel refuses
// only now (a file of another architecture) ends the container with code 255.
func (c *Client) Start(ctx context.Context, id string) error {
	return c.call(ctx, wire.OpStart, wire.Target{ID: id}, nil)
}

// Kill sends a signal to the container's first process, or to all of its processes. Killing an exited container does nothing.
func (c *Client) Kill(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	return c.call(ctx, wire.OpKill, wire.Signal{ID: id, Number: int(sig), All: all}, nil)
}

// Delete removes an exited or created container and its cgroup. ErrConflict: it is running. A container that is not there is no error.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.call(ctx, wire.OpDelete, wire.Target{ID: id}, nil)
}

// List returns every container the keeper has, sorted by ID; nil for none.
func (c *Client) List(ctx context.Context) ([]Container, error) {
	return collect[Container](ctx, c, wire.OpList, wire.IDs{})
}

// Stats reads the cgroups of the named containers, all running ones for no ids. Containers that have exited are left out.
func (c *Client) Stats(ctx context.Context, ids ...string) ([]Stats, error) {
	return collect[Stats](ctx, c, wire.OpStats, wire.IDs{IDs: ids})
}

// Deadline has the keeper kill the container when the boot-time clock (CLOCK_BOOTTIME, it runs while the machine sleeps) reaches at and no
// later deadline was set before. It holds when the agent hangs or dies and across a restart of the keeper. Zero removes the deadline.
func (c *Client) Deadline(ctx context.Context, id string, at time.Duration) error {
	return c.call(ctx, wire.OpDeadline, wire.Deadline{ID: id, BoottimeNanosec: int64(at)}, nil)
}

// CleanAll kills and removes every container of this keeper and everything else in its cgroup parent.
func (c *Client) CleanAll(ctx context.Context) error {
	return c.call(ctx, wire.OpCleanAll, nil, nil)
}

// Exits calls f with every exit after fromSeq, oldest first, the known ones and then new ones as they happen, until ctx ends (its error
// is returned), f returns an error (returned) or the keeper goes (ErrUnavailable: call again with the last Seq seen). ErrTruncated: the log no longer
// reaches back to fromSeq; List and start from the oldest kept with zero.
func (c *Client) Exits(ctx context.Context, fromSeq uint64, f func(Exit) error) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // only read from
	frame, files, err := roundTrip(ctx, conn, wire.OpExits, wire.Since{Seq: fromSeq}, nil)
	for ; err == nil; frame, files, err = receive(ctx, conn) {
		wire.CloseAll(files)
		var e Exit
		if err := reply(frame, &e); err != nil {
			return fmt.Errorf("follow exits: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return lost(ctx, "follow exits", err)
}

// collect gathers a reply of several frames.
func collect[T any](ctx context.Context, c *Client, op string, body any) ([]T, error) {
	var all []T
	err := c.exchange(ctx, op, body, func(f wire.Frame) error {
		var part []T
		if err := reply(f, &part); err != nil {
			return err
		}
		all = append(all, part...)
		return nil
	})
	return all, err
}

// call does one request with one reply; out is nil when only success matters.
func (c *Client) call(ctx context.Context, op string, body, out any) error {
	return c.exchange(ctx, op, body, func(f wire.Frame) error { return reply(f, out) })
}

// exchange does one request and hands over each frame of its reply. The connection is reused only when all went well.
func (c *Client) exchange(ctx context.Context, op string, body any, each func(wire.Frame) error) error {
	conn, frame, files, err := c.ask(ctx, op, body)
	if conn == nil {
		return err
	}
	for err == nil {
		wire.CloseAll(files)
		if err := each(frame); err != nil {
			if frame.Code == "" {
				return errors.Join(err, conn.Close())
			}
			c.put(conn) // a refusal is a complete reply
			return err
		}
		if !frame.More {
			c.put(conn)
			return nil
		}
		frame, files, err = receive(ctx, conn)
	}
	_ = conn.Close() // already broken; err says how
	return lost(ctx, op, err)
}

// askTries is how often a request is sent that nobody has read: on every idle connection, and on new ones to a keeper that is replaced again and
// again.
const askTries = 4 * maxIdle

// ask sends a request and receives the first frame of its reply. A connection that the keeper closed just then, because it is being
// replaced, has not carried the request: it goes over another. conn is nil when there is none.
func (c *Client) ask(ctx context.Context, op string, body any) (conn *wire.Conn, f wire.Frame, files []*os.File, err error) {
	for range askTries {
		if conn, err = c.get(ctx); err != nil {
			return nil, f, nil, err
		}
		f, files, err = roundTrip(ctx, conn, op, body, nil)
		if !errors.Is(err, wire.ErrUnheard) {
			break
		}
		_ = conn.Close() // its keeper has gone
	}
	return conn, f, files, err
}

// lost explains a broken exchange: the caller's own end, or the keeper's.
func lost(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if errors.Is(err, wire.ErrTooLarge) || errors.Is(err, syscall.EMSGSIZE) {
		return fmt.Errorf("%s: %w: %w", what, ErrInvalid, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}

// get returns an idle connection that is still alive, or a new one.
func (c *Client) get(ctx context.Context) (*wire.Conn, error) {
	for {
		conn, err := c.pop()
		if err != nil {
			return nil, err
		}
		if conn == nil {
			return c.dial(ctx)
		}
		if conn.Alive() {
			return conn, nil
		}
		_ = conn.Close() // its keeper has gone
	}
}

func (c *Client) pop() (*wire.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("keeper client: %w", os.ErrClosed)
	}
	if len(c.idle) == 0 {
		return nil, nil
	}
	conn := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return conn, nil
}

func (c *Client) put(conn *wire.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdle {
		_ = conn.Close() // between requests: nothing is lost
		return
	}
	c.idle = append(c.idle, conn)
}

// dialTries is how often a keeper may hang up instead of shaking hands: one that is being replaced does so once at most.
const dialTries = 3

// handshakeLimit bounds the handshake, for which a keeper needs nothing and nobody: one that does not answer even this is hung, or has no place left.
const handshakeLimit = 30 * time.Second

// dial opens a connection and shakes hands.
func (c *Client) dial(ctx context.Context) (conn *wire.Conn, err error) {
	for range dialTries {
		if conn, err = c.dialOnce(ctx); !errors.Is(err, io.EOF) && !errors.Is(err, wire.ErrUnheard) {
			break
		}
	}
	return conn, err
}

func (c *Client) dialOnce(ctx context.Context) (*wire.Conn, error) {
	conn, err := wire.Dial(c.path)
	if err != nil {
		return nil, fmt.Errorf("dial keeper: %w: %w", ErrUnavailable, err)
	}
	limited, cancel := context.WithTimeout(ctx, c.handshake)
	defer cancel()
	frame, files, err := roundTrip(limited, conn, wire.OpHello, wire.Hello{Version: wire.Version}, nil)
	wire.CloseAll(files)
	if err != nil {
		return nil, errors.Join(lost(ctx, "dial keeper", err), conn.Close())
	}
	hello, err := welcome(frame)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dial keeper: %w", err), conn.Close())
	}
	c.mu.Lock()
	c.boot = hello.Boot
	c.mu.Unlock()
	return conn, nil
}

// welcome reads the keeper's half of the handshake, and says which of the two is too old.
func welcome(f wire.Frame) (wire.Hello, error) {
	if f.Code != "" {
		return wire.Hello{}, refused(f)
	}
	h, err := wire.DecodeHello(f)
	if err != nil || h.Version == wire.Version {
		return h, err
	}
	advice := "install a newer skerry-keeper, and send it SIGHUP"
	if h.Version > wire.Version {
		advice = "install a newer skerry-agent, and restart it"
	}
	return h, fmt.Errorf("%w: keeper (release %s) speaks version %d of their protocol, agent %d: %s; containers run on",
		ErrVersion, cmp.Or(h.Release, "unknown"), h.Version, wire.Version, advice)
}

// roundTrip sends a request and receives the first frame of its reply.
func roundTrip(ctx context.Context, conn *wire.Conn, op string, body any, files []*os.File) (wire.Frame, []*os.File, error) {
	packet, err := wire.Encode(wire.Frame{Op: op}, body)
	if err != nil {
		return wire.Frame{}, nil, err
	}
	defer interruptible(ctx, conn)()
	if err := conn.Send(packet, files...); err != nil {
		return wire.Frame{}, nil, err
	}
	return receiveFrame(conn)
}

func receive(ctx context.Context, conn *wire.Conn) (wire.Frame, []*os.File, error) {
	defer interruptible(ctx, conn)()
	return receiveFrame(conn)
}

func receiveFrame(conn *wire.Conn) (wire.Frame, []*os.File, error) {
	packet, files, err := conn.Recv()
	if err != nil {
		return wire.Frame{}, nil, err
	}
	frame, err := wire.Decode(packet)
	if err != nil {
		wire.CloseAll(files)
		return wire.Frame{}, nil, err
	}
	return frame, files, nil
}

// interruptible makes the connection's waits end with ctx, until the returned function is called.
func interruptible(ctx context.Context, conn *wire.Conn) func() {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // fails only when the connection is closed, which ends the waits too
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
			_ = conn.SetDeadline(time.Time{})
		}
	}
}

// reply reads a frame into out, or the error it carries.
func reply(f wire.Frame, out any) error {
	if f.Code != "" {
		return refused(f)
	}
	if out == nil {
		return nil
	}
	return wire.DecodeBody(f, out)
}
