package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"skerry.dev/skerry/messaging"
)

// Proxy keeps the node's kernel at the latest service table. Its methods may be called concurrently.
type Proxy struct {
	log *slog.Logger

	mu       sync.Mutex // guards all below, and the table in the kernel
	settings Settings
	table    messaging.ServiceTable // the last one given to Apply
	ports    []HostPort             // the last ones given to SetHostPorts
	applied  *Ruleset               // what the kernel holds; nil when not known
	kernel   kernel
}

// New makes a proxy. It touches nothing before the first Apply, and keeps working in the network namespace in which that
// is called.
func New(settings Settings, log *slog.Logger) (*Proxy, error) {
	if err := settings.validate(); err != nil {
		return nil, err
	}
	return &Proxy{log: log, settings: settings}, nil
}

func (s Settings) validate() error {
	if !s.NodeAddress.Is4() {
		return fmt.Errorf("service proxy: node address %q is not an IPv4 address", s.NodeAddress)
	}
	if s.PodCIDR.IsValid() && !s.PodCIDR.Addr().Is4() {
		return fmt.Errorf("service proxy: pod range %s is not IPv4", s.PodCIDR)
	}
	if s.API.IsValid() && (!s.API.Addr().Is4() || s.PodLinks == "") {
		return fmt.Errorf("service proxy: API at %s by links %q: want an IPv4 address and the start of links' names", s.API, s.PodLinks)
	}
	return nil
}

// Apply makes the kernel serve the table. Established connections stay. Bad entries of the table are left out and
// returned as an error after everything else was applied; calling again with the same table is cheap and safe.
func (p *Proxy) Apply(ctx context.Context, table messaging.ServiceTable) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = table
	return p.apply(ctx)
}

// SetHostPorts says which ports of this node lead to its pods, all of them, and applies the current table with them, if
// there is one.
func (p *Proxy) SetHostPorts(ctx context.Context, ports []HostPort) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports = ports
	if p.table.ServiceCIDR == "" {
		return nil
	}
	return p.apply(ctx)
}

// SetPodCIDR tells the proxy this node's pod range once it is known, or when it changed, and applies the current table
// with it, if there is one.
func (p *Proxy) SetPodCIDR(ctx context.Context, podCIDR netip.Prefix) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	settings := p.settings
	settings.PodCIDR = podCIDR
	if err := settings.validate(); err != nil {
		return err
	}
	p.settings = settings
	if p.table.ServiceCIDR == "" {
		return nil
	}
	return p.apply(ctx)
}

// Check puts the rules back if somebody removed the table (nft flush ruleset does). Without a change it costs one small
// request; call it every now and then.
func (p *Proxy) Check(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.applied == nil {
		if p.table.ServiceCIDR == "" {
			return nil
		}
		return p.apply(ctx)
	}
	present, err := p.kernel.tablePresent(ctx)
	if err != nil || present {
		return err
	}
	p.log.Warn("service rules vanished, putting them back")
	p.applied = nil
	return p.apply(ctx)
}

// Remove takes the table out of the kernel: services stop working on this node for new connections.
func (p *Proxy) Remove(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = nil
	return p.kernel.removeTable(ctx)
}

// Close releases the connection to the kernel. The rules stay: services work while no agent runs.
func (p *Proxy) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kernel.close()
}

// apply brings the kernel from what it is known to hold to the current table. When an incremental change does not fit,
// someone else has changed the table: it is replaced as a whole.
func (p *Proxy) apply(ctx context.Context) error {
	want, problems := Render(p.table, p.ports, p.settings)
	if !want.ServiceCIDR.IsValid() {
		return problems
	}
	change := p.change(want)
	if change.Empty() {
		return problems
	}
	before := p.applied
	p.applied = nil
	err := p.kernel.write(ctx, want, change)
	if err != nil && !change.Base {
		p.log.Warn("service rules do not match, replacing them", "err", err)
		err = p.kernel.write(ctx, want, Whole(want))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write service rules: %w", err), problems)
	}
	p.applied = &want
	return errors.Join(p.forget(before, want), problems)
}

func (p *Proxy) change(want Ruleset) Change {
	if p.applied == nil {
		return Whole(want)
	}
	return Between(*p.applied, want)
}

// forget ends the kernel's memory of UDP flows to endpoints that are gone. TCP notices by itself; a UDP client would
// send into the void for as long as it keeps talking.
func (p *Proxy) forget(before *Ruleset, now Ruleset) error {
	if before == nil {
		return nil
	}
	stale := staleFlows(*before, now)
	if len(stale) == 0 {
		return nil
	}
	count, err := deleteFlows(stale)
	if err != nil {
		return fmt.Errorf("delete stale UDP flows: %w", err)
	}
	p.log.Info("stale udp flows deleted", "flows", count)
	return nil
}
