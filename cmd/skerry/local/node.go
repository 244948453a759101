package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

// nodeLink is the node's end of its cable.
const nodeLink = "eth0"

// Node is one machine. Its methods may be called concurrently.
type Node struct {
	Name     string
	Address  netip.Addr
	StateDir string

	cluster *Cluster

	mu        sync.Mutex
	pid       int           // of its process 1; 0 while it is off
	done      chan struct{} // closed when it is off again
	unplugged bool          // Cut, and not healed yet
}

// Start powers the node on: args are the arguments of skerry-agent, the first of which is to be "init". exited is called
// when the node has died, with why, whoever killed it; it may be nil. What the node prints is added to node.log in its
// state folder.
func (n *Node) Start(args []string, exited func(error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid != 0 {
		return fmt.Errorf("node %s is running", n.Name)
	}
	if n.cluster.wire == nil {
		return fmt.Errorf("start node %s: the cluster's network is not open", n.Name)
	}
	if err := os.MkdirAll(n.StateDir, 0o711); err != nil { //nolint:gosec // what is secret in it has its own mode
		return err
	}
	started := make(chan startResult, 1) // one result; run does not wait for it to be read
	done := make(chan struct{})
	go n.run(args, !n.unplugged, started, done, exited)
	result := <-started
	if result.err != nil {
		<-done
		return fmt.Errorf("start node %s: %w", n.Name, result.err)
	}
	n.pid, n.done = result.pid, done
	return nil
}

type startResult struct {
	pid int
	err error
}

// run is the node's life. Its thread is in the node's network, which the process inherits, and lives as long as that:
// the kernel sends the parent-death signal when the thread ends, not the process.
func (n *Node) run(args []string, cable bool, started chan<- startResult, done chan<- struct{}, exited func(error)) {
	defer close(done)
	died := false
	err := netns.Unshared(unix.CLONE_NEWNET, func() error {
		cmd, err := n.boot(args, cable)
		if err != nil {
			return err
		}
		died = true
		started <- startResult{pid: cmd.Process.Pid}
		return cmd.Wait()
	})
	if !died {
		started <- startResult{err: err}
		return
	}
	n.mu.Lock()
	n.pid = 0
	n.mu.Unlock()
	if exited != nil {
		exited(err)
	}
}

func (n *Node) boot(args []string, cable bool) (*exec.Cmd, error) {
	if err := n.plug(cable); err != nil {
		return nil, err
	}
	logPath := filepath.Join(n.StateDir, "node.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd := exec.Command(n.cluster.options.Agent, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, // nothing outlives `skerry up`, however it ends
		Setsid:     true,            // Ctrl-C is for `skerry up` alone
	}
	return cmd, cmd.Start()
}

// plug connects the calling thread's network, which is new, to the switch, with the cable in or out.
func (n *Node) plug(cable bool) error {
	own, err := os.Open(netns.Self("net"))
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }() // opened for reading
	if err := n.cluster.wire.connect(n.Name, nodeLink, macOf(n.Address), int(own.Fd())); err != nil {
		return err
	}
	if err := n.cluster.wire.carrier(n.Name, cable); err != nil {
		return err
	}
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the node's network: %w", err)
	}
	defer inside.Close()
	if err := n.configure(inside); err != nil || !cable {
		return err
	}
	return n.cluster.wire.activate(n.Name)
}

func (n *Node) configure(inside *netlink.Handle) error {
	link, err := inside.LinkByName(nodeLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", nodeLink, err)
	}
	address := netip.PrefixFrom(n.Address, n.cluster.subnet.Bits())
	if err := inside.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("set address %s: %w", address, err)
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", nodeLink, err)
	}
	gateway := &netlink.Route{Gw: net.IP(n.cluster.HostAddress().AsSlice())}
	if err := inside.RouteAdd(gateway); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return nil
}

// Stop cuts the node's power: every process on it dies at once, its state folder stays as it is. Stopping a node that is
// off does nothing.
func (n *Node) Stop() error {
	if err := n.signal(unix.SIGKILL); err != nil {
		return fmt.Errorf("stop node %s: %w", n.Name, err)
	}
	if done := n.Done(); done != nil {
		<-done
	}
	return nil
}

// Shutdown asks the node to stop in order. Wait on Done for its end.
func (n *Node) Shutdown() error {
	if err := n.signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("shut down node %s: %w", n.Name, err)
	}
	return nil
}

func (n *Node) signal(signal unix.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid == 0 {
		return nil
	}
	if err := unix.Kill(n.pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Done is closed when the node is off. It is nil when the node was never on.
func (n *Node) Done() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// Cut pulls the node's cable; Heal plugs it in again. Both are safe to repeat. A node that is off, or goes off, comes back
// with its cable as it was left.
func (n *Node) Cut() error { return n.cable(false) }

// Heal is Cut's opposite.
func (n *Node) Heal() error { return n.cable(true) }

func (n *Node) cable(in bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unplugged = !in
	if n.pid == 0 {
		return nil
	}
	err := n.cluster.wire.carrier(n.Name, in)
	if err == nil && in {
		err = netns.Do(networkOf(n.pid), func() error { return netns.Activate(nodeLink) })
	}
	if err != nil {
		return fmt.Errorf("cable of node %s: %w", n.Name, err)
	}
	return nil
}

// network is the path of the node's network namespace.
func (n *Node) network() (string, error) {
	pid := n.PID()
	if pid == 0 {
		return "", errors.New("the node is off")
	}
	return networkOf(pid), nil
}

func networkOf(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

// Linked says whether the node is on and its cable in.
func (n *Node) Linked() bool { return n.PID() != 0 && n.cluster.wire.linked(n.Name) }

// PID is that of the node's process 1 on the host, 0 while the node is off.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pid
}

// Dial connects from inside the node. address is a literal ip:port.
func (n *Node) Dial(dialer net.Dialer, network, address string) (net.Conn, error) {
	path, err := n.network()
	if err != nil {
		return nil, fmt.Errorf("dial from node %s: %w", n.Name, err)
	}
	return netns.Dial(dialer, path, network, address)
}
