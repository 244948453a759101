package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/network/netns"
	"skerry.dev/skerry/messaging"
)

// Route protocol numbers mark whose a route is (ip route show proto 83). They are unassigned in the kernel's list.
const (
	protocolNodes netlink.RouteProtocol = 83 // towards other nodes' pods
	protocolLocal netlink.RouteProtocol = 84 // towards this node's pods and services
)

// nodeRoute is one route towards another node's pods.
type nodeRoute struct {
	pods netip.Prefix
	via  netip.Addr
}

// SetRoutes makes exactly these nodes' pods reachable and removes routes to nodes that are not listed any more. This
// node's own entry is ignored. Entries that are bad or cannot be reached are left out and returned as joined errors,
// after all others were set. The kernel drops routes when the link goes down, so call it now and then: repeating is cheap.
func (n *Network) SetRoutes(_ context.Context, nodes []messaging.NodeRoute) error {
	wanted, problems := n.planRoutes(nodes)
	present, err := n.nodeRoutes()
	if err != nil {
		return errors.Join(err, problems)
	}
	for _, route := range wanted {
		if slices.Contains(present, route) {
			continue
		}
		if err := n.node.RouteReplace(route.kernel()); err != nil {
			problems = errors.Join(problems, fmt.Errorf("route to %s via %s: %w", route.pods, route.via, err))
			continue
		}
		n.log.Info("route set", "pods", route.pods, "via", route.via)
	}
	for _, route := range present {
		// RouteReplace has already changed a route that only got another next hop.
		if slices.ContainsFunc(wanted, func(w nodeRoute) bool { return w.pods == route.pods }) {
			continue
		}
		if err := n.node.RouteDel(route.kernel()); err != nil && !errors.Is(err, unix.ESRCH) {
			problems = errors.Join(problems, fmt.Errorf("remove route to %s: %w", route.pods, err))
			continue
		}
		n.log.Info("route removed", "pods", route.pods, "via", route.via)
	}
	return problems
}

// planRoutes checks each entry: a bad one must not divert traffic that is none of the cluster's.
func (n *Network) planRoutes(nodes []messaging.NodeRoute) ([]nodeRoute, error) {
	n.mu.Lock()
	own := n.podCIDR
	n.mu.Unlock()
	var routes []nodeRoute
	var problems []error
	for _, node := range nodes {
		route, err := n.planRoute(node, own, routes)
		if err != nil {
			problems = append(problems, fmt.Errorf("route to node %s: %w", node.Node, err))
		} else if route.via != n.options.NodeAddress {
			routes = append(routes, route)
		}
	}
	slices.SortFunc(routes, func(a, b nodeRoute) int {
		return cmp.Or(a.pods.Addr().Compare(b.pods.Addr()), cmp.Compare(a.pods.Bits(), b.pods.Bits()))
	})
	return routes, errors.Join(problems...)
}

func (n *Network) planRoute(node messaging.NodeRoute, own netip.Prefix, others []nodeRoute) (nodeRoute, error) {
	pods, err := netip.ParsePrefix(node.PodCIDR)
	if err != nil {
		return nodeRoute{}, fmt.Errorf("pod range: %w", err)
	}
	via, err := netip.ParseAddr(node.Address)
	if err != nil {
		return nodeRoute{}, fmt.Errorf("address: %w", err)
	}
	pods = pods.Masked()
	switch {
	case via == n.options.NodeAddress:
		return nodeRoute{pods, via}, nil
	case !via.Is4() || !via.IsGlobalUnicast() || n.options.ClusterPodCIDR.Contains(via) || n.options.ServiceCIDR.Contains(via):
		return nodeRoute{}, fmt.Errorf("address %s cannot be a node's", via)
	case !contains(n.options.ClusterPodCIDR, pods):
		return nodeRoute{}, fmt.Errorf("pod range %s is not inside the cluster's %s", pods, n.options.ClusterPodCIDR)
	case own.IsValid() && own.Overlaps(pods):
		return nodeRoute{}, fmt.Errorf("pod range %s overlaps this node's own %s", pods, own)
	}
	for _, other := range others {
		if other.pods.Overlaps(pods) {
			return nodeRoute{}, fmt.Errorf("pod range %s overlaps %s of the node at %s", pods, other.pods, other.via)
		}
	}
	return nodeRoute{pods, via}, nil
}

func (r nodeRoute) kernel() *netlink.Route {
	return &netlink.Route{Dst: ipNet(r.pods), Gw: r.via.AsSlice(), Protocol: protocolNodes}
}

// nodeRoutes are the routes of ours that the kernel has.
func (n *Network) nodeRoutes() ([]nodeRoute, error) {
	list, err := n.routes(protocolNodes)
	if err != nil {
		return nil, err
	}
	var routes []nodeRoute
	for _, route := range list {
		pods, ok := prefixOf(route.Dst)
		via, viaOK := netip.AddrFromSlice(route.Gw.To4())
		if ok && viaOK {
			routes = append(routes, nodeRoute{pods, via})
		}
	}
	return routes, nil
}

func (n *Network) routes(protocol netlink.RouteProtocol) ([]netlink.Route, error) {
	list, err := n.node.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return list, nil
}

// setLocalRoutes makes three routes. Local programs can talk to services without any other route, with the node's address
// as their source: the loopback link is where a packet leaves in case that no rule sends it elsewhere. And what goes to
// a pod address of ours that no pod has gets an error at once instead of leaving through the default route. NodeLocal is
// ours.
func (n *Network) setLocalRoutes(podCIDR netip.Prefix) error {
	loopback, err := n.node.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback link: %w", err)
	}
	if err := n.node.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("bring up the loopback link: %w", err)
	}
	wanted := []*netlink.Route{{
		Dst: ipNet(n.options.ServiceCIDR), LinkIndex: loopback.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Src: n.options.NodeAddress.AsSlice(), Protocol: protocolLocal,
	}, {
		Dst: hostNet(NodeLocal), LinkIndex: loopback.Attrs().Index, Scope: netlink.SCOPE_HOST, Type: unix.RTN_LOCAL,
		Table: unix.RT_TABLE_LOCAL, Protocol: protocolLocal,
	}}
	if podCIDR.IsValid() {
		wanted = append(wanted, &netlink.Route{Dst: ipNet(podCIDR), Type: unix.RTN_UNREACHABLE, Protocol: protocolLocal})
	}
	for _, route := range wanted {
		if err := n.node.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", route.Dst, err)
		}
	}
	return n.removeLocalRoutes(wanted)
}

// removeLocalRoutes removes those of an earlier configuration. Routes to single pods are not touched.
func (n *Network) removeLocalRoutes(wanted []*netlink.Route) error {
	present, err := n.routes(protocolLocal)
	if err != nil {
		return err
	}
	for _, route := range present {
		dst, ok := prefixOf(route.Dst)
		keep := !ok || dst.IsSingleIP() || slices.ContainsFunc(wanted, func(w *netlink.Route) bool {
			return w.Dst.String() == route.Dst.String()
		})
		if keep {
			continue
		}
		if err := n.node.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route to %s: %w", dst, err)
		}
	}
	return nil
}

// Sweep removes what belongs to no sandbox: addresses, and links whose pod was removed while a process of it lived on.
// It lists those before it lists the sandboxes, because a sandbox being made starts with its folder.
func (n *Network) Sweep(ctx context.Context) error {
	held, err := n.addresses()
	if err != nil {
		return err
	}
	links, err := n.node.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	uids, err := n.List()
	if err != nil {
		return err
	}
	names := make([]string, len(uids))
	for i, uid := range uids {
		names[i] = LinkName(uid)
	}
	for _, uid := range held {
		if slices.Contains(uids, uid) {
			continue
		}
		if err := n.release(uid); err != nil {
			return err
		}
	}
	for _, link := range links {
		if name := link.Attrs().Name; ours(link) && !slices.Contains(names, name) {
			if err := errors.Join(ctx.Err(), deleteLink(n.node, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// inNode runs fn in the node's network namespace, also when the caller is in a pod's.
func (n *Network) inNode(fn func() error) error {
	return netns.Do(fmt.Sprintf("/proc/self/fd/%d", n.nodeNS.Fd()), fn)
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr, bits), ok
}
