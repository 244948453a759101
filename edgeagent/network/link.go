package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

const (
	// podLink is the name of the link inside a pod.
	podLink = "eth0"
	// LinkPrefix starts the name of the node's end of each pod link.
	LinkPrefix = "sky"
	// linkNameBytes of the UID's hash complete it: 15 characters is the longest name that a link can have.
	linkNameBytes = 6
)

// NodeLocal is an address that every node has for itself, on no link: its pods reach programs of the node there, by the
// service proxy's rules.
var NodeLocal = netip.MustParseAddr("169.254.1.2")

// gateway is every pod's next hop. It is on no link: the pod's neighbour entry says which MAC address it has.
var gateway = netip.MustParseAddr("169.254.1.1")

// gatewayMAC is the address of the node's end of every pod link; each link is its own network, so they may be the same.
var gatewayMAC = net.HardwareAddr{0xee, 0xee, 0xee, 0xee, 0xee, 0xee}

// LinkName is the name of the node's end of a pod's link.
func LinkName(uid string) string {
	sum := sha256.Sum256([]byte(uid))
	return LinkPrefix + hex.EncodeToString(sum[:linkNameBytes])
}

// podMAC derives the pod's MAC address, so that nobody has to ask for it.
func podMAC(ip netip.Addr) net.HardwareAddr {
	b := ip.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

// plug makes the pod's link and everything on both its ends, or what of it is missing. It runs on a thread that is in
// the pod's network namespace.
func (n *Network) plug(uid string, ip netip.Addr, o SandboxOptions) error {
	pod, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the pod: %w", err)
	}
	defer pod.Close()
	inside, err := pod.LinkByName(podLink)
	if isNotFound(err) {
		inside, err = n.makeLink(pod, uid, ip)
	}
	if err != nil {
		return err
	}
	if err := plugInside(pod, inside, ip, o.EgressBits); err != nil {
		return fmt.Errorf("pod's end of link %s: %w", LinkName(uid), err)
	}
	if err := n.plugOutside(uid, ip, o.IngressBits); err != nil {
		return fmt.Errorf("node's end of link %s: %w", LinkName(uid), err)
	}
	return netns.Activate(podLink)
}

// makeLink creates the pair inside the pod with its other end in the node's namespace. An older link of the same name
// belongs to an attempt whose namespace the kernel has not cleared away yet.
func (n *Network) makeLink(pod *netlink.Handle, uid string, ip netip.Addr) (netlink.Link, error) {
	if err := deleteLink(n.node, LinkName(uid)); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = podLink, n.mtu(), podMAC(ip)
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr = LinkName(uid), gatewayMAC
	veth.PeerMTU, veth.PeerNamespace = uint32(attrs.MTU), netlink.NsFd(int(n.nodeNS.Fd()))
	if err := pod.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("make link %s: %w", LinkName(uid), err)
	}
	return pod.LinkByName(podLink)
}

func plugInside(pod *netlink.Handle, link netlink.Link, ip netip.Addr, egressBits uint64) error {
	if err := linkUp(pod, "lo"); err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := pod.AddrReplace(link, &netlink.Addr{IPNet: hostNet(ip)}); err != nil {
		return fmt.Errorf("set address %s: %w", ip, err)
	}
	if err := pod.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	if err := pod.NeighSet(neighbour(index, gateway, gatewayMAC)); err != nil {
		return fmt.Errorf("set gateway's MAC address: %w", err)
	}
	toGateway := &netlink.Route{LinkIndex: index, Dst: hostNet(gateway), Scope: netlink.SCOPE_LINK}
	if err := pod.RouteReplace(toGateway); err != nil {
		return fmt.Errorf("set route to the gateway: %w", err)
	}
	world := &netlink.Route{LinkIndex: index, Gw: gateway.AsSlice(), Src: ip.AsSlice()}
	if err := pod.RouteReplace(world); err != nil {
		return fmt.Errorf("set default route: %w", err)
	}
	return limit(pod, link, egressBits)
}

func (n *Network) plugOutside(uid string, ip netip.Addr, ingressBits uint64) error {
	link, err := n.node.LinkByName(LinkName(uid))
	if err != nil {
		return fmt.Errorf("find: %w", err)
	}
	if err := n.node.LinkSetAlias(link, uid); err != nil {
		return fmt.Errorf("name the pod on it: %w", err)
	}
	if err := n.harden(LinkName(uid)); err != nil {
		return err
	}
	if err := n.node.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up: %w", err)
	}
	index := link.Attrs().Index
	if err := n.node.NeighSet(neighbour(index, ip, podMAC(ip))); err != nil {
		return fmt.Errorf("set pod's MAC address: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: index, Dst: hostNet(ip), Scope: netlink.SCOPE_LINK, Protocol: protocolLocal,
		Src: n.options.NodeAddress.AsSlice(),
	}
	if err := n.node.RouteReplace(route); err != nil {
		return fmt.Errorf("set route to the pod: %w", err)
	}
	return limit(n.node, link, ingressBits)
}

// harden makes the node drop packets whose source is not the pod's address, and ignore the pod's router advertisements.
func (n *Network) harden(link string) error {
	return n.inNode(func() error {
		if err := writeSysctl("net/ipv4/conf/"+link+"/rp_filter", "1"); err != nil {
			return err
		}
		err := writeSysctl("net/ipv6/conf/"+link+"/disable_ipv6", "1")
		if errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		return err
	})
}

// tbfLatencyMillis is how long a packet may wait for the limit before it is dropped.
const tbfLatencyMillis = 50

// limit bounds what leaves through a link, by a token bucket. The burst is what the rate lets through in 20 ms, but not
// less than 16 KiB: a bucket smaller than a packet lets nothing through.
func limit(handle *netlink.Handle, link netlink.Link, bitsPerSecond uint64) error {
	if bitsPerSecond == 0 {
		return nil
	}
	bytes := max(bitsPerSecond/8, 1)
	burst := max(bytes/50, 16<<10)
	bucket := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Limit:      uint32(min(bytes*tbfLatencyMillis/1000+burst, 1<<31)),
		Buffer:     netlink.Xmittime(bytes, uint32(min(burst, 1<<31))),
	}
	if err := handle.QdiscReplace(bucket); err != nil {
		return fmt.Errorf("limit to %d bit/s: %w", bitsPerSecond, err)
	}
	return nil
}

func linkUp(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up link %s: %w", name, err)
	}
	return nil
}

func deleteLink(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		err = handle.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

func isNotFound(err error) bool {
	_, notFound := errors.AsType[netlink.LinkNotFoundError](err)
	return notFound
}

func neighbour(link int, ip netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: link, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac}
}

func hostNet(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

func ours(link netlink.Link) bool {
	return link.Type() == "veth" && strings.HasPrefix(link.Attrs().Name, LinkPrefix)
}
