package apiway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/messaging"
)

const (
	// Limit is how many connections of one node are open at once. Each may hold one window of a stream, 1 MiB, when its
	// pod does not read. Clients of the API need one or two.
	Limit = 64
	// limitPerPod keeps one pod from taking all.
	limitPerPod = 16
	// openTime bounds the wait for the coordinator: a pod's client tries again.
	openTime = 15 * time.Second
	// longestWait is between two attempts to listen.
	longestWait = 30 * time.Second
)

// Options are what a Way needs. All must be set.
type Options struct {
	Address netip.AddrPort // where pods' connections come in; need not be on a link yet
	// Admit says who may connect. It comes on top of the rules of the kernel, which are not there before the first table.
	Admit func(netip.Addr) bool
	// Dial opens a stream to the API. It is called concurrently.
	Dial func(ctx context.Context) (net.Conn, error)
	Log  *slog.Logger
}

// Way carries connections. Use New and Run.
type Way struct {
	options Options
	log     *slog.Logger

	mu    sync.Mutex // guards what follows
	open  map[netip.Addr]int
	total int
	full  bool // the last connection was one too many: logged once
}

// New makes a Way that does nothing before Run.
func New(o Options) (*Way, error) {
	if !o.Address.IsValid() || o.Admit == nil || o.Dial == nil || o.Log == nil {
		return nil, errors.New("way to the API: address, Admit, Dial and Log must be set")
	}
	return &Way{options: o, log: o.Log, open: map[netip.Addr]int{}}, nil
}

// Run carries connections until ctx ends, and then ends them. An address that is taken is tried again and again: a node
// whose pods cannot ask the API runs them all the same.
func (w *Way) Run(ctx context.Context) error {
	for wait := time.Second; ; wait = min(2*wait, longestWait) {
		ln, err := w.listen(ctx)
		if err == nil {
			w.log.Info("pods reach the api", "address", ln.Addr().String())
			err = w.serve(ctx, ln)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.log.Warn("pods cannot reach the api, will retry", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// listen does not wait for the address to be the node's.
func (w *Way) listen(ctx context.Context) (net.Listener, error) {
	config := network.EarlyListener()
	ln, err := config.Listen(ctx, "tcp4", w.options.Address.String())
	if err != nil {
		return nil, fmt.Errorf("listen for pods: %w", err)
	}
	return ln, nil
}

// serve closes ln and returns when all its connections have ended.
func (w *Way) serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })() // Accept returns
	for {
		conn, err := ln.Accept()
		if err != nil {
			return errors.Join(fmt.Errorf("accept from pods: %w", err), unlessClosed(ln.Close()))
		}
		from := peer(conn)
		if !w.enter(from) {
			refuse(conn)
			continue
		}
		conns.Go(func() {
			defer w.leave(from)
			w.carry(ctx, conn)
		})
	}
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (w *Way) carry(ctx context.Context, conn net.Conn) {
	opening, cancel := context.WithTimeout(ctx, openTime)
	defer cancel()
	stream, err := w.options.Dial(opening)
	if err != nil {
		w.log.Debug("api not reached for a pod", "pod", conn.RemoteAddr().String(), "err", err)
		refuse(conn)
		return
	}
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close() // ends both ways
		_ = stream.Close()
	})
	defer stop()
	messaging.Join(conn, stream)
}

// refuse resets the connection, so that its client does not take it for an answer that was cut short.
func refuse(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the client sees an early end
	}
	_ = conn.Close()
}

func peer(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// enter says whether one more connection may come from there, and counts it.
func (w *Way) enter(from netip.Addr) bool {
	if !w.options.Admit(from) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	full := w.total >= Limit || w.open[from] >= limitPerPod
	if full && !w.full {
		w.log.Warn("too many connections to the api", "pod", from, "its", w.open[from], "all", w.total)
	}
	if w.full = full; full {
		return false
	}
	w.open[from]++
	w.total++
	return true
}

func (w *Way) leave(from netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total--
	if w.open[from]--; w.open[from] == 0 {
		delete(w.open, from)
	}
}
