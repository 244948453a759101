package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/resource"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/device"
	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/edgeagent/idrange"
	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/edgeagent/uplink/wal"
	"skerry.dev/skerry/edgeagent/usage"
	"skerry.dev/skerry/hwprobe"
	"skerry.dev/skerry/messaging"
)

// How much a small machine does at once.
const (
	pullsAtOnce  = 3
	setUpsAtOnce = 8
)

// Options are what an agent is made of besides its settings.
type Options struct {
	Config  Config
	Version string
	Log     *slog.Logger
	// Parts are the neighbours; nil has New make the real ones.
	Parts *Parts
	// InProcess connects without a socket; only for tests.
	InProcess nats.InProcessConnProvider
}

// Parts are the agent's neighbours on the node.
type Parts struct {
	Keeper    Keeper
	Sandboxes Sandboxes
	Images    Images
	Volumes   Volumes
	// NoUsers says why this node cannot make user namespaces; nil means that it can.
	NoUsers error
	// Tables has the service table in force; nil leaves services alone.
	Tables Tables
	// HostPorts makes ports of the node lead to its pods; nil leaves them closed.
	HostPorts func(ctx context.Context, ports []proxy.HostPort) error
	// Names makes names of services known to pods; nil leaves them unknown.
	Names func(table messaging.ServiceTable)
	// Routes makes the pods of other nodes reachable; nil leaves routes alone.
	Routes func(ctx context.Context, nodes []messaging.NodeRoute) error
	// SetPodCIDR takes the node's pod range when the coordinator names it; nil ignores it.
	SetPodCIDR func(ctx context.Context, p netip.Prefix) error
	// Gauges measure what the node has left; nil has it never short of anything.
	Gauges Gauges
	// Watch calls back with the hardware now and whenever it changes, until ctx ends.
	Watch func(ctx context.Context, log *slog.Logger, changed func(api.Inventory)) error
	// Run does the parts' own work until ctx ends; nil for none.
	Run func(ctx context.Context) error
}

// Agent is a node's agent.
type Agent struct {
	options  Options
	parts    Parts
	log      *slog.Logger
	address  netip.Addr
	store    *checkpoint.Store
	identity checkpoint.Identity // the uplink's goroutine changes it
	join     messaging.JoinToken // zero for an enrolled node that was given none
	wal      *wal.Log
	uplink   *uplink.Uplink
	loop     *loop
	self     *self
	streams  *streams
	node     *node
	services messaging.Assigned // as checkpointed
	meter    *usage.Meter
	pressure *pressure
	devices  *devices
}

// New opens the node's state and makes the agent. It starts nothing and connects nowhere.
func New(ctx context.Context, o Options) (*Agent, error) {
	a := &Agent{options: o, log: o.Log.With("node", o.Config.Name)}
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	state, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.build(state); err != nil {
		return nil, errors.Join(err, a.wal.Close())
	}
	return a, nil
}

// open reads what the node has on disk and who it is.
func (a *Agent) open(ctx context.Context) (checkpoint.State, error) {
	c := &a.options.Config
	for _, dir := range []string{c.StateDir, filepath.Join(c.StateDir, "run"), filepath.Join(c.StateDir, "wal")} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // what is secret in it has its own mode
			return checkpoint.State{}, fmt.Errorf("make state folder: %w", err)
		}
	}
	// Mount points are compared with what the kernel says, which knows no links.
	resolved, err := filepath.EvalSymlinks(c.StateDir)
	if err != nil {
		return checkpoint.State{}, fmt.Errorf("state folder: %w", err)
	}
	c.StateDir = resolved
	store, state, err := checkpoint.Open(filepath.Join(c.StateDir, "checkpoint"))
	if err != nil {
		return state, err
	}
	a.store = store
	for _, damage := range state.Damage {
		a.log.Error("part of the checkpoint is lost and will be fetched again", "err", damage)
	}
	if a.address, err = ownAddress(ctx, *c, state.Identity); err != nil {
		return state, err
	}
	if a.identity, a.join, err = identify(state.Identity, *c, a.address, store); err != nil {
		return state, err
	}
	if a.wal, err = wal.Open(filepath.Join(c.StateDir, "wal", "reports")); err != nil {
		return state, err
	}
	return state, nil
}

// build makes the parts that work on the state.
func (a *Agent) build(state checkpoint.State) error {
	if err := a.makeParts(); err != nil {
		return err
	}
	c, parts := a.options.Config, a.parts
	curve, err := nkeys.FromCurveSeed(a.identity.CurveSeed)
	if err != nil {
		return fmt.Errorf("sealing key: %w", err)
	}
	sealKey, err := curve.PublicKey()
	if err != nil {
		return fmt.Errorf("sealing key: %w", err)
	}
	held, err := uplink.Decode(state.Manifest, state.Pods)
	if err != nil {
		a.log.Error("part of the desired state is lost and will be fetched again", "err", err)
	}
	a.services = state.Services
	services, err := netip.ParsePrefix(c.Network.ServiceCIDR)
	if err != nil {
		return fmt.Errorf("service network: %w", err)
	}
	claims, err := device.Open(filepath.Join(c.StateDir, "devices.json"))
	if err != nil {
		return err
	}
	logSize := resource.MustParse(c.Pods.LogMaxSize) // Validate has parsed it
	a.node = &node{
		log: a.log, keeper: parts.Keeper, sandboxes: parts.Sandboxes, images: parts.Images, volumes: parts.Volumes,
		users: idrange.NewLedger(filepath.Join(c.StateDir, "ids")), noUsers: parts.NoUsers,
		logs: logs.NewFolder(filepath.Join(c.StateDir, "logs")), store: a.store, curve: curve,
		cgroups: c.CgroupParent, pids: c.Pods.PidsPerContainer, unsafeSysctls: c.Pods.AllowedUnsafeSysctls,
		devices: claims, logMaxBytes: logSize.Value(), logMaxFiles: c.Pods.LogMaxFiles,
		first: []messaging.ServicePort{apiService(services)},
		ports: newHostPorts(parts.HostPorts, held, state.Memories, a.log),
		pulls: make(gate, pullsAtOnce), setup: make(gate, setUpsAtOnce),
	}
	a.node.now.Store(&facts{HostIPs: []string{a.address.String()}})
	run := filepath.Join(c.StateDir, "run")
	boot, err := bootID(run)
	if err != nil {
		return err
	}
	a.uplink, err = a.newUplink(held, boot, sealKey)
	if err != nil {
		return err
	}
	a.node.report = a.uplink
	a.loop = newLoop(a.node, a.store, held, state.Memories, newContact(run))
	a.meter = usage.New(parts.Keeper, a.log)
	a.streams = &streams{node: a.node, loop: a.loop, meter: a.meter}
	if a.pressure, err = a.newPressure(); err != nil {
		return err
	}
	a.self = a.newSelf()
	a.devices, err = a.newDevices()
	return err
}

func (a *Agent) makeParts() (err error) {
	if a.options.Parts != nil {
		a.parts = *a.options.Parts
		return nil
	}
	a.parts, err = a.realParts()
	return err
}

func (a *Agent) newUplink(held uplink.Desired, boot, sealKey string) (*uplink.Uplink, error) {
	c, id := a.options.Config, a.identity
	connect := messaging.ConnectOptions{
		URLs: c.Servers, CAHash: id.CAHash, Node: id.Node, KeySeed: id.KeySeed, Join: a.join, Logger: a.log,
	}
	if a.options.InProcess != nil {
		connect.URLs, connect.CAHash, connect.InProcess = nil, "", a.options.InProcess
	}
	return uplink.New(uplink.Config{
		Connect: connect, Address: a.address.String(), SealKey: sealKey, Version: a.options.Version, Boot: boot,
		FirstSeq: uint64(sinceBoot()), //nolint:gosec // not negative; grows faster than reports are made
		Node:     (*face)(a), WAL: a.wal, Log: a.log, Held: held, Services: a.services, Enrolled: id.Enrolled,
		Trust: uplink.Trust{Cluster: id.Cluster, SigningKey: id.SigningKey},
	})
}

func (a *Agent) newPressure() (*pressure, error) {
	e := a.options.Config.Eviction
	thresholds, err := eviction.Parse(e.settings())
	if err != nil {
		return nil, fmt.Errorf("eviction: %w", err)
	}
	return &pressure{
		gauges: a.parts.Gauges, pods: a.loop.all, usage: a.meter.Containers, now: &a.node.pressures,
		config: eviction.Config{Thresholds: thresholds, Transition: e.PressureTransitionPeriod, MaxGrace: e.MaxPodGracePeriod},
		// One signal stands for any number of changes.
		changed: make(chan struct{}, 1), log: a.log,
	}, nil
}

func (a *Agent) newDevices() (*devices, error) {
	c := a.options.Config.Devices
	rules, err := device.ParseRules(c.Classes)
	if err != nil {
		return nil, fmt.Errorf("devices.classes: %w", err)
	}
	return &devices{
		settings: device.Settings{Rules: rules, Kinds: c.Kinds}, ledger: a.node.devices, pods: a.loop.all,
		changed: a.self.inventories.put, found: make(latest[api.Inventory], 1), log: a.log,
	}, nil
}

func (a *Agent) newSelf() *self {
	c := a.options.Config
	return &self{
		name: c.Name, version: a.options.Version, address: a.address.String(), config: c, images: a.parts.Images,
		report: a.uplink, log: a.log, node: a.node, runs: a.loop.count, answered: a.loop.ready, healthy: a.loop.healthy,
		pressed: a.pressure.changed, limits: a.pressure.config.Thresholds,
		meter: hwprobe.NewMeter(c.StateDir), loads: hwprobe.NewMeter(c.StateDir), inventories: make(latest[api.Inventory], 1),
	}
}

// Run works until ctx ends. Containers keep running then; another agent takes them over. Any other error is one that
// trying again would not mend.
func (a *Agent) Run(ctx context.Context) error {
	defer func() {
		if err := a.wal.Close(); err != nil {
			a.log.Error("report log", "err", err)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	a.node.ports.restore(ctx)
	a.restoreServices(ctx)
	g.Go(func() error { return a.loop.run(ctx) })
	g.Go(func() error { return a.loop.followExits(ctx) })
	g.Go(func() error { return a.loop.fence(ctx, a.uplink.Contact) })
	g.Go(func() error { return a.uplink.Run(ctx) })
	g.Go(func() error { return a.self.run(ctx) })
	g.Go(func() error { return a.meter.Run(ctx) })
	g.Go(func() error { return a.watch(ctx) })
	g.Go(func() error { return a.devices.run(ctx) })
	g.Go(func() error { return a.keepTables(ctx) })
	if a.parts.Gauges != nil {
		g.Go(func() error { return a.watchPressure(ctx) })
	}
	if run := a.parts.Run; run != nil {
		g.Go(func() error { return run(ctx) })
	}
	return g.Wait()
}

// watchPressure begins when it is known what runs.
func (a *Agent) watchPressure(ctx context.Context) error {
	select {
	case <-a.loop.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return a.pressure.run(ctx)
}

// probeAgain is the pause after the machine could not be probed.
const probeAgain = time.Minute

// watch follows the hardware. That it cannot be read is no reason to stop running pods.
func (a *Agent) watch(ctx context.Context) error {
	for {
		err := a.parts.Watch(ctx, a.log, a.devices.found.put)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.log.Error("hardware not probed, will try again", "err", err, "after", probeAgain)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(probeAgain):
		}
	}
}

// tablesEvery is how often the service rules in the kernel are looked at: others may flush them.
const tablesEvery = 30 * time.Second

func (a *Agent) keepTables(ctx context.Context) error {
	if a.parts.Tables == nil {
		return nil
	}
	tick := time.NewTicker(tablesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := a.parts.Tables.Check(ctx); err != nil {
			a.log.Warn("service rules not checked", "err", err)
		}
	}
}

// restoreServices puts the checkpointed pod range and service table into force: services work while cut off.
func (a *Agent) restoreServices(ctx context.Context) {
	if err := a.setPodCIDR(ctx, a.identity.PodCIDR); err != nil {
		a.log.Error("pod range not set", "err", err)
	}
	table, err := uplink.DecodeServices(a.services)
	if err != nil {
		a.log.Error("service table is lost and will be fetched again", "err", err)
		return
	}
	if a.services.Revision != 0 {
		a.putServices(ctx, table)
	}
}

// putServices puts a table into force. What the kernel refuses is logged; the next table or check tries again.
func (a *Agent) putServices(ctx context.Context, table messaging.ServiceTable) {
	a.node.table.Store(&table)
	if t := a.parts.Tables; t != nil {
		if err := t.Apply(ctx, table); err != nil {
			a.log.Error("service table not in force", "err", err)
		}
	}
	if names := a.parts.Names; names != nil {
		names(table)
	}
	if routes := a.parts.Routes; routes != nil {
		if err := routes(ctx, table.Nodes); err != nil {
			a.log.Error("routes to nodes not in force", "err", err)
		}
	}
}

func (a *Agent) setPodCIDR(ctx context.Context, text string) error {
	set := a.parts.SetPodCIDR
	if text == "" || set == nil {
		return nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("pod range of this node: %w", err)
	}
	return set(ctx, p)
}

// face is the agent as its uplink sees it.
type face Agent

var _ uplink.Node = (*face)(nil)

// Desired implements uplink.Node.
func (f *face) Desired(ctx context.Context, d uplink.Desired) error { return f.loop.setDesired(ctx, d) }

// Current implements uplink.Node.
func (f *face) Current() { f.loop.setCurrent() }

// Services implements uplink.Node: checkpoint first, act second.
func (f *face) Services(ctx context.Context, source messaging.Assigned, table messaging.ServiceTable) error {
	if err := f.store.SaveServices(source); err != nil {
		return err
	}
	(*Agent)(f).putServices(ctx, table)
	return nil
}

// Registered implements uplink.Node: what the coordinator said is remembered before it is used.
func (f *face) Registered(ctx context.Context, reply messaging.RegisterReply) error {
	id := f.identity
	id.Cluster, id.SigningKey, id.Enrolled = reply.Cluster, reply.SigningKey, true
	if reply.PodCIDR != "" {
		id.PodCIDR = reply.PodCIDR
	}
	if !sameIdentity(id, f.identity) {
		if err := f.store.SaveIdentity(id); err != nil {
			return err
		}
		f.identity = id
	}
	if err := (*Agent)(f).setPodCIDR(ctx, id.PodCIDR); err != nil {
		return err
	}
	return nil
}

func sameIdentity(a, b checkpoint.Identity) bool {
	return a.Cluster == b.Cluster && a.SigningKey == b.SigningKey && a.Enrolled == b.Enrolled && a.PodCIDR == b.PodCIDR
}

// Link implements uplink.Node.
func (f *face) Link(up bool) { f.loop.setLink(up) }

// Check implements uplink.Node.
func (f *face) Check(ctx context.Context, req messaging.OpenRequest) error {
	return f.streams.check(ctx, req)
}

// Serve implements uplink.Node.
func (f *face) Serve(ctx context.Context, req messaging.OpenRequest, conn net.Conn) {
	f.streams.serve(ctx, req, conn)
}

// Load implements uplink.Node.
func (f *face) Load(ctx context.Context) messaging.Load { return f.self.load(ctx) }

// Usage implements uplink.Node.
func (f *face) Usage(ctx context.Context) (messaging.UsageReport, error) {
	return f.meter.Report(ctx, time.Now())
}
