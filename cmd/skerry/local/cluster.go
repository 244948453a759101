package local

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Options say what to run.
type Options struct {
	DataDir string
	Nodes   int
	// Subnet is the nodes' network, a /24; the host is .1 and node i is .10+i. Zero picks a free one of 10.41.0.0/16.
	Subnet netip.Prefix
	Agent  string // path of skerry-agent
	Log    *slog.Logger
}

// Cluster is a bridge on the host and the nodes on it. Its methods may be called concurrently.
type Cluster struct {
	options Options
	mark    string // names what belongs to this data folder
	subnet  netip.Prefix
	nodes   []*Node

	mu     sync.Mutex
	bridge netlink.Link
}

// firstNode is the last octet of node 1's address, less one.
const firstNode = 10

// maxNodes keeps addresses within the /24.
const maxNodes = 200

// New checks the options and what this machine can do. It changes nothing.
func New(o Options) (*Cluster, error) {
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return nil, fmt.Errorf("%d nodes: want 1 to %d", o.Nodes, maxNodes)
	}
	if err := Preflight(); err != nil {
		return nil, err
	}
	c := &Cluster{options: o, mark: Mark(o.DataDir)}
	var err error
	if c.subnet, err = pickSubnet(o.Subnet, c.bridgeName()); err != nil {
		return nil, err
	}
	for i := 1; i <= o.Nodes; i++ {
		name := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, &Node{
			cluster: c, Name: name, Address: offset(c.subnet, firstNode+i),
			StateDir: filepath.Join(o.DataDir, "nodes", name), link: fmt.Sprintf("sk%s-%s", c.mark, name),
		})
	}
	return c, nil
}

// Mark is what the names of links and control groups of a data folder's cluster carry.
func Mark(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return hex.EncodeToString(sum[:3])
}

func (c *Cluster) bridgeName() string { return "sk" + c.mark }

// CgroupParent is the control group below which a node keeps its pods.
func (c *Cluster) CgroupParent(node string) string { return "/skerry/" + c.mark + "/" + node }

// HostAddress is where nodes reach the host.
func (c *Cluster) HostAddress() netip.Addr { return offset(c.subnet, 1) }

// Nodes are the nodes in order.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Node returns the node of that name, or nil.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Open removes what an earlier run left behind and makes the bridge.
func (c *Cluster) Open() error {
	if err := Clean(c.options.DataDir); err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.bridgeName()
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s: %w", attrs.Name, err)
	}
	address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(c.HostAddress(), c.subnet.Bits()))}
	if err := netlink.AddrAdd(bridge, address); err != nil {
		return fmt.Errorf("give %s address %s: %w", attrs.Name, address, err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring %s up: %w", attrs.Name, err)
	}
	c.mu.Lock()
	c.bridge = bridge
	c.mu.Unlock()
	// Pods answer the host through whichever node they are on.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("allow forwarding: %w", err)
	}
	return nil
}

// Route sends the host's packets for a range to a node. It is safe to repeat.
func (c *Cluster) Route(to netip.Prefix, via netip.Addr) error {
	err := netlink.RouteReplace(&netlink.Route{Dst: ipNet(to), Gw: net.IP(via.AsSlice())})
	if err != nil {
		return fmt.Errorf("route %s via %s: %w", to, via, err)
	}
	return nil
}

// Close cuts every node's power and removes everything that was made, but the data folder.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.Stop())
	}
	return errors.Join(append(errs, Clean(c.options.DataDir))...)
}

func pickSubnet(wanted netip.Prefix, bridge string) (netip.Prefix, error) {
	taken, err := prefixes(bridge)
	if err != nil {
		return netip.Prefix{}, err
	}
	if wanted.IsValid() {
		if wanted.Bits() != 24 || !wanted.Addr().Is4() {
			return netip.Prefix{}, fmt.Errorf("subnet %s: want an IPv4 /24", wanted)
		}
		if name, ok := overlap(wanted, taken); ok {
			return netip.Prefix{}, fmt.Errorf("subnet %s is in use on %s: choose another", wanted, name)
		}
		return wanted.Masked(), nil
	}
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 41, byte(i), 0}), 24)
		if _, ok := overlap(p, taken); !ok {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free subnet in 10.41.0.0/16: give one with --subnet")
}

type used struct {
	prefix netip.Prefix
	link   string
}

// prefixes are the networks this machine is on, but those of the bridge that will be made anew.
func prefixes(except string) ([]used, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []used
	for _, l := range links {
		if l.Name == except {
			continue
		}
		addresses, err := l.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", l.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, used{p, l.Name})
			}
		}
	}
	return out, nil
}

func overlap(p netip.Prefix, taken []used) (string, bool) {
	for _, t := range taken {
		if p.Overlaps(t.prefix) {
			return t.link, true
		}
	}
	return "", false
}

func offset(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr().As4()
	a[3] += byte(n)
	return netip.AddrFrom4(a)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Preflight says what this machine lacks, before anything is made.
func Preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("nodes need namespaces, mounts and control groups: run as root")
	}
	var errs []error
	if groups, err := cgroupRoots(); err != nil || len(groups) == 0 {
		errs = append(errs, errors.New("no control groups are mounted at /sys/fs/cgroup: mount cgroup2 there"))
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil || !containsWord(string(filesystems), "overlay") {
		errs = append(errs, errors.New("the kernel has no overlay file system: load the module overlay"))
	}
	if fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER); err != nil {
		errs = append(errs, fmt.Errorf("the kernel has no nftables: load the module nf_tables (%w)", err))
	} else {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}
