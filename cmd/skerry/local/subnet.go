package local

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// pickSubnet checks that the wanted subnet is free, or finds one. What the link except has does not count: it is our own
// from an earlier run.
func pickSubnet(wanted netip.Prefix, except string) (netip.Prefix, error) {
	taken, err := prefixes(except)
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

// prefixes are the networks this machine is on.
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
