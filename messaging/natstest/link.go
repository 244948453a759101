package natstest

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
)

// errCut is what a new connection gets on a link that is cut. On a real network it would hang; but nats.go holds its lock
// while it shakes hands, and a goroutine that waits for a lock keeps a bubble's time from going on.
var errCut = errors.New("link is cut")

// Cut makes a link a black hole, as on a network whose cable was pulled: bytes vanish both ways and nothing is closed. New
// connections are refused.
func (n *Net) Cut(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[name] = true
	for l := range n.links {
		if l.name == name {
			l.cut.Store(true)
			if !l.open.Load() {
				l.close()
			}
		}
	}
}

// DropAnswers lets nothing through from the server, so that what is sent arrives and its sender never learns it. Heal
// undoes it.
func (n *Net) DropAnswers(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for l := range n.links {
		if l.name == name {
			l.deaf.Store(true)
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
	if n.isCut(name) {
		return nil, errCut
	}
	server, err := n.Server.InProcessConn()
	if err != nil {
		return nil, err
	}
	client, inner := net.Pipe()
	l := &link{name: name, server: server, client: inner}
	n.mu.Lock()
	defer n.mu.Unlock()
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

func (n *Net) isCut(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[name]
}

// link carries one connection's bytes, or loses them.
type link struct {
	name           string
	server, client net.Conn
	cut, lossy     atomic.Bool
	deaf           atomic.Bool // loses what the server sends
	open           atomic.Bool // the hands are shaken: a PONG has come
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
		if l.cut.Load() || from == l.server && l.deaf.Load() {
			l.lossy.Store(true)
			continue
		}
		if from == l.server && !l.open.Load() && bytes.Contains(buf[:n], []byte("PONG")) {
			l.open.Store(true)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			l.close()
			return
		}
	}
}

func (l *link) heal() {
	l.cut.Store(false)
	l.deaf.Store(false)
	if l.lossy.Load() {
		l.close()
	}
}

func (l *link) close() {
	_ = l.server.Close() // a pipe's Close cannot fail
	_ = l.client.Close()
}
