package coordinator

import (
	"net"
	"testing"
)

// queue is a listener of connections that were made before.
type queue chan net.Conn

func (q queue) Accept() (net.Conn, error) {
	conn, ok := <-q
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (q queue) Close() error   { return nil }
func (q queue) Addr() net.Addr { return peerAddr("all") }

type peerAddr string

func (a peerAddr) Network() string { return "test" }
func (a peerAddr) String() string  { return string(a) }

type peerConn struct {
	net.Conn
	peer   peerAddr
	closed *bool
}

func (c peerConn) RemoteAddr() net.Addr { return c.peer }
func (c peerConn) Close() error {
	*c.closed = true
	return nil
}

func TestFairListenerBoundsEachPeer(t *testing.T) {
	connections := make(queue, 8)
	var refused bool
	for _, peer := range []peerAddr{"n1", "n1", "n1", "n2"} {
		connections <- peerConn{peer: peer, closed: &refused}
	}
	l := newFairListener(connections, 2)
	var open []net.Conn
	for _, want := range []string{"n1", "n1", "n2"} {
		conn, err := l.Accept()
		if err != nil || conn.RemoteAddr().String() != want {
			t.Fatalf("accepted %v, %v; want one of %s", conn, err, want)
		}
		open = append(open, conn)
	}
	if !refused {
		t.Error("the third of n1 was not closed")
	}
	for range 2 { // closing twice gives back one place
		if err := open[0].Close(); err != nil {
			t.Error(err)
		}
	}
	if got := l.open["n1"]; got != 1 {
		t.Errorf("n1 has %d open, want 1", got)
	}
	connections <- peerConn{peer: "n1", closed: new(bool)}
	if _, err := l.Accept(); err != nil {
		t.Error(err)
	}
	close(connections)
	if _, err := l.Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
}
