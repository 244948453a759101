package proxy

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flows is a set of (service port, endpoint) pairs; as a netlink filter it matches the tracked flows between them.
type flows map[flow]struct{}

type flow struct {
	service, endpoint netip.AddrPort
}

// staleFlows are the UDP pairs that have no slot any more.
func staleFlows(before, now Ruleset) flows {
	current := udpFlows(now)
	stale := udpFlows(before)
	for f := range current {
		delete(stale, f)
	}
	return stale
}

func udpFlows(r Ruleset) flows {
	all := flows{}
	for key, service := range r.Services {
		if key.Protocol != unix.IPPROTO_UDP {
			continue
		}
		for _, endpoint := range service.Slots {
			all[flow{netip.AddrPortFrom(key.Addr, key.Port), endpoint}] = struct{}{}
		}
	}
	return all
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter. Forward is the flow as the client sees it, Reverse as the
// endpoint answers.
func (f flows) MatchConntrackFlow(tracked *netlink.ConntrackFlow) bool {
	if tracked.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	service, ok := netip.AddrFromSlice(tracked.Forward.DstIP.To4())
	if !ok {
		return false
	}
	endpoint, ok := netip.AddrFromSlice(tracked.Reverse.SrcIP.To4())
	if !ok {
		return false
	}
	_, match := f[flow{
		netip.AddrPortFrom(service, tracked.Forward.DstPort), netip.AddrPortFrom(endpoint, tracked.Reverse.SrcPort),
	}]
	return match
}

func deleteFlows(stale flows) (uint, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, fmt.Errorf("open netlink: %w", err)
	}
	defer handle.Close()
	return handle.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, stale)
}
