package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

// Options are what a node's network depends on.
type Options struct {
	StateDir       string       // the node's state folder; everything is below its run/
	NodeAddress    netip.Addr   // an IPv4 address of this node, by which the others reach it
	PodCIDR        netip.Prefix // addresses for this node's pods; may be set later by SetPodCIDR
	ClusterPodCIDR netip.Prefix // contains every node's PodCIDR
	ServiceCIDR    netip.Prefix // cluster IPs
	MTU            int          // of pod links in bytes; 0 takes that of the link which has NodeAddress
	Log            *slog.Logger
}

// Network manages the sandboxes and routes of one node. Its methods may be called concurrently, but not for the same pod.
type Network struct {
	options Options
	log     *slog.Logger
	node    *netlink.Handle // in the node's own network namespace
	nodeNS  *os.File

	mu        sync.Mutex // guards the two below, and allocation
	podCIDR   netip.Prefix
	lastAddr  netip.Addr // allocation goes on from here, so that an address rests before it is used again
	uplinkMTU int

	// step is called before each action that changes something outside this process; an error ends the call there, as a
	// crash would. Tests set it.
	step func(action string) error
}

// New opens the node's network namespace, the one that the calling thread is in. It changes nothing.
func New(o Options) (*Network, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("network options: %w", err)
	}
	nodeNS, err := os.Open(netns.Self("net"))
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	node, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink: %w", err), nodeNS.Close())
	}
	return &Network{
		options: o, log: o.Log, node: node, nodeNS: nodeNS, podCIDR: o.PodCIDR,
		step: func(string) error { return nil },
	}, nil
}

func (o Options) validate() error {
	switch {
	case !filepath.IsAbs(o.StateDir):
		return fmt.Errorf("state folder %q is not an absolute path", o.StateDir)
	case !o.NodeAddress.Is4():
		return fmt.Errorf("node address %q is not an IPv4 address", o.NodeAddress)
	case !o.ClusterPodCIDR.IsValid() || !o.ClusterPodCIDR.Addr().Is4():
		return fmt.Errorf("cluster pod range %q is not an IPv4 network", o.ClusterPodCIDR)
	case !o.ServiceCIDR.IsValid() || !o.ServiceCIDR.Addr().Is4():
		return fmt.Errorf("service range %q is not an IPv4 network", o.ServiceCIDR)
	case o.Log == nil:
		return errors.New("no logger")
	case o.PodCIDR.IsValid():
		return o.checkPodCIDR(o.PodCIDR)
	}
	return nil
}

// checkPodCIDR refuses a range that would catch traffic which is not for pods.
func (o Options) checkPodCIDR(p netip.Prefix) error {
	if !contains(o.ClusterPodCIDR, p) {
		return fmt.Errorf("pod range %s is not inside the cluster's %s", p, o.ClusterPodCIDR)
	}
	if p.Bits() > 30 {
		return fmt.Errorf("pod range %s is too small", p)
	}
	return nil
}

func contains(outer, inner netip.Prefix) bool {
	return inner.IsValid() && inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

// Close releases the connection to the kernel. Pods and routes stay as they are.
func (n *Network) Close() error {
	n.node.Close()
	return n.nodeNS.Close()
}

// Setup prepares the node: forwarding, routes for services and for unused pod addresses; and it clears what an earlier
// run of the agent left half made. Safe to repeat.
func (n *Network) Setup(ctx context.Context) error {
	uplink, err := n.uplink()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.uplinkMTU = uplink.Attrs().MTU
	podCIDR := n.podCIDR
	n.mu.Unlock()
	if err := n.inNode(func() error { return writeSysctl("net/ipv4/ip_forward", "1") }); err != nil {
		return err
	}
	if err := n.setLocalRoutes(podCIDR); err != nil {
		return err
	}
	return n.Sweep(ctx)
}

// SetPodCIDR gives the node its pod addresses. Pods that exist keep theirs.
func (n *Network) SetPodCIDR(p netip.Prefix) error {
	if err := n.options.checkPodCIDR(p); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.podCIDR == p {
		return nil
	}
	if err := n.setLocalRoutes(p); err != nil {
		return err
	}
	n.podCIDR = p
	return nil
}

// uplink is the link that has the node's address.
func (n *Network) uplink() (netlink.Link, error) {
	addrs, err := n.node.AddrList(nil, unix.AF_INET)
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, addr := range addrs {
		if ip, ok := netip.AddrFromSlice(addr.IP.To4()); ok && ip == n.options.NodeAddress {
			link, err := n.node.LinkByIndex(addr.LinkIndex)
			if err != nil {
				return nil, fmt.Errorf("find the link with address %s: %w", n.options.NodeAddress, err)
			}
			return link, nil
		}
	}
	return nil, fmt.Errorf("no link of this node has the node address %s: check the configured address and the link's own",
		n.options.NodeAddress)
}

func (n *Network) mtu() int {
	if n.options.MTU != 0 {
		return n.options.MTU
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.uplinkMTU
}

func (n *Network) runDir(parts ...string) string {
	return filepath.Join(append([]string{n.options.StateDir, "run"}, parts...)...)
}
