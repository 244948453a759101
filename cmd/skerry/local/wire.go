package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
)

const (
	bridgeName = "switch"
	uplinkName = "host" // the switch's port to the host
)

func hostLink(mark string) string { return "sk" + mark }

// wire is the switch: a bridge in a namespace of its own, which the kernel removes with all its links when the last
// descriptor of it is closed.
type wire struct {
	ns     *os.File
	handle *netlink.Handle // inside
}

// openWire makes the switch and its link to the host, which gets the address.
func openWire(link string, address netip.Prefix) (*wire, error) {
	host, err := os.Open(netns.Self("net"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = host.Close() }() // opened for reading
	w := &wire{}
	err = netns.Unshared(unix.CLONE_NEWNET, func() (err error) {
		if w.ns, err = os.Open(netns.Self("net")); err != nil {
			return err
		}
		if w.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		return w.build(link, macOf(address.Addr()), int(host.Fd()))
	})
	if err == nil {
		err = configureHost(link, address)
	}
	if err == nil {
		err = w.activate(uplinkName)
	}
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *wire) build(link string, mac net.HardwareAddr, host int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridgeName
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := w.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	if err := w.handle.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("bring the bridge up: %w", err)
	}
	if err := w.connect(uplinkName, link, mac, host); err != nil {
		return err
	}
	return w.carrier(uplinkName, true)
}

// macOf gives a machine the same MAC address each time it starts, as a real network card has: the others' ARP entries
// stay true. 02 marks it as locally administered.
func macOf(address netip.Addr) net.HardwareAddr {
	b := address.As4()
	return net.HardwareAddr{0x02, 0x53, b[0], b[1], b[2], b[3]}
}

// connect makes a port of the switch, with its cable out, and its far end, with that MAC address, in another namespace. An
// old port of that
// name belongs to a namespace that the kernel has not cleared away yet.
func (w *wire) connect(port, far string, mac net.HardwareAddr, ns int) error {
	bridge, err := w.handle.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if old, err := w.handle.LinkByName(port); err == nil {
		if err := w.handle.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove old link %s: %w", port, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex = port, bridge.Attrs().Index
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = far, mac, netlink.NsFd(ns)
	if err := w.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("make link %s: %w", far, err)
	}
	return nil
}

// carrier plugs a port's cable in or pulls it.
func (w *wire) carrier(port string, up bool) error {
	link, err := w.handle.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find link %s: %w", port, err)
	}
	set := w.handle.LinkSetDown
	if up {
		set = w.handle.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set link %s: %w", port, err)
	}
	return nil
}

// activate is to be called when a port's far end has come up.
func (w *wire) activate(port string) error {
	return netns.Do(fmt.Sprintf("/proc/self/fd/%d", w.ns.Fd()), func() error { return netns.Activate(port) })
}

func (w *wire) linked(port string) bool {
	link, err := w.handle.LinkByName(port)
	return err == nil && link.Attrs().Flags&net.FlagUp != 0
}

func (w *wire) close() error {
	if w.handle != nil {
		w.handle.Close()
	}
	if w.ns == nil {
		return nil
	}
	return w.ns.Close()
}

func configureHost(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(address)}); err != nil {
		return fmt.Errorf("give %s address %s: %w", name, address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}
