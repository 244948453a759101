package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
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

// Cluster is a switch, its link to the host, and the nodes on it. Its methods may be called concurrently, but for Open
// and Close.
type Cluster struct {
	options Options
	mark    string // names what belongs to this data folder
	subnet  netip.Prefix
	nodes   []*Node
	wire    *wire // nil before Open and after Close
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
	if c.subnet, err = pickSubnet(o.Subnet, hostLink(c.mark)); err != nil {
		return nil, err
	}
	for i := 1; i <= o.Nodes; i++ {
		name := fmt.Sprintf("n%d", i)
		c.nodes = append(c.nodes, &Node{
			cluster: c, Name: name, Address: offset(c.subnet, firstNode+i), StateDir: filepath.Join(o.DataDir, "nodes", name),
		})
	}
	return c, nil
}

// Mark is what the names of all things of a data folder's cluster carry.
func Mark(dataDir string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(dataDir)))
	return hex.EncodeToString(sum[:3])
}

// cgroupTop holds the control groups of all local clusters of this machine.
const cgroupTop = "/skerry"

func cgroupOf(mark string) string { return cgroupTop + "/" + mark }

// CgroupParent is the control group below which a node keeps its pods.
func (c *Cluster) CgroupParent(node string) string { return cgroupOf(c.mark) + "/" + node }

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

// Open removes what an earlier run left behind and makes the switch.
func (c *Cluster) Open() error {
	if err := Clean(c.options.DataDir); err != nil {
		return fmt.Errorf("remove leftovers: %w", err)
	}
	wire, err := openWire(hostLink(c.mark), netip.PrefixFrom(c.HostAddress(), c.subnet.Bits()))
	if err != nil {
		return fmt.Errorf("make the nodes' network: %w", err)
	}
	c.wire = wire
	if err := openWorld(c.mark, c.subnet); err != nil {
		return errors.Join(fmt.Errorf("let nodes reach the outside: %w", err), c.Close())
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

// Shutdown asks every node to stop in order, containers first, and waits for them; those that are not off when ctx
// ends lose their power.
func (c *Cluster) Shutdown(ctx context.Context) error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.Shutdown())
	}
	for _, n := range c.nodes {
		if done := n.Done(); done != nil {
			select {
			case <-done:
			case <-ctx.Done():
			}
		}
	}
	return errors.Join(append(errs, c.stop())...)
}

func (c *Cluster) stop() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.Stop())
	}
	return errors.Join(errs...)
}

// Close cuts every node's power and removes everything that was made, but the data folder.
func (c *Cluster) Close() error {
	err := c.stop()
	if c.wire != nil {
		err = errors.Join(err, c.wire.close())
		c.wire = nil
	}
	return errors.Join(err, Clean(c.options.DataDir))
}
