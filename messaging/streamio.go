package messaging

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// Read implements net.Conn. What has arrived before a reset can still be read.
func (c *streamConn) Read(b []byte) (int, error) {
	for {
		if isClosed(c.readDeadline.wait()) {
			return 0, os.ErrDeadlineExceeded
		}
		n, credit, err := c.take(b)
		if credit > 0 {
			c.sendOrReset(frameCredit, creditPayload(credit))
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
		select {
		case <-c.readable:
		case <-c.done:
		case <-c.readDeadline.wait():
		}
	}
}

// take moves received bytes to b and says how much credit is due to the writer.
func (c *streamConn) take(b []byte) (n, credit int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, net.ErrClosed) {
		return 0, 0, c.err
	}
	for len(c.chunks) > 0 && n < len(b) {
		m := copy(b[n:], c.chunks[0])
		n += m
		c.release(m, m == len(c.chunks[0]))
	}
	if len(c.chunks) > 0 || c.readEOF || c.err != nil {
		wake(c.readable) // another reader may wait
	}
	if c.consumed >= windowBytes/4 && c.err == nil && !c.readEOF {
		credit, c.consumed = c.consumed, 0
	}
	switch {
	case n > 0:
		return n, credit, nil
	case c.err != nil:
		return 0, 0, c.err
	case c.readEOF:
		return 0, 0, io.EOF
	}
	return 0, credit, nil
}

// release accounts for n bytes of the first chunk that were read.
func (c *streamConn) release(n int, whole bool) {
	cost := n
	if whole {
		cost += frameCost
		c.chunks[0] = nil
		c.chunks = c.chunks[1:]
	} else {
		c.chunks[0] = c.chunks[0][n:]
	}
	c.held -= cost
	c.consumed += cost
}

// Write implements net.Conn. It returns when all is handed to the connection, which says nothing of its arrival.
func (c *streamConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	written := 0
	for written < len(b) {
		n, err := c.reserve(len(b) - written)
		if err != nil {
			return written, err
		}
		if err := c.send(frameData, b[written:written+n]); err != nil {
			c.reset(err.Error(), false)
			return written, fmt.Errorf("%w: %w", ErrStreamReset, err)
		}
		written += n
	}
	return written, nil
}

// reserve waits for credit for up to n bytes.
func (c *streamConn) reserve(n int) (int, error) {
	for {
		if isClosed(c.writeDeadline.wait()) {
			return 0, os.ErrDeadlineExceeded
		}
		if got, err := c.spend(n); got > 0 || err != nil {
			return got, err
		}
		select {
		case <-c.writable:
		case <-c.done:
		case <-c.writeDeadline.wait():
		}
	}
}

func (c *streamConn) spend(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	if c.credit < min(n, leastFrame)+frameCost {
		return 0, nil
	}
	n = min(n, maxPayload, c.credit-frameCost)
	c.credit -= n + frameCost
	return n, nil
}
