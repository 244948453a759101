package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"

	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/messaging"
)

// errNoToken says what a new node needs.
var errNoToken = errors.New("this node is not enrolled yet and has no join token: make one on the coordinator with `skerry token create` and set join-token")

// identify returns who the node is: as checkpointed, or newly made for the cluster that the join token names, and then
// checkpointed before anyone hears of it.
func identify(held checkpoint.Identity, c Config, address netip.Addr, store Store) (checkpoint.Identity, messaging.JoinToken, error) {
	var token messaging.JoinToken
	if c.JoinToken != "" {
		var err error
		if token, err = messaging.ParseJoinToken(c.JoinToken); err != nil {
			return held, token, fmt.Errorf("join-token: %w", err)
		}
	}
	if len(held.KeySeed) > 0 {
		if err := checkIdentity(held, c, token); err != nil {
			return held, token, err
		}
		id, err := readdress(held, address, store)
		return id, token, err
	}
	if c.JoinToken == "" {
		return held, token, errNoToken
	}
	id, err := newIdentity(c.Name, token.CAHash)
	id.Address = address.String()
	if err == nil {
		err = store.SaveIdentity(id)
	}
	return id, token, err
}

// readdress remembers the address, when it has changed.
func readdress(id checkpoint.Identity, address netip.Addr, store Store) (checkpoint.Identity, error) {
	if id.Address == address.String() {
		return id, nil
	}
	id.Address = address.String()
	return id, store.SaveIdentity(id)
}

func checkIdentity(id checkpoint.Identity, c Config, token messaging.JoinToken) error {
	if id.Node != c.Name {
		return fmt.Errorf("%s belongs to node %q, the configured name is %q: set name, or use another state-dir", c.StateDir, id.Node, c.Name)
	}
	if !id.Enrolled && c.JoinToken == "" {
		return errNoToken
	}
	if c.JoinToken != "" && token.CAHash != id.CAHash {
		return fmt.Errorf("the join token is for another cluster than the one that %s belongs to: use another state-dir", c.StateDir)
	}
	return nil
}

func newIdentity(name, caHash string) (checkpoint.Identity, error) {
	key, err := messaging.NewSeed()
	if err != nil {
		return checkpoint.Identity{}, err
	}
	pair, err := nkeys.CreateCurveKeys()
	if err != nil {
		return checkpoint.Identity{}, fmt.Errorf("make a sealing key: %w", err)
	}
	curve, err := pair.Seed()
	return checkpoint.Identity{Node: name, KeySeed: key, CurveSeed: curve, CAHash: caHash}, err
}

// ownAddress is the configured address, or the one that this machine would use towards the first server (no packet is
// sent), or, when there is no way to it now, the one it had before.
func ownAddress(ctx context.Context, c Config, held checkpoint.Identity) (netip.Addr, error) {
	if c.Address != "" {
		return netip.ParseAddr(c.Address)
	}
	address, err := addressTowards(ctx, c)
	if err != nil && held.Address != "" {
		return netip.ParseAddr(held.Address) // booted while cut off
	}
	return address, err
}

func addressTowards(ctx context.Context, c Config) (netip.Addr, error) {
	server, err := url.Parse(c.Servers[0])
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address is not set, and server %q is no URL: %w", c.Servers[0], err)
	}
	port := server.Port()
	if port == "" {
		port = "4222"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp4", net.JoinHostPort(server.Hostname(), port))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address is not set, and there is no way to %s to see which it is: %w", server.Host, err)
	}
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if err := conn.Close(); err != nil || !ok {
		return netip.Addr{}, fmt.Errorf("address is not set and cannot be found out: %w", err)
	}
	return local.AddrPort().Addr().Unmap(), nil
}
