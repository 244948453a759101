package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/edgeagent/network/netns/netnstest"
	"skerry.dev/skerry/messaging"
)

// testNode is a namespace with the node's address on eth0, and a Network in it.
type testNode struct {
	*Network
	netnstest.NS
	t *testing.T
}

func newNode(t *testing.T, address, podCIDR string) *testNode {
	t.Helper()
	return plugNode(t, netnstest.New(t), netnstest.New(t), address, podCIDR)
}

func plugNode(t *testing.T, ns, wire netnstest.NS, address, podCIDR string) *testNode {
	t.Helper()
	netnstest.Link(ns, "eth0", wire, "w"+address[len(address)-2:])
	ns.Addr("eth0", address+"/24")
	node := &testNode{NS: ns, t: t}
	node.boot(Options{
		StateDir: t.TempDir(), NodeAddress: netip.MustParseAddr(address), PodCIDR: netip.MustParsePrefix(podCIDR),
		ClusterPodCIDR: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(node.clear)
	return node
}

// boot starts the node's Network; again on a running one is what an agent's restart does.
func (n *testNode) boot(o Options) {
	n.t.Helper()
	n.Do(func() (err error) {
		n.Network, err = New(o)
		return err
	})
	if err := n.Setup(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	network := n.Network
	n.t.Cleanup(func() { _ = network.Close() }) // boot may have been called again and closed it
}

func (n *testNode) restart() { n.boot(n.options) }

// clear leaves no mount behind, whatever the test did.
func (n *testNode) clear() {
	n.step = func(string) error { return nil }
	uids, err := n.List()
	if err != nil {
		n.t.Error(err)
	}
	for _, uid := range uids {
		if err := n.RemoveSandbox(context.WithoutCancel(n.t.Context()), uid); err != nil {
			n.t.Error(err)
		}
	}
}

func (n *testNode) create(uid string, o SandboxOptions) Sandbox {
	n.t.Helper()
	box, err := n.CreateSandbox(n.t.Context(), uid, o)
	if err != nil {
		n.t.Fatal(err)
	}
	return box
}

// serve answers TCP connections in the sandbox with the client's address.
func (n *testNode) serve(box Sandbox, port int) string {
	n.t.Helper()
	address := netip.AddrPortFrom(box.IP, uint16(port)).String()
	var listener net.Listener
	err := netns.Do(box.NetNS, func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by the cleanup
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			_, _ = conn.Write([]byte(host))
			_ = conn.Close()
		}
	}()
	return address
}

// ask returns the client address that the server at the other end saw.
func ask(from, address string) (string, error) {
	conn, err := netns.Dial(net.Dialer{Timeout: 3 * time.Second}, from, "tcp4", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	buffer := make([]byte, 64)
	count, err := conn.Read(buffer)
	return string(buffer[:count]), err
}

func wantAnswer(t *testing.T, from, address, client string) {
	t.Helper()
	if got, err := ask(from, address); err != nil || got != client {
		t.Errorf("%s asks %s: seen as %q, err %v; want %s", from, address, got, err, client)
	}
}

func TestPodsReachEachOtherAcrossNodes(t *testing.T) {
	bridge := netnstest.New(t)
	one := plugNode(t, netnstest.New(t), bridge, "10.41.0.10", "10.42.1.0/24")
	two := plugNode(t, netnstest.New(t), bridge, "10.41.0.11", "10.42.2.0/24")
	joinWires(t, bridge, "w10", "w11")
	nodes := []messaging.NodeRoute{
		{Node: "one", Address: "10.41.0.10", PodCIDR: "10.42.1.0/24"},
		{Node: "two", Address: "10.41.0.11", PodCIDR: "10.42.2.0/24"},
	}
	for _, n := range []*testNode{one, two} {
		if err := n.SetRoutes(t.Context(), nodes); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := one.create("a", SandboxOptions{}), one.create("b", SandboxOptions{}), two.create("c", SandboxOptions{})
	atB, atC := one.serve(b, 80), two.serve(c, 80)
	wantAnswer(t, a.NetNS, atB, a.IP.String())
	wantAnswer(t, a.NetNS, atC, a.IP.String())
	wantAnswer(t, b.NetNS, atB, b.IP.String())
	wantAnswer(t, one.Path, atB, "10.41.0.10")
	wantAnswer(t, one.Path, atC, "10.41.0.10")
}

func joinWires(t *testing.T, ns netnstest.NS, names ...string) {
	t.Helper()
	ns.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(bridge); err != nil {
			return err
		}
		for _, name := range names {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(link, bridge); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(bridge)
	})
}

func TestSandboxNamespaces(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	box := n.create("a", SandboxOptions{
		Hostname: "web-0", Sysctls: map[string]string{"net.ipv4.tcp_keepalive_time": "77", "kernel.shmmni": "99"},
	})
	for kind, path := range map[string]string{"net": box.NetNS, "ipc": box.IPCNS, "uts": box.UTSNS} {
		if own := inode(t, "/proc/self/ns/"+kind); inode(t, path) == own {
			t.Errorf("%s namespace is the test's own", kind)
		}
	}
	if got := insideAll(t, box, "/proc/sys/kernel/hostname"); got != "web-0" {
		t.Errorf("hostname %q", got)
	}
	for file, want := range map[string]string{
		"net/ipv4/tcp_keepalive_time": "77", "kernel/shmmni": "99", "net/ipv4/ip_unprivileged_port_start": "0",
	} {
		if got := insideAll(t, box, "/proc/sys/"+file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// insideAll reads a file on a thread that has joined all of the sandbox's namespaces.
func insideAll(t *testing.T, box Sandbox, file string) string {
	t.Helper()
	var data []byte
	err := netns.Unshared(unix.CLONE_NEWUTS, func() error {
		for _, path := range []string{box.NetNS, box.IPCNS, box.UTSNS} {
			ns, err := os.Open(path)
			if err != nil {
				return err
			}
			err = unix.Setns(int(ns.Fd()), 0)
			if err := errors.Join(err, ns.Close()); err != nil {
				return err
			}
		}
		var err error
		data, err = os.ReadFile(file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func TestHostNetworkSandbox(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	box := n.create("a", SandboxOptions{HostNetwork: true})
	want := Sandbox{IP: netip.MustParseAddr("10.41.0.10"), IPCNS: box.IPCNS}
	if box != want || box.IPCNS == "" {
		t.Errorf("sandbox %+v, want only an IPC namespace and the node's address", box)
	}
	if all := n.create("b", SandboxOptions{HostNetwork: true, HostIPC: true}); all.IPCNS != "" {
		t.Errorf("sandbox %+v, want the node's IPC namespace", all)
	}
}

func TestNoPodRangeYet(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	n.podCIDR = netip.Prefix{}
	if _, err := n.CreateSandbox(t.Context(), "a", SandboxOptions{}); !errors.Is(err, ErrNoPodCIDR) {
		t.Errorf("without a pod range: %v", err)
	}
	n.create("host", SandboxOptions{HostNetwork: true})
	if err := n.SetPodCIDR(netip.MustParsePrefix("10.99.0.0/24")); err == nil {
		t.Error("a pod range outside the cluster's was accepted")
	}
	if err := n.SetPodCIDR(netip.MustParsePrefix("10.42.7.0/24")); err != nil {
		t.Fatal(err)
	}
	if box := n.create("a", SandboxOptions{}); box.IP != netip.MustParseAddr("10.42.7.2") {
		t.Errorf("first address of the new range is %s", box.IP)
	}
}

func TestAgentRestartKeepsSandboxes(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	before := n.create("a", SandboxOptions{})
	address := n.serve(before, 80)
	n.restart()
	if after := n.create("a", SandboxOptions{}); after != before {
		t.Errorf("after a restart the sandbox is %+v, was %+v", after, before)
	}
	if other := n.create("b", SandboxOptions{}); other.IP == before.IP {
		t.Errorf("two pods have address %s", other.IP)
	}
	wantAnswer(t, n.Path, address, "10.41.0.10")
}

func TestAdoptedLinkIsMended(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	box := n.create("a", SandboxOptions{})
	address := n.serve(box, 80)
	if err := deleteLink(n.node, LinkName("a")); err != nil {
		t.Fatal(err)
	}
	n.create("a", SandboxOptions{})
	wantAnswer(t, n.Path, address, "10.41.0.10")
}

// After a reboot on a disk that kept run/, files are there but no namespaces.
func TestRebootOnAPersistentRunFolder(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	box := n.create("a", SandboxOptions{})
	for _, path := range []string{box.NetNS, box.IPCNS, box.UTSNS} {
		if err := unix.Unmount(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	n.restart()
	again := n.create("a", SandboxOptions{})
	wantAnswer(t, n.Path, n.serve(again, 80), "10.41.0.10")
}

func TestPodCannotSpoofAnAddress(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	a, b := n.create("a", SandboxOptions{}), n.create("b", SandboxOptions{})
	err := netns.Do(a.NetNS, func() error {
		link, err := netlink.LinkByName(podLink)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(link, &netlink.Addr{IPNet: hostNet(netip.MustParseAddr("10.42.1.77"))})
	})
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 2) // both datagrams
	var socket net.PacketConn
	err = netns.Do(b.NetNS, func() (err error) {
		socket, err = net.ListenPacket("udp4", b.IP.String()+":9")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	go func() {
		buffer := make([]byte, 64)
		for {
			count, _, err := socket.ReadFrom(buffer)
			if err != nil {
				return // closed by the test
			}
			received <- string(buffer[:count])
		}
	}()
	for _, source := range []string{"10.42.1.77", a.IP.String()} { // the forged one first: order on a link is kept
		local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
		conn, err := netns.Dial(net.Dialer{LocalAddr: local}, a.NetNS, "udp4", b.IP.String()+":9")
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write([]byte(source))
		if err := errors.Join(err, conn.Close()); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case got := <-received:
		if got != a.IP.String() {
			t.Errorf("a datagram from %s arrived", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("the honest datagram did not arrive")
	}
}

func TestUnusedPodAddressFailsAtOnce(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	n.Route("default", "eth0", "10.41.0.1")
	_, err := ask(n.Path, "10.42.1.200:80")
	if !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("asking an address that no pod has: %v", err)
	}
}

func TestBandwidthLimitsAreSet(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	box := n.create("a", SandboxOptions{IngressBits: 8_000_000, EgressBits: 16_000_000})
	if got := tbfRate(t, n.Path, LinkName("a")); got != 1_000_000 {
		t.Errorf("towards the pod: %d bytes per second", got)
	}
	if got := tbfRate(t, box.NetNS, podLink); got != 2_000_000 {
		t.Errorf("from the pod: %d bytes per second", got)
	}
	n.create("a", SandboxOptions{}) // adopting sets them again
	wantAnswer(t, n.Path, n.serve(box, 80), "10.41.0.10")
}

func tbfRate(t *testing.T, path, name string) (rate uint64) {
	t.Helper()
	err := netns.Do(path, func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		qdiscs, err := netlink.QdiscList(link)
		for _, q := range qdiscs {
			if tbf, ok := q.(*netlink.Tbf); ok {
				rate = tbf.Rate
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return rate
}

func TestBadNamesAreRefused(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	for _, uid := range []string{"", "..", "../x", "a/b", ".hidden", strings.Repeat("x", 200)} {
		if _, err := n.CreateSandbox(t.Context(), uid, SandboxOptions{}); err == nil {
			t.Errorf("uid %q was accepted", uid)
		}
		if err := n.RemoveSandbox(t.Context(), uid); err == nil {
			t.Errorf("removal of uid %q was accepted", uid)
		}
	}
	for _, name := range []string{"kernel.hostname", "vm.swappiness", "net...x", "net./../../x", "net.", "kernel.shm/../panic"} {
		o := SandboxOptions{Sysctls: map[string]string{name: "1"}}
		if _, err := n.CreateSandbox(t.Context(), "a", o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("sysctl %q: %v", name, err)
		}
	}
}

func TestAddressesAreUniqueAndUsedUp(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/27") // 32 addresses, 29 of them for pods
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[netip.Addr]int{}
	usedUp := 0
	for i := range 32 {
		wg.Go(func() {
			addr, err := n.allocate(fmt.Sprint("pod-", i))
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrAddressesUsedUp) {
				usedUp++
			} else {
				seen[addr]++
			}
		})
	}
	wg.Wait()
	if len(seen) != 29 || usedUp != 3 {
		t.Errorf("%d addresses and %d refusals, want 29 and 3", len(seen), usedUp)
	}
	for _, never := range []string{"10.42.1.0", "10.42.1.1", "10.42.1.31"} {
		if seen[netip.MustParseAddr(never)] > 0 {
			t.Errorf("address %s was given to a pod", never)
		}
	}
}

func TestAddressRestsBeforeItIsUsedAgain(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	first := n.create("a", SandboxOptions{})
	if err := n.RemoveSandbox(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if second := n.create("b", SandboxOptions{}); second.IP == first.IP {
		t.Errorf("address %s was used again at once", first.IP)
	}
}

var errDied = errors.New("the agent died here")

// dieAt makes the k-th step, counted from 0, fail, and says whether it was reached.
func (n *testNode) dieAt(k int) (reached *string) {
	reached = new(string)
	count := 0
	n.step = func(action string) error {
		count++
		if count == k+1 {
			*reached = action
		}
		if count > k {
			return errDied
		}
		return nil
	}
	return reached
}

func TestDyingAnywhereWhileCreating(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	var died []string
	for k := 0; ; k++ {
		uid := fmt.Sprint("pod-", k)
		action := n.dieAt(k)
		_, err := n.CreateSandbox(t.Context(), uid, SandboxOptions{})
		n.restart()
		if *action == "" {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		died = append(died, *action)
		if !errors.Is(err, errDied) {
			t.Fatalf("died at %q, but got %v", *action, err)
		}
		box := n.create(uid, SandboxOptions{Hostname: uid})
		wantAnswer(t, n.Path, n.serve(box, 80), "10.41.0.10")
		if got := n.held(uid); len(got) != 1 || got[0] != box.IP {
			t.Errorf("after dying at %q the pod holds %v and uses %s", *action, got, box.IP)
		}
	}
	for _, must := range []string{"make folder", "allocate", "plug", "mount net", "mount ipc", "mount uts", "write record"} {
		if !slices.Contains(died, must) {
			t.Errorf("never died at %q, only at %v", must, died)
		}
	}
}

func TestDyingAnywhereWhileRemoving(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	var died []string
	for k := 0; ; k++ {
		uid := fmt.Sprint("pod-", k)
		n.create(uid, SandboxOptions{})
		action := n.dieAt(k)
		err := n.RemoveSandbox(t.Context(), uid)
		n.restart()
		if *action != "" && !errors.Is(err, errDied) {
			t.Fatalf("died at %q, but got %v", *action, err)
		}
		for range 2 { // and once more, for nothing
			if err := n.RemoveSandbox(t.Context(), uid); err != nil {
				t.Fatalf("after dying at %q: %v", *action, err)
			}
		}
		n.wantNothingOf(uid)
		if *action == "" {
			break
		}
		died = append(died, *action)
	}
	for _, must := range []string{"remove record", "unmount net", "unmount ipc", "release", "remove folder"} {
		if !slices.Contains(died, must) {
			t.Errorf("never died at %q, only at %v", must, died)
		}
	}
}

func (n *testNode) held(uid string) (addrs []netip.Addr) {
	n.t.Helper()
	all, err := n.addresses()
	if err != nil {
		n.t.Fatal(err)
	}
	for addr, owner := range all {
		if owner == uid {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

func (n *testNode) wantNothingOf(uid string) {
	n.t.Helper()
	if held := n.held(uid); len(held) > 0 {
		n.t.Errorf("pod %s still holds %v", uid, held)
	}
	if _, err := os.Stat(filepath.Join(n.options.StateDir, "run", "pods", uid)); !errors.Is(err, os.ErrNotExist) {
		n.t.Errorf("pod %s still has a folder: %v", uid, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), n.options.StateDir+"/run/pods/"+uid+"/") {
		n.t.Errorf("pod %s still has a mount (%v)", uid, err)
	}
	// The kernel removes the link in the background.
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := n.node.LinkByName(LinkName(uid)); isNotFound(err) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	n.t.Errorf("pod %s still has its link", uid)
}

func TestSetupSweepsWhatBelongsToNoPod(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	n.create("a", SandboxOptions{})
	box := n.create("b", SandboxOptions{})
	held, err := os.Open(box.NetNS) // a process that outlives its pod
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	if err := n.RemoveSandbox(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ghost", n.runDir("addresses", "10.42.1.50")); err != nil {
		t.Fatal(err)
	}
	n.restart()
	if _, err := n.node.LinkByName(LinkName("b")); !isNotFound(err) {
		t.Errorf("the dead pod's link is still there: %v", err)
	}
	if _, err := n.node.LinkByName(LinkName("a")); err != nil {
		t.Errorf("the living pod's link: %v", err)
	}
	if got := n.held("ghost"); len(got) > 0 {
		t.Errorf("a pod that does not exist holds %v", got)
	}
	if uids, err := n.List(); err != nil || !slices.Equal(uids, []string{"a"}) {
		t.Errorf("sandboxes %v, err %v", uids, err)
	}
}

func TestSetupNeedsTheNodeAddress(t *testing.T) {
	n := newNode(t, "10.41.0.10", "10.42.1.0/24")
	n.options.NodeAddress = netip.MustParseAddr("10.41.0.99")
	if err := n.Setup(t.Context()); err == nil || !strings.Contains(err.Error(), "10.41.0.99") {
		t.Errorf("Setup with an address that the node does not have: %v", err)
	}
}

func BenchmarkCreateRemove(b *testing.B) {
	ns, wire := netnstest.New(b), netnstest.New(b)
	netnstest.Link(ns, "eth0", wire, "w")
	ns.Addr("eth0", "10.41.0.10/24")
	var n *Network
	ns.Do(func() (err error) {
		n, err = New(Options{
			StateDir: b.TempDir(), NodeAddress: netip.MustParseAddr("10.41.0.10"),
			PodCIDR:        netip.MustParsePrefix("10.42.0.0/16"),
			ClusterPodCIDR: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
			Log: slog.New(slog.DiscardHandler),
		})
		return err
	})
	if err := n.Setup(b.Context()); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		uid := fmt.Sprint("pod-", i)
		if _, err := n.CreateSandbox(b.Context(), uid, SandboxOptions{Hostname: "x"}); err != nil {
			b.Fatal(err)
		}
		if err := n.RemoveSandbox(b.Context(), uid); err != nil {
			b.Fatal(err)
		}
	}
}
