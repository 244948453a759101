package proxy

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Registers hold 4 bytes each from reg1 on; register 1 is the first, 9 to 11 are the ones after it. nft uses the same
// numbers, so it can print these rules.
const (
	reg1 = unix.NFT_REG_1
	reg2 = unix.NFT_REG32_01
	reg3 = unix.NFT_REG32_02
	reg4 = unix.NFT_REG32_03
)

// affinitySeed must be the same on every node, so that all of them send a client to the same endpoint.
const affinitySeed = 0x736b

// match is a condition: expressions that end a rule's evaluation when they do not hold.
type match []expr.Any

// rule joins conditions and a final action.
func rule(parts ...match) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func addBaseRules(conn *nftables.Conn, r Ruleset) {
	toService := destinationIn(r.ServiceCIDR)
	toEndpoint := match(append(loadServiceKey(), &expr.Lookup{
		SourceRegister: reg1, DestRegister: 0, IsDestRegSet: true, SetName: servicesMap.Name, SetID: servicesMap.ID,
	}))
	prerouting := baseChain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	output := baseChain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	for _, chain := range []*nftables.Chain{prerouting, output} {
		conn.AddChain(chain)
		addRule(conn, chain, "new connections to services, node ports and host ports", rule(toEndpoint))
	}
	forward := baseChain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	local := baseChain("local", nftables.ChainTypeFilter, nftables.ChainHookOutput, nftables.ChainPriorityFilter)
	for _, chain := range []*nftables.Chain{forward, local} {
		conn.AddChain(chain)
		addRule(conn, chain, "no endpoint", rule(toService, protocolIs(unix.IPPROTO_TCP), match{
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		}))
		addRule(conn, chain, "no endpoint", rule(toService, match{
			&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: icmpPortUnreachable},
		}))
	}
	if r.API.IsValid() {
		addAPIRules(conn, r)
	}
	addSourceRules(conn, r)
}

// addAPIRules keeps everybody but this node's own programs from where it carries connections to the API: a host takes
// packets for any of its addresses on any of its links.
func addAPIRules(conn *nftables.Conn, r Ruleset) {
	input := baseChain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	conn.AddChain(input)
	addRule(conn, input, "the API is for this node's pods", rule(
		destinationIn(host(r.API.Addr())), linkIsNot("lo\x00"), linkIsNot(r.PodLinks), match{&expr.Verdict{Kind: expr.VerdictDrop}}))
}

// linkIsNot matches packets that came in by a link whose name does not start so; a name that ends in a zero byte is whole.
func linkIsNot(name string) match {
	return match{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte(name)},
	}
}

const icmpPortUnreachable = 3

// addSourceRules makes answers come back through this node where they otherwise would not.
func addSourceRules(conn *nftables.Conn, r Ruleset) {
	chain := baseChain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	conn.AddChain(chain)
	viaService, viaNode := originally(expr.CmpOpEq, r.ServiceCIDR), rule(originally(expr.CmpOpNeq, r.ServiceCIDR), redirected())
	for _, via := range []match{viaService, viaNode} {
		addRule(conn, chain, "a pod that reaches itself", rule(via, sourceIsDestination(), sourceNAT(r.NodeAddress)))
	}
	elsewhere := viaNode
	if r.PodCIDR.IsValid() {
		elsewhere = rule(elsewhere, destinationOutside(r.PodCIDR))
	}
	addRule(conn, chain, "by a port of the node, endpoint elsewhere", rule(elsewhere, match{&expr.Masq{}}))

	outside := rule(viaService, sourceOutside(r.ClusterPodCIDR), sourceOutside(host(r.NodeAddress)))
	if r.PodCIDR.IsValid() {
		outside = rule(outside, destinationOutside(r.PodCIDR))
	}
	addRule(conn, chain, "outside client, endpoint elsewhere", rule(outside, match{&expr.Masq{}}))

	if r.Masquerade && r.PodCIDR.IsValid() {
		addRule(conn, chain, "pods to the world", rule(
			sourceIn(r.PodCIDR), destinationOutside(r.ClusterPodCIDR), match{&expr.Masq{}}))
	}
}

// addPick makes the chain that chooses one of n slots and rewrites the destination.
func addPick(conn *nftables.Conn, pick Pick) {
	chain := conn.AddChain(&nftables.Chain{Table: table, Name: pick.Chain()})
	exprs := loadServiceKey()
	if pick.Affinity {
		exprs = append(exprs,
			payload(sourceOffset, 4, reg4, expr.PayloadBaseNetworkHeader),
			&expr.Hash{
				SourceRegister: reg4, DestRegister: reg4, Length: 4, Modulus: pick.Slots,
				Seed: affinitySeed, Type: expr.HashTypeJenkins,
			})
	} else {
		exprs = append(exprs, &expr.Numgen{Register: reg4, Modulus: pick.Slots, Type: unix.NFT_NG_RANDOM})
	}
	exprs = append(exprs,
		&expr.Lookup{
			SourceRegister: reg1, DestRegister: reg1, IsDestRegSet: true, SetName: slotsMap.Name, SetID: slotsMap.ID,
		},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg2})
	addRule(conn, chain, "", exprs)
}

func baseChain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
	return &nftables.Chain{Table: table, Name: name, Type: kind, Hooknum: hook, Priority: priority}
}

func addRule(conn *nftables.Conn, chain *nftables.Chain, comment string, exprs []expr.Any) {
	rule := &nftables.Rule{Table: table, Chain: chain, Exprs: exprs}
	if comment != "" {
		rule.UserData = userdata.AppendString(nil, userdata.TypeComment, comment)
	}
	conn.AddRule(rule)
}

const (
	sourceOffset      = 12 // of the source address in the IPv4 header
	destinationOffset = 16
	portOffset        = 2 // of the destination port in the TCP and UDP headers
)

// loadServiceKey puts destination address, protocol and destination port into the first three registers. The protocol
// comes before the port: loading it is what makes the kernel know that there is a transport header.
func loadServiceKey() []expr.Any {
	return []expr.Any{
		payload(destinationOffset, 4, reg1, expr.PayloadBaseNetworkHeader),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg2},
		payload(portOffset, 2, reg3, expr.PayloadBaseTransportHeader),
	}
}

func payload(offset, length, register uint32, base expr.PayloadBase) *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

func protocolIs(protocol byte) match {
	return match{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{protocol}},
	}
}

func sourceIn(p netip.Prefix) match      { return address(sourceOffset, expr.CmpOpEq, p) }
func sourceOutside(p netip.Prefix) match { return address(sourceOffset, expr.CmpOpNeq, p) }
func destinationIn(p netip.Prefix) match { return address(destinationOffset, expr.CmpOpEq, p) }
func destinationOutside(p netip.Prefix) match {
	return address(destinationOffset, expr.CmpOpNeq, p)
}

func address(offset uint32, op expr.CmpOp, p netip.Prefix) match {
	return append(match{payload(offset, 4, reg1, expr.PayloadBaseNetworkHeader)}, masked(op, p)...)
}

// originally matches packets of connections whose client asked for an address in p, or not in p.
func originally(op expr.CmpOp, p netip.Prefix) match {
	return append(match{&expr.Ct{Key: expr.CtKeyDST, Register: reg1}}, masked(op, p)...)
}

// redirected matches packets of connections whose destination these rules have changed.
func redirected() match {
	const changed = 1 << 5 // IPS_DST_NAT
	bits := binaryutil.NativeEndian.PutUint32(changed)
	return match{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: bits, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}
}

func masked(op expr.CmpOp, p netip.Prefix) match {
	addr := p.Masked().Addr().As4()
	compare := &expr.Cmp{Op: op, Register: reg1, Data: addr[:]}
	if p.IsSingleIP() {
		return match{compare}
	}
	mask := net.CIDRMask(p.Bits(), 32)
	return match{
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		compare,
	}
}

// sourceIsDestination holds for local endpoints only; nftables cannot compare two fields, hence a set of pairs.
func sourceIsDestination() match {
	return match{
		payload(sourceOffset, 4, reg1, expr.PayloadBaseNetworkHeader),
		payload(destinationOffset, 4, reg2, expr.PayloadBaseNetworkHeader),
		&expr.Lookup{SourceRegister: reg1, SetName: hairpinsSet.Name, SetID: hairpinsSet.ID},
	}
}

func sourceNAT(to netip.Addr) match {
	addr := to.As4()
	return match{
		&expr.Immediate{Register: reg1, Data: addr[:]},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1},
	}
}

func host(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }
