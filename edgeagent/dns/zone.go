package dns

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/messaging"
)

// ttl is what clients may remember an answer for, in seconds: endpoints change.
const ttl = 5

const (
	domain     = api.ClusterDomain + "."
	reverse    = "in-addr.arpa."
	specAnswer = "1.1.0" // of dns-version, as the specification asks
)

// Zone is what one service table says of names. It is not changed once made.
type Zone struct {
	names    map[string]*node        // by name in lower case, with the last dot
	pointers map[netip.Addr][]string // who has the address
	inside   []netip.Prefix          // networks for whose addresses this zone alone answers
	pods     netip.Prefix
}

// node is one name.
type node struct {
	addresses []netip.Addr
	services  []target
	text      string
	alias     string // where the name leads, with the last dot
}

type target struct {
	name string
	port uint16
}

// NewZone reads a table. Entries that are no names or addresses are left out.
func NewZone(table messaging.ServiceTable) *Zone {
	z := &Zone{names: map[string]*node{}, pointers: map[netip.Addr][]string{}}
	z.at(domain)
	z.at("svc." + domain)
	z.at("pod." + domain)
	z.at("dns-version." + domain).text = specAnswer
	if p, err := netip.ParsePrefix(table.PodCIDR); err == nil {
		z.pods, z.inside = p, append(z.inside, p)
	}
	if p, err := netip.ParsePrefix(table.ServiceCIDR); err == nil {
		z.inside = append(z.inside, p)
	}
	for i := range table.Services {
		z.addPort(&table.Services[i])
	}
	for i := range table.Names {
		z.addName(&table.Names[i])
	}
	return z
}

// at is the node of a name. With it exist the names it is under: they have no records, but they are there.
func (z *Zone) at(name string) *node {
	n := z.names[name]
	if n != nil {
		return n
	}
	n = &node{}
	z.names[name] = n
	if _, parent, ok := strings.Cut(name, "."); ok && strings.HasSuffix(parent, "."+domain) {
		z.at(parent)
	}
	return n
}

func serviceDomain(namespace, name string) string { return name + "." + namespace + ".svc." + domain }

func (z *Zone) addPort(p *messaging.ServicePort) {
	address, err := netip.ParseAddr(p.ClusterIP)
	if err != nil {
		return
	}
	name := serviceDomain(p.Namespace, p.Name)
	if n := z.at(name); !slices.Contains(n.addresses, address) {
		n.addresses = append(n.addresses, address)
		z.pointers[address] = append(z.pointers[address], name)
	}
	z.addService(name, p.PortName, p.Protocol, target{name: name, port: p.Port})
}

func (z *Zone) addService(service, port, protocol string, t target) {
	if port == "" {
		return
	}
	n := z.at("_" + port + "._" + strings.ToLower(protocol) + "." + service)
	n.services = append(n.services, t)
}

func (z *Zone) addName(s *messaging.ServiceName) {
	name := serviceDomain(s.Namespace, s.Name)
	n := z.at(name)
	if s.External != "" {
		n.alias = strings.ToLower(strings.TrimSuffix(s.External, ".")) + "."
		return
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		address, err := netip.ParseAddr(h.IP)
		if err != nil {
			continue
		}
		own := hostLabel(h) + "." + name
		n.addresses = append(n.addresses, address)
		host := z.at(own)
		host.addresses = append(host.addresses, address)
		z.pointers[address] = append(z.pointers[address], own)
		for _, p := range h.Ports {
			z.addService(name, p.Name, p.Protocol, target{name: own, port: p.Port})
		}
	}
}

func hostLabel(h *messaging.Host) string {
	if h.Name != "" {
		return strings.ToLower(h.Name)
	}
	return dashed.Replace(h.IP)
}

var dashed = strings.NewReplacer(".", "-", ":", "-")

// Owns reports whether the zone alone answers for a name, in lower case and with the last dot.
func (z *Zone) Owns(name string) bool {
	if name == domain || strings.HasSuffix(name, "."+domain) {
		return true
	}
	address, ok := reversed(name)
	return ok && slices.ContainsFunc(z.inside, func(p netip.Prefix) bool { return p.Contains(address) })
}

// Lookup returns a name's records of a type, or the CNAME that stands in their place, and whether the name exists. The
// name is in lower case, with the last dot, and owned by the zone.
func (z *Zone) Lookup(name string, of dnsmessage.Type) (records []dnsmessage.ResourceBody, exists bool) {
	if address, ok := reversed(name); ok {
		return z.pointersTo(address, of), len(z.pointers[address]) > 0
	}
	n := z.names[name]
	if n == nil {
		n = z.podName(name)
	}
	if n == nil {
		return nil, false
	}
	return n.records(of), true
}

// records are in the order of the table.
func (n *node) records(of dnsmessage.Type) (all []dnsmessage.ResourceBody) {
	if n.alias != "" {
		return pointTo([]string{n.alias}, func(name dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.CNAMEResource{CNAME: name} })
	}
	switch of { //nolint:exhaustive // names have no records of other types
	case dnsmessage.TypeA:
		for _, a := range n.addresses {
			if a.Is4() {
				all = append(all, &dnsmessage.AResource{A: a.As4()})
			}
		}
	case dnsmessage.TypeAAAA:
		for _, a := range n.addresses {
			if a.Is6() {
				all = append(all, &dnsmessage.AAAAResource{AAAA: a.As16()})
			}
		}
	case dnsmessage.TypeSRV:
		for _, t := range n.services {
			if name, err := dnsmessage.NewName(t.name); err == nil {
				all = append(all, &dnsmessage.SRVResource{Weight: uint16(max(1, 100/len(n.services))), Port: t.port, Target: name})
			}
		}
	case dnsmessage.TypeTXT:
		if n.text != "" {
			all = append(all, &dnsmessage.TXTResource{TXT: []string{n.text}})
		}
	}
	return all
}

func (z *Zone) pointersTo(address netip.Addr, of dnsmessage.Type) []dnsmessage.ResourceBody {
	if of != dnsmessage.TypePTR {
		return nil
	}
	return pointTo(z.pointers[address], func(name dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.PTRResource{PTR: name} })
}

// pointTo leaves out what is no name.
func pointTo(names []string, record func(dnsmessage.Name) dnsmessage.ResourceBody) (all []dnsmessage.ResourceBody) {
	for _, text := range names {
		if name, err := dnsmessage.NewName(text); err == nil {
			all = append(all, record(name))
		}
	}
	return all
}

// podName reads a pod's address out of its name, 10-42-1-7.shop.pod.cluster.local; nil for a name without one.
func (z *Zone) podName(name string) *node {
	rest, ok := strings.CutSuffix(name, ".pod."+domain)
	label, namespace, two := strings.Cut(rest, ".")
	if !ok || !two || strings.Contains(namespace, ".") {
		return nil
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(label, "-", "."))
	if err != nil || !z.pods.Contains(address) {
		return nil
	}
	return &node{addresses: []netip.Addr{address}}
}

// reversed is the IPv4 address that a name under in-addr.arpa is about.
func reversed(name string) (netip.Addr, bool) {
	rest, ok := strings.CutSuffix(name, "."+reverse)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 {
		return netip.Addr{}, false
	}
	slices.Reverse(parts)
	address, err := netip.ParseAddr(strings.Join(parts, "."))
	return address, err == nil
}
