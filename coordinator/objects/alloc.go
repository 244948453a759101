package objects

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"iter"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"skerry.dev/skerry/coordinator/view"
)

// pool hands out small numbers, each to one object. What is taken is what the view shows plus what is on its way there,
// so nothing has to be rebuilt after a restart.
type pool struct {
	mu      sync.Mutex
	pending map[uint32]bool // reserved for a write whose result the view does not show yet
}

func newPool() *pool { return &pool{pending: map[uint32]bool{}} }

// reservation is a number on its way into an object. A nil one holds nothing.
type reservation struct {
	pool  *pool
	index uint32
	next  *reservation // another one for the same object
}

// and joins two reservations for one object; either may be nil.
func (r *reservation) and(o *reservation) *reservation {
	if r == nil {
		return o
	}
	last := r
	for last.next != nil {
		last = last.next
	}
	last.next = o
	return r
}

// settle ends a reservation with the result of the write. When nobody knows whether the write happened the number stays
// reserved while this process lives: losing one is better than giving it out twice.
func (r *reservation) settle(err error) {
	if r == nil || unsettled(err) {
		return
	}
	for ; r != nil; r = r.next {
		r.pool.release(r.index)
	}
}

func (p *pool) release(index uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, index)
}

// claim reserves the first free candidate; nil when all are taken. used gives what the view shows.
func (p *pool) claim(used func() map[uint32]bool, candidates iter.Seq[uint32]) *reservation {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := used()
	for c := range candidates {
		if !taken[c] && !p.pending[c] {
			p.pending[c] = true
			return &reservation{pool: p, index: c}
		}
	}
	return nil
}

// reserve asks the kind's allocator, if it has one.
func (st *strategy) reserve(obj, old runtime.Object) (*reservation, field.ErrorList) {
	if st.allocate == nil {
		return nil, nil
	}
	return st.allocate(obj, old)
}

// network numbers the addresses of an IPv4 prefix.
type network struct {
	prefix netip.Prefix
	base   uint32
}

func newNetwork(p netip.Prefix, least, most int) (network, error) {
	if !p.Addr().Is4() || p.Bits() < least || p.Bits() > most {
		return network{}, fmt.Errorf("prefix %s: want an IPv4 prefix between /%d and /%d", p, least, most)
	}
	b := p.Masked().Addr().As4()
	return network{p.Masked(), binary.BigEndian.Uint32(b[:])}, nil
}

func (n network) addr(index uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n.base+index)
	return netip.AddrFrom4(b)
}

func (n network) index(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:]) - n.base
}

func (n network) contains(a netip.Addr) bool { return a.Is4() && n.prefix.Contains(a) }

func (n network) size() uint32 { return 1 << (32 - n.prefix.Bits()) }

// addresses gives cluster IPs to services.
type addresses struct {
	network
	*pool
	fixed uint32 // below this number addresses are left to those who name them
}

// newAddresses keeps, as upstream, the first min(max(16, size/16), 256) addresses for requests that name one.
func newAddresses(p netip.Prefix) (*addresses, error) {
	n, err := newNetwork(p, 12, 28)
	if err != nil {
		return nil, err
	}
	fixed := min(max(16, n.size()/16), 256)
	if fixed >= n.size()-1 {
		fixed = 1
	}
	return &addresses{n, newPool(), fixed}, nil
}

// candidates are all addresses but the first and last, from a place that depends on seed, those of the fixed band last.
// The place varies so that an address just given back is not given out at once.
func (a *addresses) candidates(seed string) iter.Seq[uint32] {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed)) // never fails
	return func(yield func(uint32) bool) {
		span := a.size() - 1 - a.fixed
		start := h.Sum32() % span
		for i := range span {
			if !yield(a.fixed + (start+i)%span) {
				return
			}
		}
		for i := uint32(1); i < a.fixed; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

func (a *addresses) used(v *view.View) func() map[uint32]bool {
	return func() map[uint32]bool {
		items, _ := v.List(services, "")
		taken := make(map[uint32]bool, len(items))
		for _, i := range items {
			if svc, ok := i.Object.(*corev1.Service); ok {
				if ip, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil && a.contains(ip) {
					taken[a.index(ip)] = true
				}
			}
		}
		return taken
	}
}

// subnets gives each node its share of the pod network.
type subnets struct {
	network
	*pool
	bits int // prefix length of one share
}

func newSubnets(p netip.Prefix, bits int) (*subnets, error) {
	if bits == 0 {
		bits = 24
	}
	n, err := newNetwork(p, 8, 28)
	if err != nil {
		return nil, err
	}
	if bits <= p.Bits() || bits > 30 {
		return nil, fmt.Errorf("a node's share of /%d: want between /%d and /30 in %s", bits, p.Bits()+1, p)
	}
	return &subnets{n, newPool(), bits}, nil
}

func (s *subnets) count() uint32 { return 1 << (s.bits - s.prefix.Bits()) }

func (s *subnets) subnet(index uint32) netip.Prefix {
	return netip.PrefixFrom(s.addr(index<<(32-s.bits)), s.bits)
}

// number is the index of a share; false when p is none.
func (s *subnets) number(p netip.Prefix) (uint32, bool) {
	if p.Bits() != s.bits || p != p.Masked() || !s.contains(p.Addr()) {
		return 0, false
	}
	return s.index(p.Addr()) >> (32 - s.bits), true
}

func (s *subnets) candidates() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i := range s.count() {
			if !yield(i) {
				return
			}
		}
	}
}

func (s *subnets) used(v *view.View) func() map[uint32]bool {
	return func() map[uint32]bool {
		items, _ := v.List(nodes, "")
		taken := make(map[uint32]bool, len(items))
		for _, i := range items {
			if node, ok := i.Object.(*corev1.Node); ok {
				if p, err := netip.ParsePrefix(node.Spec.PodCIDR); err == nil {
					if n, ok := s.number(p); ok {
						taken[n] = true
					}
				}
			}
		}
		return taken
	}
}

// single yields one number.
func single(index uint32) iter.Seq[uint32] {
	return func(yield func(uint32) bool) { yield(index) }
}
