package network

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/network/netns"
)

// TestBandwidthIsKept moves bytes between pods for a while, in either direction of a limited one, before and after a new agent
// mends its link. A limit allows so many in that time, however slow this machine is; without one many more get through.
func TestBandwidthIsKept(t *testing.T) {
	n := newNode(t, "10.1.0.1", "10.42.1.0/24")
	const limit, window = 800_000, time.Second // 100 kB/s
	free := n.create("free", SandboxOptions{})
	limited := n.create("limited", SandboxOptions{IngressBits: limit, EgressBits: limit, IDs: idrange.Range{First: idrange.Lowest}})
	other := n.create("other", SandboxOptions{})
	allowed := func(took time.Duration) int64 { return int64(2*limit/8*took.Seconds()) + 512<<10 } // with what queues and buffers hold
	check := func(when string) {
		t.Helper()
		for name, c := range map[string][2]Sandbox{"in": {free, limited}, "out": {limited, free}} {
			if moved, took := n.move(c[0], c[1], window); moved == 0 || moved > allowed(took) {
				t.Errorf("%s, %s: %d bytes in %v, at most %d are allowed", when, name, moved, took, allowed(took))
			}
		}
	}
	if moved, took := n.move(free, other, window); moved <= allowed(took) {
		t.Fatalf("without a limit: %d bytes in %v, which a limit would allow: nothing is shown", moved, took)
	}
	check("made")
	n.removeLimits("limited", limited)
	n.restart()
	limited = n.create("limited", SandboxOptions{})
	check("mended by a new agent")
}

// move sends from one pod to another for a while, and returns how many bytes arrived.
func (n *testNode) move(from, to Sandbox, window time.Duration) (int64, time.Duration) {
	n.t.Helper()
	var listener net.Listener
	err := netns.Do(to.NetNS, func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(to.IP, 0).String())
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	defer listener.Close()
	arrived := make(chan int64, 1)
	go func() { // ends with the connection
		conn, err := listener.Accept()
		if err != nil {
			arrived <- 0
			return
		}
		defer conn.Close()
		got, _ := io.Copy(io.Discard, conn) // until it is cut
		arrived <- got
	}()
	conn, err := netns.Dial(net.Dialer{Timeout: 10 * time.Second}, from.NetNS, "tcp4", listener.Addr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	began := time.Now()
	if err := conn.SetDeadline(began.Add(window)); err != nil {
		n.t.Fatal(err)
	}
	_, _ = io.Copy(conn, endless{}) // until the deadline
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		n.t.Fatal(err)
	}
	_ = conn.Close() // cut, with what it had not sent
	return <-arrived, time.Since(began)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// removeLimits takes the queues away on both ends.
func (n *testNode) removeLimits(uid string, box Sandbox) {
	n.t.Helper()
	remove := func(link string) error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		l, err := h.LinkByName(link)
		if err != nil {
			return err
		}
		return h.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}})
	}
	n.Do(func() error { return remove(LinkName(uid)) })
	if err := netns.Do(box.NetNS, func() error { return remove(podLink) }); err != nil {
		n.t.Fatal(err)
	}
}
