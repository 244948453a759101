package coordinator

import (
	"net"
	"sync"
)

// streamsPerNode is how many connections of one node's pods the API serves at once. Agents open no more than half as many;
// the rest is for those that a node which restarted has left behind, until silence ends them.
const streamsPerNode = 2 * 64

// fairListener bounds the open connections of each peer, so that one node cannot take what all others need. A connection
// too many is closed at once.
type fairListener struct {
	net.Listener
	limit int

	mu   sync.Mutex
	open map[string]int // by peer; a peer without connections has no entry
}

func newFairListener(inner net.Listener, limit int) *fairListener {
	return &fairListener{Listener: inner, limit: limit, open: map[string]int{}}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := conn.RemoteAddr().String()
		if l.enter(peer) {
			return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(peer) })}, nil
		}
		_ = conn.Close() // the peer sees that it has ended
	}
}

func (l *fairListener) enter(peer string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[peer] >= l.limit {
		return false
	}
	l.open[peer]++
	return true
}

func (l *fairListener) leave(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[peer]--; l.open[peer] == 0 {
		delete(l.open, peer)
	}
}

// countedConn counts until it is closed, which its server always does.
type countedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
