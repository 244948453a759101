package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	mdnetlink "github.com/mdlayher/netlink"
)

const (
	// TableName is the nftables table (family ip) that this package owns.
	TableName = "skerry"

	// elementsPerMessage keeps a message's element list below the 64 KiB that a netlink attribute can hold.
	elementsPerMessage = 600
	// socketBytes lets a transaction of 100,000 elements, and its acknowledgements, through the netlink socket.
	socketBytes = 32 << 20
	// transactionTimeout bounds the wait for the kernel.
	transactionTimeout = 30 * time.Second
)

// Set ids only need to be distinct within a transaction.
const (
	servicesID = iota + 1
	slotsID
	hairpinsID
)

var table = &nftables.Table{Name: TableName, Family: nftables.TableFamilyIPv4}

// The slot number is declared as a mark, the one 4-byte integer type that nft prints without more declarations.
var (
	servicesMap = &nftables.Set{
		Table: table, ID: servicesID, Name: "services", IsMap: true, Concatenation: true,
		KeyType:  nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		DataType: nftables.TypeVerdict,
	}
	slotsMap = &nftables.Set{
		Table: table, ID: slotsID, Name: "slots", IsMap: true, Concatenation: true,
		KeyType: nftables.MustConcatSetType(
			nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark),
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
	}
	hairpinsSet = &nftables.Set{
		Table: table, ID: hairpinsID, Name: "hairpins", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr),
	}
)

// kernel is a netlink connection to nftables. It is opened at first use and kept, because closing one waits for the
// kernel to reclaim what the last transaction removed (10 ms).
type kernel struct {
	conn   *nftables.Conn
	socket *mdnetlink.Conn // the one inside conn
}

// write performs the change in one transaction: the kernel takes all of it or nothing.
func (k *kernel) write(ctx context.Context, want Ruleset, c Change) error {
	return k.transact(ctx, func(conn *nftables.Conn) error {
		if c.Base {
			if err := addBase(conn, want); err != nil {
				return err
			}
		}
		for _, pick := range c.AddedPicks {
			addPick(conn, pick)
		}
		if err := writeElements(conn, want, c); err != nil {
			return err
		}
		for _, pick := range c.RemovedPicks {
			conn.DelChain(&nftables.Chain{Table: table, Name: pick.Chain()})
		}
		return nil
	})
}

func (k *kernel) removeTable(ctx context.Context) error {
	err := k.transact(ctx, func(conn *nftables.Conn) error {
		conn.AddTable(table)
		conn.DelTable(table)
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove service rules: %w", err)
	}
	return nil
}

func (k *kernel) tablePresent(ctx context.Context) (bool, error) {
	present := true
	err := k.transact(ctx, func(conn *nftables.Conn) error {
		_, err := conn.ListTableOfFamily(TableName, nftables.TableFamilyIPv4)
		if errors.Is(err, os.ErrNotExist) {
			present = false
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look for service rules: %w", err)
	}
	return present, nil
}

// transact sends what fill puts into the connection. After an error the connection is closed: answers may be left in it.
func (k *kernel) transact(ctx context.Context, fill func(*nftables.Conn) error) error {
	if err := k.open(ctx); err != nil {
		return err
	}
	err := fill(k.conn)
	if err == nil {
		err = k.conn.Flush()
	}
	if err != nil {
		return errors.Join(err, k.close())
	}
	return nil
}

// open makes the connection ready for one transaction that ends with ctx or after transactionTimeout.
func (k *kernel) open(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.conn == nil {
		conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(
			func(c *mdnetlink.Conn) error { k.socket = c; return nil },
			func(c *mdnetlink.Conn) error { return c.SetWriteBuffer(socketBytes) },
			func(c *mdnetlink.Conn) error { return c.SetReadBuffer(socketBytes / 8) },
		))
		if err != nil {
			return fmt.Errorf("open netlink to nftables: %w", err)
		}
		k.conn = conn
	}
	deadline := time.Now().Add(transactionTimeout)
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	return k.socket.SetDeadline(deadline)
}

// close may be called at any time; the next transaction opens anew.
func (k *kernel) close() error {
	if k.conn == nil {
		return nil
	}
	err := k.conn.CloseLasting()
	k.conn, k.socket = nil, nil
	return err
}

// addBase replaces the table. Adding it first makes the deletion succeed when there is none.
func addBase(conn *nftables.Conn, want Ruleset) error {
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, set := range []*nftables.Set{servicesMap, slotsMap, hairpinsSet} {
		if err := conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("declare %s: %w", set.Name, err)
		}
	}
	addBaseRules(conn, want)
	return nil
}

func writeElements(conn *nftables.Conn, want Ruleset, c Change) error {
	return errors.Join(
		inChunks(conn.SetDeleteElements, servicesMap, c.RemovedServices, func(k Key) nftables.SetElement {
			return nftables.SetElement{Key: k.encode()}
		}),
		inChunks(conn.SetDeleteElements, slotsMap, c.RemovedSlots, func(s Slot) nftables.SetElement {
			return nftables.SetElement{Key: s.encode()}
		}),
		inChunks(conn.SetDeleteElements, hairpinsSet, c.RemovedHairpins, hairpinElement),
		inChunks(conn.SetAddElements, slotsMap, c.AddedSlots, func(s Slot) nftables.SetElement {
			return nftables.SetElement{Key: s.encode(), Val: encodeEndpoint(s.Endpoint)}
		}),
		inChunks(conn.SetAddElements, servicesMap, c.AddedServices, func(k Key) nftables.SetElement {
			verdict := &expr.Verdict{Kind: expr.VerdictGoto, Chain: want.Services[k].Pick().Chain()}
			return nftables.SetElement{Key: k.encode(), VerdictData: verdict}
		}),
		inChunks(conn.SetAddElements, hairpinsSet, c.AddedHairpins, hairpinElement),
	)
}

func inChunks[K any](
	send func(*nftables.Set, []nftables.SetElement) error, set *nftables.Set, keys []K, element func(K) nftables.SetElement,
) error {
	for chunk := range slices.Chunk(keys, elementsPerMessage) {
		elements := make([]nftables.SetElement, len(chunk))
		for i, key := range chunk {
			elements[i] = element(key)
		}
		if err := send(set, elements); err != nil {
			return fmt.Errorf("encode elements of %s: %w", set.Name, err)
		}
	}
	return nil
}

// encode lays the key out as the rules load it into registers: each part starts at a multiple of 4 bytes.
func (k Key) encode() []byte {
	b := make([]byte, 12, 16)
	addr := k.Addr.As4()
	copy(b, addr[:])
	b[4] = k.Protocol
	binary.BigEndian.PutUint16(b[8:], k.Port)
	return b
}

func (s Slot) encode() []byte {
	return append(s.Key.encode(), binaryutil.NativeEndian.PutUint32(s.Index)...)
}

func encodeEndpoint(endpoint netip.AddrPort) []byte {
	b := make([]byte, 8)
	addr := endpoint.Addr().As4()
	copy(b, addr[:])
	binary.BigEndian.PutUint16(b[4:], endpoint.Port())
	return b
}

func hairpinElement(addr netip.Addr) nftables.SetElement {
	b := addr.As4()
	return nftables.SetElement{Key: append(b[:], b[:]...)}
}
