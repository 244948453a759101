package apiserver

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds the open connections when Config does not. An idle one costs about 30 kB.
	maxConnections = 4096
	// maxRefused is how many connections beyond that are told why they are refused; those beyond it are closed at once.
	maxRefused = 64
)

// connections bounds the connections that are open at once, and those of one peer to half of that. When there is no room,
// the longest idle one makes some, as HTTP lets a server do at any time; clients connect anew when they need to. Only when
// all are busy is a new one refused.
type connections struct {
	limit int

	mu   sync.Mutex
	open int
	by   map[string]int // by peer; a peer without any has no entry
	idle *list.List     // of *connection, the longest idle first
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, by: map[string]int{}, idle: list.New()}
}

// affordable is how many connections the process has file descriptors for, at most limit: half are for all else. The
// runtime has raised the soft limit to the hard one already.
func affordable(limit int, log *slog.Logger) int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur/2 >= uint64(limit) { //nolint:gosec // not negative
		return limit
	}
	fewer := max(1, int(files.Cur/2)) //nolint:gosec // less than limit
	log.Warn("fewer API connections than wanted: raise the limit of open files", "files", files.Cur, "connections", fewer, "wanted", limit)
	return fewer
}

// connection is one that is counted.
type connection struct {
	net.Conn
	all  *connections
	peer string
	// refused says that there was no room for it: it is answered so and closed.
	refused bool

	once sync.Once
	at   *list.Element // in all.idle while it is idle; guarded by all.mu
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.once.Do(func() { c.all.leave(c) })
	return c.Conn.Close()
}

// enter counts a new connection, or returns nil when there is no room even for a refusal.
func (a *connections) enter(conn net.Conn) *connection {
	c := &connection{Conn: conn, all: a, peer: peerOf(conn)}
	a.mu.Lock()
	defer a.mu.Unlock()
	mine := a.by[c.peer] >= (a.limit+1)/2
	if mine || a.open >= a.limit {
		c.refused = !a.evict(c.peer, mine)
	}
	if c.refused && a.open >= a.limit+maxRefused {
		return nil
	}
	a.open++
	a.by[c.peer]++
	return c
}

// peerOf is the host at the other end, whatever its port.
func peerOf(conn net.Conn) string {
	address := conn.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// evict closes the longest idle connection, if mine of this peer, and reports whether there was one.
func (a *connections) evict(peer string, mine bool) bool {
	for e := a.idle.Front(); e != nil; e = e.Next() {
		c, _ := e.Value.(*connection) // nothing else is in the list
		if mine && c.peer != peer {
			continue
		}
		a.busy(c)
		_ = c.Conn.Close() // the server sees the end of it, and calls Close, which uncounts it
		return true
	}
	return false
}

func (a *connections) leave(c *connection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy(c)
	a.open--
	if a.by[c.peer]--; a.by[c.peer] == 0 {
		delete(a.by, c.peer)
	}
}

// busy takes a connection off the idle ones.
func (a *connections) busy(c *connection) {
	if c.at != nil {
		a.idle.Remove(c.at)
		c.at = nil
	}
}

// follow is a http.Server's ConnState.
func (a *connections) follow(conn net.Conn, state http.ConnState) {
	c := counted(conn)
	if c == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busy(c)
	if state == http.StateIdle {
		c.at = a.idle.PushBack(c)
	}
}

// counted finds the counted connection below what a http.Server has of it.
func counted(conn net.Conn) *connection {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, _ := conn.(*connection)
	return c
}

func (a *connections) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// countedListener counts what it accepts.
type countedListener struct {
	net.Listener
	all *connections
}

// Accept implements net.Listener.
func (l countedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.all.enter(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // the peer sees that it has ended
	}
}

// refusedKey finds, in a request's context, that its connection was one too many.
type refusedKey struct{}

func withConnection(ctx context.Context, conn net.Conn) context.Context {
	if c := counted(conn); c != nil && c.refused {
		return context.WithValue(ctx, refusedKey{}, true)
	}
	return ctx
}

// refuseConnection answers a request whose connection is one too many, and has the connection closed.
func (s *Server) refuseConnection(w http.ResponseWriter, r *http.Request) bool {
	if r.Context().Value(refusedKey{}) == nil {
		return false
	}
	w.Header().Set("Connection", "close")
	s.writeError(w, r, apierrors.NewTooManyRequests(fmt.Sprintf("The server has as many connections as it can serve (%d, half of them from one address), try again later", s.connections.limit), 1))
	return true
}
