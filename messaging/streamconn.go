package messaging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pingInterval is how long a side may be silent, and peerTimeout how long it is waited for.
	pingInterval = 10 * time.Second
	peerTimeout  = 30 * time.Second
	// leastFrame keeps a writer from sending crumbs when credit comes back in small pieces.
	leastFrame = 16 << 10
)

// streamAddr is a node's name as a net.Addr.
type streamAddr string

// Network implements net.Addr.
func (streamAddr) Network() string { return "nats" }

// String is the name.
func (a streamAddr) String() string { return string(a) }

// streamConn is one end of a byte stream. Its methods may be called concurrently.
type streamConn struct {
	nc            *nats.Conn
	sub           *nats.Subscription
	subject       string // where we send
	local, remote net.Addr

	readDeadline, writeDeadline *deadline
	readable, writable          chan struct{} // one slot each: something has changed for a reader, for a writer
	done                        chan struct{} // closed with the first of Close and reset

	writing sync.Mutex // one Write at a time, so that its frames stay together
	sending sync.Mutex // guards what follows, and the order of frames
	sent    uint32
	sentAt  time.Time
	buf     []byte

	mu       sync.Mutex // guards what follows
	chunks   [][]byte   // received and unread
	held     int        // their cost
	consumed int        // cost of what was read since the last credit
	received uint32     // frames
	heardAt  time.Time
	credit   int
	readEOF  bool
	writeErr error // why no more can be written: nil, net.ErrClosed or the peer's close
	err      error // why the stream is over: nil, net.ErrClosed or an ErrStreamReset
}

// newStreamConn subscribes, so that no frame of the peer is missed, and sends nothing.
func newStreamConn(nc *nats.Conn, node, session string, side Side) (*streamConn, error) {
	in, out := StreamSubject(node, session, "out"), StreamSubject(node, session, "in")
	local, remote := streamAddr("coordinator"), streamAddr(node)
	if side == NodeSide {
		in, out, local, remote = out, in, remote, local
	}
	now := time.Now()
	c := &streamConn{
		nc: nc, subject: out, local: local, remote: remote,
		readDeadline: newDeadline(), writeDeadline: newDeadline(),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), done: make(chan struct{}),
		sentAt: now, heardAt: now, credit: windowBytes,
	}
	var err error
	if c.sub, err = nc.Subscribe(in, func(m *nats.Msg) { c.receive(m.Data) }); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", in, err)
	}
	// Above what the window allows, so that only a peer that breaks the rules loses frames.
	if err := c.sub.SetPendingLimits(2*windowBytes/frameCost, 4*windowBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to %s: %w", in, err), c.sub.Unsubscribe())
	}
	return c, nil
}

// keepAlive runs until the stream is over.
func (c *streamConn) keepAlive() {
	tick := time.NewTicker(pingInterval / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.done:
			return
		case now := <-tick.C:
			if c.silentFor(now) > peerTimeout {
				c.reset("the other side is gone", true)
				return
			}
			c.ping(now)
		}
	}
}

func (c *streamConn) silentFor(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.heardAt)
}

func (c *streamConn) ping(now time.Time) {
	c.sending.Lock()
	idle := now.Sub(c.sentAt)
	c.sending.Unlock()
	if idle >= pingInterval/2 {
		c.sendOrReset(framePing, nil)
	}
}

func (c *streamConn) send(kind frameType, payload []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	c.sent++
	c.buf = frame{kind: kind, seq: c.sent, payload: payload}.append(c.buf[:0])
	c.sentAt = time.Now()
	if err := c.nc.Publish(c.subject, c.buf); err != nil {
		return fmt.Errorf("send on %s: %w", c.subject, err)
	}
	return nil
}

func (c *streamConn) sendOrReset(kind frameType, payload []byte) {
	if err := c.send(kind, payload); err != nil {
		c.reset(err.Error(), false)
	}
}

// reset ends the stream; with tell, the other side learns why at once.
func (c *streamConn) reset(reason string, tell bool) {
	if !c.end(fmt.Errorf("%w: %s", ErrStreamReset, reason)) {
		return
	}
	if tell {
		// If it cannot be told, it notices by the silence.
		_ = c.send(frameReset, []byte(reason[:min(len(reason), maxReason)]))
	}
	_ = c.sub.Unsubscribe() // fails only when the connection is closed
}

// end says whether this call has ended the stream.
func (c *streamConn) end(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	close(c.done)
	return true
}

// receive handles one frame on the subscription's goroutine. It never blocks.
func (c *streamConn) receive(b []byte) {
	f, err := parseFrame(b)
	if err != nil {
		c.reset(err.Error(), true)
		return
	}
	if err := c.accept(f); err != nil {
		var peer peerReset
		c.reset(err.Error(), !errors.As(err, &peer))
	}
}

// peerReset is what the other side says in a reset.
type peerReset string

func (p peerReset) Error() string { return "by the other side: " + string(p) }

func (c *streamConn) accept(f frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.kind == frameReset { // whatever was lost before it
		return peerReset(f.payload)
	}
	c.received++
	c.heardAt = time.Now()
	if f.seq != c.received {
		return fmt.Errorf("frame %d is missing", c.received)
	}
	switch f.kind {
	case frameData:
		if c.readEOF {
			return errors.New("data after the end")
		}
		if c.held += len(f.payload) + frameCost; c.held > windowBytes {
			return errors.New("more data than the window holds")
		}
		c.chunks = append(c.chunks, f.payload)
		wake(c.readable)
	case frameCredit:
		if c.credit += int(binary.BigEndian.Uint32(f.payload)); c.credit > windowBytes {
			return errors.New("more credit than the window holds")
		}
		wake(c.writable)
	case frameEOF, frameClose:
		c.readEOF = true
		if f.kind == frameClose && c.writeErr == nil {
			c.writeErr = fmt.Errorf("%w: the other side has closed it", io.ErrClosedPipe)
		}
		wake(c.readable)
		wake(c.writable)
	case framePing, frameReset:
	}
	return nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// CloseWrite says that no more will be written; reading goes on. It is like a TCP connection's.
func (c *streamConn) CloseWrite() error {
	if err := c.stopWriting(); err != nil {
		if errors.Is(err, errAlreadyStopped) {
			return nil
		}
		return err
	}
	c.writing.Lock() // a Write that has begun finishes, or fails, first
	defer c.writing.Unlock()
	return c.send(frameEOF, nil)
}

var errAlreadyStopped = errors.New("already closed for writing")

func (c *streamConn) stopWriting() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case errors.Is(c.writeErr, net.ErrClosed):
		return errAlreadyStopped
	}
	c.writeErr = net.ErrClosed
	wake(c.writable)
	return nil
}

// Close implements net.Conn. The other side can still read what was written.
func (c *streamConn) Close() error {
	if !c.end(net.ErrClosed) {
		return nil
	}
	// If it cannot be told, the other side notices by the silence.
	_ = c.send(frameClose, nil)
	_ = c.sub.Unsubscribe() // fails only when the connection is closed
	return nil
}

// LocalAddr implements net.Conn: the node's name, or "coordinator".
func (c *streamConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn: the node's name, or "coordinator".
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(t time.Time) error {
	c.readDeadline.set(t)
	c.writeDeadline.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.readDeadline.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *streamConn) SetWriteDeadline(t time.Time) error {
	c.writeDeadline.set(t)
	return nil
}
