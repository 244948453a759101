package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// helloLimit bounds how long a connection may stay without having said who it is.
const helloLimit = 5 * time.Second

// talk serves one connection: a handshake, then one request after another until the peer or ctx goes. What has been asked before is
// answered, unless it lasts as long as the peer likes.
func (s *Server) talk(ctx context.Context, conn *wire.Conn) {
	lasting, cancel := s.lasting(ctx)
	defer cancel()
	t := &dialogue{Server: s, conn: conn}
	defer context.AfterFunc(ctx, t.leave)()
	if err := t.hello(); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
			return // it will find the next image
		}
		s.log.Warn("connection refused", "error", err)
		return
	}
	for {
		frame, files, err := t.receive()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				s.log.Warn("connection dropped", "error", err)
			}
			return
		}
		t.turn(true)
		err = t.answer(ctx, lasting, frame, files)
		wire.CloseAll(files)
		if err != nil || !t.turn(false) { // the reply could not be sent, or was the last
			return
		}
	}
}

// dialogue is one connection being served.
type dialogue struct {
	*Server
	conn *wire.Conn

	mu   sync.Mutex
	busy bool // a request is being answered
	over bool // no other will be
}

// turn notes that a request is being answered or has been, and says whether there may be another.
func (t *dialogue) turn(busy bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = busy
	return !t.over
}

// replyLimit bounds how long a keeper that is to be replaced works on what it was asked before: an exit that waits for room on the disk
// must not hold it.
const replyLimit = 5 * time.Second

func (s *Server) lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	lasting, cancel := context.WithCancel(s.life)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(replyLimit, cancel) })
	return lasting, func() { stop(); cancel() }
}

// leave ends the dialogue, after the answer that is being given.
func (t *dialogue) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if !t.busy {
		_ = t.conn.Wake() // fails only when closed
	}
}

func (t *dialogue) hello() error {
	uid, err := t.conn.PeerUID()
	if err != nil {
		return err
	}
	if uid != 0 {
		return fmt.Errorf("peer is user %d, want root", uid)
	}
	if err := t.conn.SetDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	frame, files, err := t.receive()
	wire.CloseAll(files)
	if err != nil {
		return err
	}
	if frame.Op != wire.OpHello {
		return fmt.Errorf("first request is %q, want %q", frame.Op, wire.OpHello)
	}
	h, err := wire.DecodeHello(frame)
	if err != nil {
		return err
	}
	// A client of another version gets ours, and finds the words for its user.
	if err := t.send(wire.Frame{Op: wire.OpHello}, wire.Hello{Version: wire.Version, Boot: t.boot, Release: t.cfg.Release}); err != nil {
		return err
	}
	if h.Version != wire.Version {
		return fmt.Errorf("agent speaks version %d of their protocol, keeper %d: install the older one anew", h.Version, wire.Version)
	}
	return t.conn.SetDeadline(time.Time{})
}

func (t *dialogue) receive() (wire.Frame, []*os.File, error) {
	packet, files, err := t.conn.Recv()
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

func (t *dialogue) send(f wire.Frame, body any, files ...*os.File) error {
	packet, err := wire.Encode(f, body)
	if err != nil {
		return err
	}
	return t.conn.Send(packet, files...)
}

// answer does what a frame asks. A refusal is an answer; an error means that the connection is of no more use.
// lasting ends some time after ctx, so that what was asked before can be answered.
func (t *dialogue) answer(ctx, lasting context.Context, f wire.Frame, files []*os.File) error {
	switch f.Op {
	case wire.OpList:
		return t.list(f)
	case wire.OpStats:
		return t.stats(f)
	case wire.OpExits:
		return t.follow(ctx, f)
	case wire.OpStream:
		return t.execStream(ctx, f, files)
	case wire.OpAttach:
		return t.attach(ctx, f, files)
	case wire.OpExec:
		return t.exec(ctx, f)
	default:
		return t.done(f, t.act(lasting, f))
	}
}

// act does the requests whose answer is yes or no.
func (t *dialogue) act(ctx context.Context, f wire.Frame) error {
	switch f.Op {
	case wire.OpCreate:
		return with(f, func(spec keeper.Spec) error { return t.create(ctx, &spec) })
	case wire.OpStart:
		return with(f, func(r wire.Target) error { return t.start(ctx, r.ID) })
	case wire.OpDelete:
		return with(f, func(r wire.Target) error { return t.remove(ctx, r.ID) })
	case wire.OpKill:
		return with(f, func(r wire.Signal) error { return t.kill(r.ID, unix.Signal(r.Number), r.All) })
	case wire.OpDeadline:
		return with(f, func(r wire.Deadline) error { return t.setDeadline(r.ID, time.Duration(r.BoottimeNanosec)) })
	case wire.OpResize:
		return with(f, func(r wire.Resize) error { return t.resize(r.ID, r.Width, r.Height) })
	case wire.OpCleanAll:
		return t.cleanAll(ctx)
	default:
		return fmt.Errorf("operation %q: %w", f.Op, keeper.ErrUnsupported)
	}
}

// with decodes a body and does something with it.
func with[T any](f wire.Frame, do func(T) error) error {
	var body T
	if err := wire.DecodeBody(f, &body); err != nil {
		return fmt.Errorf("%w: %w", keeper.ErrInvalid, err)
	}
	return do(body)
}

// maxErrorBytes bounds an error text: libcontainer may quote the kernel at length.
const maxErrorBytes = 4 << 10

// done answers yes or no.
func (t *dialogue) done(f wire.Frame, err error) error {
	if err == nil {
		return t.send(wire.Frame{Op: f.Op}, nil)
	}
	text := err.Error()
	return t.send(wire.Frame{Op: f.Op, Code: keeper.Code(err), Error: text[:min(len(text), maxErrorBytes)]}, nil)
}

// list answers with every container.
func (t *dialogue) list(f wire.Frame) error {
	var items []any
	for _, c := range t.all() {
		if v, ok := c.view(); ok {
			items = append(items, v)
		}
	}
	return t.sendList(f, items)
}

// listBytes is about how much of a list one frame holds; one more item always fits.
const listBytes = wire.MaxFrameBytes / 4

// sendList answers with as many frames as it takes, at least one.
func (t *dialogue) sendList(f wire.Frame, items []any) error {
	part, size := []json.RawMessage{}, 0
	for _, item := range items {
		raw, err := json.Marshal(item)
		if err != nil {
			return t.done(f, err)
		}
		if size+len(raw) > listBytes && len(part) > 0 {
			if err := t.send(wire.Frame{Op: f.Op, More: true}, part); err != nil {
				return err
			}
			part, size = part[:0], 0
		}
		part, size = append(part, raw), size+len(raw)
	}
	return t.send(wire.Frame{Op: f.Op}, part)
}

func (t *dialogue) stats(f wire.Frame) error {
	var items []any
	err := with(f, func(r wire.IDs) error {
		chosen, err := t.choose(r.IDs)
		buf := make([]byte, statBytes)
		for _, c := range chosen {
			if s, ok := t.measure(c, buf); ok {
				items = append(items, s)
			}
		}
		return err
	})
	if err != nil {
		return t.done(f, err)
	}
	return t.sendList(f, items)
}

func (s *Server) choose(ids []string) ([]*container, error) {
	if len(ids) == 0 {
		return s.all(), nil
	}
	var out []*container
	for _, id := range ids {
		c, err := s.find(id)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// measure reads a running container's group; false for one that is not running.
func (s *Server) measure(c *container, buf []byte) (keeper.Stats, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return keeper.Stats{}, false
	}
	if c.gauges == nil {
		g, err := s.tree.openGauges(c.cgroup)
		if err != nil {
			s.log.Warn("no statistics", "id", c.id, "error", err)
			return keeper.Stats{}, false
		}
		c.gauges = g
	}
	return c.gauges.read(c.id, buf), true
}

// follow sends exits until the peer or the keeper goes.
func (t *dialogue) follow(ctx context.Context, f wire.Frame) error {
	var since wire.Since
	if err := wire.DecodeBody(f, &since); err != nil {
		return t.done(f, fmt.Errorf("%w: %w", keeper.ErrInvalid, err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends when the connection is closed, as it is after follow returns
		t.conn.Hangup()
		cancel()
	}()
	for {
		exits, err := t.exits.After(ctx, since.Seq)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return errors.Join(t.done(f, err), io.EOF)
		}
		for _, e := range exits {
			if err := t.send(wire.Frame{Op: f.Op, More: true}, e); err != nil {
				return err
			}
			since.Seq = e.Seq
		}
	}
}

// untilHangup calls do with a context that ends when the peer goes.
func (t *dialogue) untilHangup(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.conn.Hangup()
		cancel()
	}()
	err := do(ctx)
	if ctx.Err() != nil {
		return io.EOF
	}
	if err := t.conn.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	<-ended
	if err := t.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return err
}

func (t *dialogue) exec(ctx context.Context, f wire.Frame) error {
	req, spec, err := execRequest(f)
	if err != nil {
		return t.done(f, err)
	}
	var res keeper.ExecResult
	var execErr error
	err = t.untilHangup(ctx, func(ctx context.Context) error {
		res, execErr = t.Server.exec(ctx, req.ID, spec)
		return nil
	})
	if err != nil {
		return err
	}
	if execErr != nil {
		return t.done(f, execErr)
	}
	return t.send(wire.Frame{Op: f.Op}, res)
}

func execRequest(f wire.Frame) (wire.Exec, keeper.ExecSpec, error) {
	var req wire.Exec
	var spec keeper.ExecSpec
	err := wire.DecodeBody(f, &req)
	if err == nil {
		err = wire.DecodeBody(wire.Frame{Op: f.Op, Body: req.Spec}, &spec)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", keeper.ErrInvalid, err)
	}
	return req, spec, err
}
