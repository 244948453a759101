package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/messaging"
)

// Settings are the facts about this node that rules depend on.
type Settings struct {
	NodeAddress netip.Addr   // this node's own address, an IPv4 address
	PodCIDR     netip.Prefix // addresses of this node's pods; zero when none was allocated yet
	// Masquerade gives pods the node's address when they talk to anything outside the cluster. Without it the network
	// around the node must have routes back to pod addresses.
	Masquerade bool
	// API is where this node carries connections to the cluster's API, an address that only its own programs can reach.
	// With it, the kubernetes Service leads there, whatever endpoints it has. The zero value means that nobody does.
	API netip.AddrPort
	// PodLinks starts the names of the node's ends of its pods' links: what may come in for API, besides this node's own.
	PodLinks string
}

// Ruleset is everything that the kernel should hold, in a form that can be compared.
type Ruleset struct {
	Settings

	ServiceCIDR    netip.Prefix
	ClusterPodCIDR netip.Prefix
	Services       map[Key]Service         // by cluster address, and by those of this node for what comes from outside
	Hairpins       map[netip.Addr]struct{} // endpoints on this node that a client might share an address with
}

// Key is the address of one service port.
type Key struct {
	Addr     netip.Addr
	Protocol uint8 // IPPROTO_TCP or IPPROTO_UDP
	Port     uint16
}

// Service is where one service port leads.
type Service struct {
	Affinity bool             // choose by the client's address instead of at random
	Slots    []netip.AddrPort // at least one; an endpoint may have several
}

// Pick is how the service chooses.
func (s Service) Pick() Pick { return Pick{Slots: uint32(len(s.Slots)), Affinity: s.Affinity} }

// Slot is one place of a service port and the endpoint that stands there.
type Slot struct {
	Key
	Index    uint32
	Endpoint netip.AddrPort
}

// Pick says how a service port chooses among its slots. It names a chain.
type Pick struct {
	Slots    uint32 // at least 1
	Affinity bool   // by the client's address instead of at random
}

// Chain is the name of the chain that picks so.
func (p Pick) Chain() string {
	if p.Affinity {
		return fmt.Sprintf("stick-%d", p.Slots)
	}
	return fmt.Sprintf("pick-%d", p.Slots)
}

// Picks returns the distinct ways to pick that are in use, sorted.
func (r Ruleset) Picks() []Pick {
	seen := map[Pick]struct{}{}
	for _, s := range r.Services {
		seen[s.Pick()] = struct{}{}
	}
	return sortedKeys(seen, func(a, b Pick) int {
		return cmp.Or(strings.Compare(a.Chain()[:4], b.Chain()[:4]), cmp.Compare(a.Slots, b.Slots))
	})
}

// HostPort is a port of this node that leads to one of its pods.
type HostPort struct {
	Addr     netip.Addr // of this node; the zero or unspecified Addr means the one in Settings
	Protocol string     // TCP or UDP
	Port     uint16
	Pod      netip.AddrPort
}

// Render turns the cluster's service table, and the ports of this node's pods, into this node's ruleset. A bad entry is left out and reported in the error,
// which joins one error per entry; the ruleset is complete but for those. Only a table without usable address ranges
// gives no ruleset: then the result is the zero Ruleset, whose ServiceCIDR is not valid.
func Render(table messaging.ServiceTable, hostPorts []HostPort, s Settings) (Ruleset, error) {
	services, err := parseIPv4Prefix("service", table.ServiceCIDR)
	if err != nil {
		return Ruleset{}, err
	}
	pods, err := parseIPv4Prefix("pod", table.PodCIDR)
	if err != nil {
		return Ruleset{}, err
	}
	r := Ruleset{
		Settings: s, ServiceCIDR: services, ClusterPodCIDR: pods,
		Services: make(map[Key]Service, len(table.Services)), Hairpins: map[netip.Addr]struct{}{},
	}
	var problems []error
	for _, port := range table.Services {
		if err := r.add(port); err != nil {
			problems = append(problems, fmt.Errorf("service %s/%s port %d/%s: %w",
				port.Namespace, port.Name, port.Port, port.Protocol, err))
		}
	}
	for _, port := range hostPorts {
		if err := r.addHostPort(port); err != nil {
			problems = append(problems, fmt.Errorf("host port %d/%s of %s: %w", port.Port, port.Protocol, port.Pod, err))
		}
	}
	return r, errors.Join(problems...)
}

// add takes in one service port. Bad endpoints are left out and reported; the others serve.
func (r *Ruleset) add(port messaging.ServicePort) error {
	if port.ClusterIP == "" || port.ClusterIP == "None" {
		return nil // headless: DNS alone serves it
	}
	key, err := r.key(port)
	if err != nil {
		return err
	}
	if port.IsAPI() && r.API.IsValid() {
		r.Services[key] = newService(false, []netip.AddrPort{r.API}) // no node port: this is for the node's own pods
		return nil
	}
	endpoints, err := parseEndpoints(port.Endpoints, r.ServiceCIDR)
	if len(endpoints) == 0 {
		return err // no endpoint: no entry, and connections are refused
	}
	outside := endpoints
	if port.Local {
		outside = r.own(endpoints)
	}
	if port.Own {
		endpoints = r.own(endpoints)
	}
	r.lead(key, port.Affinity, endpoints)
	err = errors.Join(err, r.addNodePort(port, key.Protocol, outside), r.addExternal(port, key, outside))
	for _, endpoint := range endpoints {
		if r.PodCIDR.IsValid() && r.PodCIDR.Contains(endpoint.Addr()) {
			r.Hairpins[endpoint.Addr()] = struct{}{}
		}
	}
	return err
}

func newService(affinity bool, endpoints []netip.AddrPort) Service {
	if affinity {
		return Service{Affinity: true, Slots: rendezvous(endpoints)}
	}
	return Service{Slots: endpoints}
}

// own are those endpoints that are on this node.
func (r *Ruleset) own(endpoints []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(endpoints), func(e netip.AddrPort) bool {
		return !r.PodCIDR.IsValid() || !r.PodCIDR.Contains(e.Addr())
	})
}

// lead makes key lead to endpoints. Without one there is no entry, and connections are refused.
func (r *Ruleset) lead(key Key, affinity bool, endpoints []netip.AddrPort) {
	if len(endpoints) > 0 {
		r.Services[key] = newService(affinity, endpoints)
	}
}

// addNodePort makes the port known under this node's own address, if it has a number there. Without an endpoint that it
// may lead to, the node answers as it does on any port on which nobody listens.
func (r *Ruleset) addNodePort(port messaging.ServicePort, protocol uint8, endpoints []netip.AddrPort) error {
	if port.NodePort == 0 || !r.NodeAddress.IsValid() {
		return nil
	}
	key := Key{Addr: r.NodeAddress, Protocol: protocol, Port: port.NodePort}
	if _, taken := r.Services[key]; taken {
		return fmt.Errorf("node port %d is taken by another service", port.NodePort)
	}
	r.lead(key, port.Affinity, endpoints)
	return nil
}

// addExternal makes the port known under addresses that somebody else brings to this node. One of the cluster's own
// networks would take over what is there.
func (r *Ruleset) addExternal(port messaging.ServicePort, key Key, endpoints []netip.AddrPort) error {
	var problems []error
	for _, text := range port.External {
		addr, err := netip.ParseAddr(text)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("external address: %w", err))
			continue
		case !addr.Is4() || !addr.IsGlobalUnicast() || r.ServiceCIDR.Contains(addr) || r.ClusterPodCIDR.Contains(addr):
			problems = append(problems, fmt.Errorf("external address %s: want an IPv4 unicast address outside the cluster's networks", addr))
			continue
		}
		key.Addr = addr
		if _, taken := r.Services[key]; taken {
			problems = append(problems, fmt.Errorf("external address %s is taken by another service", netip.AddrPortFrom(addr, key.Port)))
			continue
		}
		r.lead(key, port.Affinity, endpoints)
	}
	return errors.Join(problems...)
}

func (r *Ruleset) addHostPort(port HostPort) error {
	addr := port.Addr
	if !addr.IsValid() || addr.IsUnspecified() {
		addr = r.NodeAddress
	}
	protocol, err := parseProtocol(port.Protocol)
	if err != nil {
		return err
	}
	if !addr.Is4() || !port.Pod.Addr().Is4() {
		return errors.New("only IPv4 is forwarded")
	}
	key := Key{Addr: addr, Protocol: protocol, Port: port.Port}
	if _, taken := r.Services[key]; taken {
		return fmt.Errorf("%s is taken", netip.AddrPortFrom(addr, port.Port))
	}
	r.lead(key, false, []netip.AddrPort{port.Pod})
	r.Hairpins[port.Pod.Addr()] = struct{}{}
	return nil
}

func parseProtocol(name string) (uint8, error) {
	switch name {
	case "TCP", "":
		return unix.IPPROTO_TCP, nil
	case "UDP":
		return unix.IPPROTO_UDP, nil
	default:
		return 0, errors.New("protocol is neither TCP nor UDP")
	}
}

func (r *Ruleset) key(port messaging.ServicePort) (Key, error) {
	addr, err := netip.ParseAddr(port.ClusterIP)
	if err != nil {
		return Key{}, fmt.Errorf("cluster IP: %w", err)
	}
	if !r.ServiceCIDR.Contains(addr) {
		return Key{}, fmt.Errorf("cluster IP %s is outside the service range %s", addr, r.ServiceCIDR)
	}
	if port.Port == 0 {
		return Key{}, errors.New("port is 0")
	}
	key := Key{Addr: addr, Port: port.Port}
	if key.Protocol, err = parseProtocol(port.Protocol); err != nil {
		return Key{}, err
	}
	if _, taken := r.Services[key]; taken {
		return Key{}, fmt.Errorf("%s is taken by another service", netip.AddrPortFrom(addr, port.Port))
	}
	return key, nil
}

// parseEndpoints returns the usable endpoints, sorted and without doubles. An endpoint that is itself a service address
// would be a loop.
func parseEndpoints(texts []string, services netip.Prefix) ([]netip.AddrPort, error) {
	var endpoints []netip.AddrPort
	var problems []error
	for _, text := range texts {
		endpoint, err := netip.ParseAddrPort(text)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("endpoint %q: %w", text, err))
		case !endpoint.Addr().Is4() || !endpoint.Addr().IsGlobalUnicast() || endpoint.Port() == 0:
			problems = append(problems, fmt.Errorf("endpoint %s: want an IPv4 unicast address and a port", text))
		case services.Contains(endpoint.Addr()):
			problems = append(problems, fmt.Errorf("endpoint %s is a service address", text))
		default:
			endpoints = append(endpoints, endpoint)
		}
	}
	slices.SortFunc(endpoints, netip.AddrPort.Compare)
	return slices.Compact(endpoints), errors.Join(problems...)
}

// minAffinitySlots keeps the share of each of a few endpoints near even.
const minAffinitySlots = 256

// rendezvous gives each slot to the endpoint with the highest hash of (slot, endpoint): Thaler and Ravishankar, "A
// name-based mapping scheme for rendezvous", 1996. The number of slots is a power of two that changes rarely.
func rendezvous(endpoints []netip.AddrPort) []netip.AddrPort {
	count := minAffinitySlots
	for count < 16*len(endpoints) {
		count *= 2
	}
	slots := make([]netip.AddrPort, count)
	for i := range slots {
		slots[i] = slices.MaxFunc(endpoints, func(a, b netip.AddrPort) int {
			return cmp.Compare(weight(uint32(i), a), weight(uint32(i), b))
		})
	}
	return slots
}

func weight(slot uint32, endpoint netip.AddrPort) uint64 {
	h := fnv.New64a()
	addr := endpoint.Addr().As4()
	_, _ = h.Write([]byte{ // a hash.Hash never fails
		byte(slot >> 8), byte(slot), addr[0], addr[1], addr[2], addr[3], byte(endpoint.Port() >> 8), byte(endpoint.Port()),
	})
	return mix(h.Sum64())
}

// mix is the finaliser of MurmurHash3: FNV alone leaves the high bits, which decide here, poorly mixed for short input.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func parseIPv4Prefix(what, text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s range of the service table: %w", what, err)
	}
	if !prefix.Addr().Is4() || prefix.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%s range of the service table: %s is not an IPv4 network", what, prefix)
	}
	return prefix.Masked(), nil
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compare)
	return keys
}

func compareKeys(a, b Key) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}
