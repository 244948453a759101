package local

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// openWorld lets nodes reach what the host reaches, with the host's address: image registries, above all. Its table is
// named after the cluster. If the host did not forward packets before, it does from now on, as with any container engine.
func openWorld(mark string, subnet netip.Prefix) error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600); err != nil {
		return fmt.Errorf("let the host forward packets: %w", err)
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := worldTable(mark)
	conn.AddTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	network, mask := subnet.Masked().Addr().As4(), net.CIDRMask(subnet.Bits(), 32)
	name := make([]byte, 16) // IFNAMSIZ: names are compared with their padding
	copy(name, hostLink(mark))
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}, // source address
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network[:]},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
		&expr.Masq{},
	}})
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("write firewall table %s: %w", table.Name, err)
	}
	return nil
}

// closeWorld removes the table, if it is there.
func closeWorld(mark string) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := worldTable(mark)
	conn.AddTable(table)
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove firewall table %s: %w", table.Name, err)
	}
	return nil
}

func worldTable(mark string) *nftables.Table {
	return &nftables.Table{Name: "skerry-up-" + mark, Family: nftables.TableFamilyIPv4}
}
