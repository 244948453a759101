// Package netnstest gives tests network namespaces of their own, joined by links, that vanish with the test.
package netnstest

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

// NS is a network namespace with its loopback link up.
type NS struct {
	Path string
	t    testing.TB
}

// New makes a namespace. The test is skipped when it does not run as root.
func New(t testing.TB) NS {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces: run the tests with sudo")
	}
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := netns.Unshared(unix.CLONE_NEWNET, func() error {
		return unix.Mount(netns.Self("net"), path, "", unix.MS_BIND, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
	})
	ns := NS{Path: path, t: t}
	ns.Up("lo")
	return ns
}

// Do runs fn inside; an error ends the test.
func (n NS) Do(fn func() error) {
	n.t.Helper()
	if err := netns.Do(n.Path, fn); err != nil {
		n.t.Fatal(err)
	}
}

// Up brings a link up.
func (n NS) Up(name string) {
	n.t.Helper()
	n.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
}

// Link joins two namespaces by a veth pair and brings both ends up.
func Link(a NS, nameA string, b NS, nameB string) {
	a.t.Helper()
	peer, err := os.Open(b.Path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	a.Do(func() error {
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: nameA, TxQLen: -1})
		veth.PeerName, veth.PeerNamespace = nameB, netlink.NsFd(int(peer.Fd()))
		return netlink.LinkAdd(veth)
	})
	a.Up(nameA)
	b.Up(nameB)
	a.Do(func() error { return netns.Activate(nameA) })
}

// Addr gives a link an address, for example "10.0.0.1/24".
func (n NS) Addr(link, prefix string) {
	n.t.Helper()
	n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, addr)
	})
}

// Route adds a route to prefix ("default" for all) through link; via may be empty for a link route.
func (n NS) Route(prefix, link, via string) {
	n.t.Helper()
	n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		route := &netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK}
		if prefix != "default" {
			if _, route.Dst, err = net.ParseCIDR(prefix); err != nil {
				return err
			}
		}
		if via != "" {
			route.Gw, route.Scope = net.ParseIP(via), netlink.SCOPE_UNIVERSE
			route.Flags = int(netlink.FLAG_ONLINK)
		}
		return netlink.RouteAdd(route)
	})
}

// Sysctl writes a value below /proc/sys as seen from inside.
func (n NS) Sysctl(name, value string) {
	n.t.Helper()
	n.Do(func() error { return os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o600) })
}

// ServeTCP answers every connection to address with text until the test ends.
func (n NS) ServeTCP(address, text string) {
	n.t.Helper()
	var listener net.Listener
	n.Do(func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	n.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by the cleanup
			}
			_, _ = conn.Write([]byte(text + " " + remote(conn)))
			_ = conn.Close()
		}
	}()
}

// ServeUDP answers every datagram to address with text until the test ends.
func (n NS) ServeUDP(address, text string) {
	n.t.Helper()
	var socket net.PacketConn
	n.Do(func() (err error) {
		socket, err = net.ListenPacket("udp4", address)
		return err
	})
	n.t.Cleanup(func() { _ = socket.Close() })
	go func() {
		buffer := make([]byte, 64)
		for {
			_, from, err := socket.ReadFrom(buffer)
			if err != nil {
				return // closed by the cleanup
			}
			_, _ = socket.WriteTo([]byte(text), from)
		}
	}()
}

// Ask connects from inside and returns what ServeTCP of the other side says: its text and the client's address as the
// server saw it.
func (n NS) Ask(address string) (text, client string, err error) {
	conn, err := netns.Dial(net.Dialer{Timeout: 5 * time.Second}, n.Path, "tcp4", address)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", "", err
	}
	buffer := make([]byte, 256)
	count, err := conn.Read(buffer)
	if err != nil {
		return "", "", err
	}
	answer := string(buffer[:count])
	for i := len(answer) - 1; i >= 0; i-- {
		if answer[i] == ' ' {
			return answer[:i], answer[i+1:], nil
		}
	}
	return answer, "", nil
}

func remote(conn net.Conn) string {
	addr, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return "?"
	}
	return addr.Addr().String()
}
