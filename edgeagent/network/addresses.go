package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// ErrNoPodCIDR says that the coordinator has not given this node a pod range yet. Pods on the host's network can run.
var ErrNoPodCIDR = errors.New("this node has no pod address range yet")

// ErrAddressesUsedUp says that every address of the node's pod range belongs to a pod.
var ErrAddressesUsedUp = errors.New("every address of the node's pod range is in use")

// allocate gives the pod an address, or the one that it already has. The symbolic link is made by the kernel only if no
// other of that name exists, so two pods never get one address, whatever dies in between.
func (n *Network) allocate(uid string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.podCIDR.IsValid() {
		return netip.Addr{}, ErrNoPodCIDR
	}
	if err := os.MkdirAll(n.runDir("addresses"), 0o700); err != nil {
		return netip.Addr{}, err
	}
	held, err := n.addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	for addr, owner := range held {
		if owner == uid {
			return addr, nil
		}
	}
	return n.claim(uid, held)
}

// claim tries each address once, starting after the last one given out. The first two and the last one stay unused:
// the network address, one in reserve for the node itself, and the broadcast address.
func (n *Network) claim(uid string, held map[netip.Addr]string) (netip.Addr, error) {
	first := n.podCIDR.Masked().Addr().Next().Next()
	addr := n.lastAddr
	if !n.podCIDR.Contains(addr) {
		addr = first
		for taken := range held {
			if n.podCIDR.Contains(taken) && taken.Compare(addr) >= 0 {
				addr = taken
			}
		}
	} else {
		addr = addr.Next()
	}
	for range 1 << (32 - n.podCIDR.Bits()) {
		if !n.podCIDR.Contains(addr.Next()) {
			addr = first
		}
		if _, taken := held[addr]; !taken {
			err := os.Symlink(uid, n.runDir("addresses", addr.String()))
			if err == nil {
				n.lastAddr = addr
				return addr, nil
			}
			if !errors.Is(err, fs.ErrExist) {
				return netip.Addr{}, fmt.Errorf("claim address: %w", err)
			}
		}
		addr = addr.Next()
	}
	return netip.Addr{}, fmt.Errorf("%w: %s", ErrAddressesUsedUp, n.podCIDR)
}

// addresses lists who holds which address. What is not a symbolic link named like an address is none of ours.
func (n *Network) addresses() (map[netip.Addr]string, error) {
	entries, err := os.ReadDir(n.runDir("addresses"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	held := make(map[netip.Addr]string, len(entries))
	for _, entry := range entries {
		addr, err := netip.ParseAddr(entry.Name())
		if err != nil || entry.Type() != fs.ModeSymlink {
			continue
		}
		owner, err := os.Readlink(filepath.Join(n.runDir("addresses"), entry.Name()))
		if err != nil {
			return nil, err
		}
		held[addr] = owner
	}
	return held, nil
}

// release gives back every address that the pod holds.
func (n *Network) release(uid string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	held, err := n.addresses()
	if err != nil {
		return err
	}
	for addr, owner := range held {
		if owner != uid {
			continue
		}
		if err := os.Remove(n.runDir("addresses", addr.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
