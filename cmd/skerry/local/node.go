package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Node is one machine. Its methods may be called concurrently.
type Node struct {
	Name     string
	Address  netip.Addr
	StateDir string

	cluster *Cluster
	link    string // the host's end of its cable

	mu   sync.Mutex
	pid  int           // of its process 1; 0 while it is off
	done chan struct{} // closed when it is off again
}

// Start powers the node on: args are the arguments of skerry-agent, the first of which is to be "init". exited is called
// when the node has died, with why, whoever killed it; it may be nil.
func (n *Node) Start(args []string, exited func(error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid != 0 {
		return fmt.Errorf("node %s is running", n.Name)
	}
	if err := os.MkdirAll(n.StateDir, 0o700); err != nil {
		return err
	}
	started := make(chan error, 1) // one word, whoever listens
	pid, done := new(int), make(chan struct{})
	go n.run(args, pid, started, done, exited)
	if err := <-started; err != nil {
		<-done
		return fmt.Errorf("start node %s: %w", n.Name, err)
	}
	n.pid, n.done = *pid, done
	return nil
}

// run is the node's life. Its thread moves to the node's network, which the process inherits, and is never used again; as
// the process's parent it must live as long, or the parent-death signal would end the node early.
func (n *Node) run(args []string, pid *int, started chan<- error, done chan<- struct{}, exited func(error)) {
	runtime.LockOSThread()
	defer close(done)
	cmd, err := n.boot(args)
	if err == nil {
		*pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	err = cmd.Wait()
	n.mu.Lock()
	n.pid = 0
	n.mu.Unlock()
	if exited != nil {
		exited(err)
	}
}

func (n *Node) boot(args []string) (*exec.Cmd, error) {
	if err := n.plug(); err != nil {
		return nil, err
	}
	logPath := filepath.Join(n.StateDir, "node.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(n.cluster.options.Agent, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, // nothing outlives `skerry up`, however it ends
		Setsid:     true,            // Ctrl-C is for `skerry up` alone
	}
	return cmd, cmd.Start()
}

// plug gives the calling thread a network of its own with one cable to the host's bridge.
func (n *Node) plug() error {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE) // of the network we are still in
	if err != nil {
		return fmt.Errorf("reach the host's network: %w", err)
	}
	defer host.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network: %w", err)
	}
	own, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		return err
	}
	defer own.Close()
	if err := n.cable(host, int(own.Fd())); err != nil {
		return err
	}
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("reach the node's network: %w", err)
	}
	defer inside.Close()
	return n.configure(inside)
}

func (n *Node) cable(host *netlink.Handle, own int) error {
	bridge, err := host.LinkByName(n.cluster.bridgeName())
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if old, err := host.LinkByName(n.link); err == nil {
		if err := host.LinkDel(old); err != nil { // of a life that has just ended
			return fmt.Errorf("remove old link %s: %w", n.link, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = n.link, bridge.Attrs().Index
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(own)}
	if err := host.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", n.link, err)
	}
	if err := host.LinkSetUp(veth); err != nil {
		return fmt.Errorf("bring link %s up: %w", n.link, err)
	}
	return nil
}

func (n *Node) configure(inside *netlink.Handle) error {
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		if name == "eth0" {
			address := netip.PrefixFrom(n.Address, n.cluster.subnet.Bits())
			if err := inside.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
				return fmt.Errorf("set address %s: %w", address, err)
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring %s up: %w", name, err)
		}
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
	n.mu.Lock()
	pid, done := n.pid, n.done
	n.mu.Unlock()
	if pid == 0 {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop node %s: %w", n.Name, err)
	}
	<-done
	return nil
}

// Shutdown asks the node to stop in order. Wait on Done for its end.
func (n *Node) Shutdown() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid == 0 {
		return nil
	}
	return unix.Kill(n.pid, unix.SIGTERM)
}

// Done is closed when the node is off. It is nil when the node was never on.
func (n *Node) Done() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.done
}

// Cut takes the node's link down; Heal takes it up again. Both are safe to repeat.
func (n *Node) Cut() error { return n.carrier(netlink.LinkSetDown) }

// Heal is Cut's opposite.
func (n *Node) Heal() error { return n.carrier(netlink.LinkSetUp) }

func (n *Node) carrier(set func(netlink.Link) error) error {
	link, err := netlink.LinkByName(n.link)
	if err != nil {
		return fmt.Errorf("link of node %s: %w", n.Name, err)
	}
	return set(link)
}

// Linked says whether the node's link is up.
func (n *Node) Linked() bool {
	link, err := netlink.LinkByName(n.link)
	return err == nil && link.Attrs().Flags&net.FlagUp != 0
}

// PID is that of the node's process 1 on the host, 0 while the node is off.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pid
}

// Process returns the host's PID of the node's child of that program name, for instance skerry-agent; 0 when there is none.
func (n *Node) Process(program string) int {
	init := n.PID()
	if init == 0 {
		return 0
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", init, init))
	if err != nil {
		return 0
	}
	for field := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			continue
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && filepath.Base(exe) == program {
			return pid
		}
	}
	return 0
}
