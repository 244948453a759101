package natstest

import (
	"net"
	"sync"
	"sync/atomic"
)

// Cut makes a link a black hole: bytes vanish both ways, nothing is closed, new connections hang, as on a network whose
// cable was pulled.
func (n *Net) Cut(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[name] = true
	for l := range n.links {
		if l.name == name {
			l.cut.Store(true)
		}
	}
}

// Heal undoes Cut. A connection that has lost bytes meanwhile is reset; one that was silent goes on.
func (n *Net) Heal(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cut, name)
	for l := range n.links {
		if l.name == name {
			l.heal()
		}
	}
}

// Reset closes the connections of a link at once, as a restarting router does. They may come back.
func (n *Net) Reset(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		if l.name == name {
			l.close()
		}
	}
}

func (n *Net) reset() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		l.close()
	}
}

func (n *Net) dial(name string) (net.Conn, error) {
	server, err := n.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	l := &link{name: name, server: server, client: inner}
	n.mu.Lock()
	defer n.mu.Unlock()
	l.cut.Store(n.cut[name])
	n.links[l] = struct{}{}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(server, inner) })
	pumps.Go(func() { l.pump(inner, server) })
	go func() { // ends with the pumps, which end with either connection
		pumps.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.links, l)
	}()
	return client, nil
}

// link carries one connection's bytes, or loses them.
type link struct {
	name           string
	server, client net.Conn
	cut, lossy     atomic.Bool
}

func (l *link) pump(from, to net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			// The end of one side is not seen by the other while the link is cut.
			if !l.cut.Load() {
				l.close()
			}
			l.lossy.Store(true)
			return
		}
		if l.cut.Load() {
			l.lossy.Store(true)
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			l.close()
			return
		}
	}
}

func (l *link) heal() {
	l.cut.Store(false)
	if l.lossy.Load() {
		l.close()
	}
}

func (l *link) close() {
	_ = l.server.Close() // a pipe's Close cannot fail
	_ = l.client.Close()
}
