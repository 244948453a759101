package apiway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

// pods stands for the addresses that may connect; a test's connections come from loopback.
func pods(from netip.Addr) bool { return from.IsLoopback() }

// start runs a way on a free port and returns its address.
func start(t *testing.T, admit func(netip.Addr) bool, dial func(context.Context) (net.Conn, error)) string {
	t.Helper()
	w, err := New(Options{Address: freePort(t), Admit: admit, Dial: dial, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
		if w.total != 0 || len(w.open) != 0 {
			t.Errorf("at the end %d connections are counted, of %v", w.total, w.open)
		}
	})
	return w.options.Address.String()
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // it was open
	return netip.MustParseAddrPort(ln.Addr().String())
}

// connect waits for the listener.
func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// echoes says whether the other end sends back what it gets.
func echoes(t *testing.T, conn net.Conn) bool {
	t.Helper()
	got := make([]byte, 4)
	if _, err := conn.Write([]byte("ping")); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, got)
	return err == nil && string(got) == "ping"
}

// api echoes on streams of kind api, as n1 opens them.
func api(t *testing.T) (n *natstest.Net, dial func(context.Context) (net.Conn, error), accepted chan net.Conn) {
	t.Helper()
	n = natstest.Server(t)
	ln, err := messaging.Listen(n.Coordinator(), messaging.StreamAPI)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	accepted = make(chan net.Conn, Limit+1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- conn
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	nc := n.NodeConn("n1")
	return n, func(ctx context.Context) (net.Conn, error) {
		return messaging.DialContext(nc, "n1", messaging.StreamAPI)(ctx, "tcp", "api")
	}, accepted
}

func TestConnectionsReachTheAPI(t *testing.T) {
	_, dial, accepted := api(t)
	address := start(t, pods, dial)
	conn := connect(t, address)
	if !echoes(t, conn) {
		t.Fatal("no echo")
	}
	stream := <-accepted
	if node := stream.RemoteAddr().String(); node != "n1" {
		t.Errorf("the coordinator sees node %q", node)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) != 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

// When the stream breaks, as it does when the link is cut, the pod's connection ends, and the next one finds its way.
func TestBrokenStreamEndsTheConnection(t *testing.T) {
	_, dial, accepted := api(t)
	address := start(t, pods, dial)
	conn := connect(t, address)
	if !echoes(t, conn) {
		t.Fatal("no echo")
	}
	_ = (<-accepted).Close()
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection stays: %v", err)
	}
	if !echoes(t, connect(t, address)) {
		t.Error("no echo on the next connection")
	}
}

func TestNobodyElseIsLetIn(t *testing.T) {
	_, dial, accepted := api(t)
	address := start(t, func(netip.Addr) bool { return false }, dial)
	if echoes(t, connect(t, address)) || len(accepted) > 0 {
		t.Error("a stranger was let in")
	}
}

func TestUnreachableCoordinatorRefuses(t *testing.T) {
	address := start(t, pods, func(context.Context) (net.Conn, error) { return nil, errors.New("the link is down") })
	if echoes(t, connect(t, address)) {
		t.Error("echo of nobody")
	}
}

// One pod has its share; what it gives back can be used again.
func TestOnePodDoesNotTakeAll(t *testing.T) {
	_, dial, _ := api(t)
	address := start(t, pods, dial)
	var held []net.Conn
	for range limitPerPod {
		conn := connect(t, address)
		if !echoes(t, conn) {
			t.Fatalf("connection %d: no echo", len(held)+1)
		}
		held = append(held, conn)
	}
	if echoes(t, connect(t, address)) {
		t.Error("one too many was let in")
	}
	_ = held[0].Close()
	for deadline := time.Now().Add(30 * time.Second); !echoes(t, connect(t, address)); {
		if time.Now().After(deadline) {
			t.Fatal("a place that was given back is not given away again")
		}
	}
}

func TestNewWantsAll(t *testing.T) {
	if _, err := New(Options{Address: freePort(t), Admit: pods}); err == nil {
		t.Error("no error")
	}
}
