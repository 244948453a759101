package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/apiway"
	"skerry.dev/skerry/edgeagent/dns"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/edgeagent/proxy"
	"skerry.dev/skerry/edgeagent/volume"
	"skerry.dev/skerry/hwprobe"
	"skerry.dev/skerry/messaging"
)

// realParts makes the agent's neighbours. Nothing is changed on the node yet.
func (a *Agent) realParts() (Parts, error) {
	c := a.options.Config
	images, err := a.newImages()
	if err != nil {
		return Parts{}, err
	}
	pods, err := a.newNetwork()
	if err != nil {
		return Parts{}, err
	}
	services, err := proxy.New(proxy.Settings{
		NodeAddress: a.address, Masquerade: c.Network.Masquerade, API: apiAddress, PodLinks: network.LinkPrefix,
	}, a.log)
	if err != nil {
		return Parts{}, err
	}
	way, err := a.newWay()
	if err != nil {
		return Parts{}, err
	}
	names, err := a.newNames()
	if err != nil {
		return Parts{}, err
	}
	volumes := volume.New(filepath.Join(c.StateDir, "pods"), filepath.Join(c.StateDir, "persistent"), nameServer.Addr())
	return Parts{
		Keeper: &lateKeeper{socket: c.KeeperSocket}, Sandboxes: pods, Images: images,
		Volumes: volumes, Gauges: a.newGauges(images, volumes),
		Tables: services, Names: names.Apply, HostPorts: services.SetHostPorts, Routes: pods.SetRoutes,
		NoUsers: probeUsers(c.StateDir, a.log),
		SetPodCIDR: func(ctx context.Context, p netip.Prefix) error {
			return errors.Join(pods.SetPodCIDR(p), services.SetPodCIDR(ctx, p))
		},
		Watch: hwprobe.Watch,
		Run: func(ctx context.Context) error {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return setUpNetwork(ctx, pods, a.log) })
			g.Go(func() error { return a.collectImages(ctx, images) })
			g.Go(func() error { return way.Run(ctx) })
			g.Go(func() error { return names.Run(ctx) })
			return errors.Join(g.Wait(), pods.Close())
		},
	}, nil
}

func (a *Agent) newNetwork() (*network.Network, error) {
	c := a.options.Config.Network
	podCIDR, err1 := netip.ParsePrefix(c.PodCIDR)
	serviceCIDR, err2 := netip.ParsePrefix(c.ServiceCIDR)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return network.New(network.Options{
		StateDir: a.options.Config.StateDir, NodeAddress: a.address, ClusterPodCIDR: podCIDR, ServiceCIDR: serviceCIDR, Log: a.log,
	})
}

// setUpNetwork prepares the node's network as soon as the node's address is on a link: at boot the link may come later.
func setUpNetwork(ctx context.Context, n *network.Network, log *slog.Logger) error {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := n.Setup(ctx)
		if err == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		log.Warn("node network not set up, will retry", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// apiAddress is where the service proxy sends those who ask the kubernetes Service.
var apiAddress = netip.AddrPortFrom(network.NodeLocal, 6443)

func (a *Agent) newWay() (*apiway.Way, error) {
	admit, err := a.ownPods()
	if err != nil {
		return nil, err
	}
	return apiway.New(apiway.Options{
		Address: apiAddress, Log: a.log, Admit: admit,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return a.openStream(ctx, messaging.StreamAPI, "tcp", apiAddress.String())
		},
	})
}

// ownPods tells this node's pods, and the node itself, from others: who may use what it has at network.NodeLocal.
func (a *Agent) ownPods() (func(from netip.Addr) bool, error) {
	pods, err := netip.ParsePrefix(a.options.Config.Network.PodCIDR)
	return func(from netip.Addr) bool {
		return pods.Contains(from) || from == a.address || from == network.NodeLocal || from.IsLoopback()
	}, err
}

// nameServer is where pods ask for names.
var nameServer = netip.AddrPortFrom(network.NodeLocal, 53)

func (a *Agent) newNames() (*dns.Server, error) {
	admit, err := a.ownPods()
	if err != nil {
		return nil, err
	}
	return dns.New(dns.Options{Address: nameServer, Admit: admit, Servers: dns.SystemServers("/etc/resolv.conf"), Log: a.log})
}

// openStream opens a byte stream of this node to the coordinator.
func (a *Agent) openStream(ctx context.Context, kind, network, address string) (net.Conn, error) {
	nc, err := a.uplink.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return messaging.DialContext(nc, a.options.Config.Name, kind)(ctx, network, address)
}

func (a *Agent) newImages() (*imageStore, error) {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return a.openStream(ctx, messaging.StreamRegistry, network, address)
	}
	store, err := image.New(image.Options{
		Dir: a.options.Config.StateDir, Log: a.log,
		Transports: map[string]http.RoundTripper{api.RegistryHost: &http.Transport{DialContext: dial, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second}},
	})
	if err != nil {
		return nil, err
	}
	return &imageStore{store: store, pulled: map[string]image.Image{}}, nil
}

// collectEvery is how often unused images are looked for.
const collectEvery = 5 * time.Minute

func (a *Agent) collectImages(ctx context.Context, images *imageStore) error {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := a.collectNow(ctx, images, false); err != nil && ctx.Err() == nil {
			a.log.Warn("unused images not removed", "err", err)
		}
	}
}

// collectNow removes images that nothing uses: all of them, or when the disk is full enough.
func (a *Agent) collectNow(ctx context.Context, images *imageStore, all bool) error {
	used, err := a.loop.imagesInUse(ctx)
	if err != nil {
		return err
	}
	c := a.options.Config.Images
	return images.collect(ctx, used, image.Policy{
		HighPercent: c.HighPercent, LowPercent: c.LowPercent, MinAge: c.MinimumAge, Pinned: c.Pinned, All: all,
	})
}

// lateKeeper is a keeper that may not be there yet. It is dialled when it is needed; the client finds a restarted keeper by itself.
type lateKeeper struct {
	socket string

	mu     sync.Mutex
	client *keeper.Client
}

var _ Keeper = (*lateKeeper)(nil)

func (k *lateKeeper) dial(ctx context.Context) (*keeper.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	c, err := keeper.Dial(ctx, k.socket)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.socket, err)
	}
	k.client = c
	return c, nil
}

// Create implements Keeper.
func (k *lateKeeper) Create(ctx context.Context, spec keeper.Spec) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Create(ctx, spec) })
}

// Start implements Keeper.
func (k *lateKeeper) Start(ctx context.Context, id string) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Start(ctx, id) })
}

// Kill implements Keeper.
func (k *lateKeeper) Kill(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Kill(ctx, id, sig, all) })
}

// Delete implements Keeper.
func (k *lateKeeper) Delete(ctx context.Context, id string) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Delete(ctx, id) })
}

// List implements Keeper.
func (k *lateKeeper) List(ctx context.Context) (list []keeper.Container, err error) {
	err = k.with(ctx, func(c *keeper.Client) error {
		list, err = c.List(ctx)
		return err
	})
	return list, err
}

// Exec implements Keeper.
func (k *lateKeeper) Exec(ctx context.Context, id string, spec keeper.ExecSpec) (res keeper.ExecResult, err error) {
	err = k.with(ctx, func(c *keeper.Client) error {
		res, err = c.Exec(ctx, id, spec)
		return err
	})
	return res, err
}

// Exits implements Keeper.
func (k *lateKeeper) Exits(ctx context.Context, fromSeq uint64, f func(keeper.Exit) error) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Exits(ctx, fromSeq, f) })
}

// Stats implements Keeper.
func (k *lateKeeper) Stats(ctx context.Context, ids ...string) (all []keeper.Stats, err error) {
	err = k.with(ctx, func(c *keeper.Client) error {
		all, err = c.Stats(ctx, ids...)
		return err
	})
	return all, err
}

// Deadline implements Keeper.
func (k *lateKeeper) Deadline(ctx context.Context, id string, at time.Duration) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Deadline(ctx, id, at) })
}

// ExecStream implements Keeper.
func (k *lateKeeper) ExecStream(ctx context.Context, id string, spec keeper.ExecSpec, streams keeper.Streams) (s Session, terminal *os.File, err error) {
	err = k.with(ctx, func(c *keeper.Client) error {
		session, err := c.ExecStream(ctx, id, spec, streams)
		if err == nil {
			s, terminal = session, session.Terminal
		}
		return err
	})
	return s, terminal, err
}

// Attach implements Keeper.
func (k *lateKeeper) Attach(ctx context.Context, id string, streams keeper.Streams) (s Session, err error) {
	err = k.with(ctx, func(c *keeper.Client) error {
		s, err = c.Attach(ctx, id, streams)
		return err
	})
	return s, err
}

// Resize implements Keeper.
func (k *lateKeeper) Resize(ctx context.Context, id string, width, height uint16) error {
	return k.with(ctx, func(c *keeper.Client) error { return c.Resize(ctx, id, width, height) })
}

func (k *lateKeeper) with(ctx context.Context, f func(*keeper.Client) error) error {
	c, err := k.dial(ctx)
	if err != nil {
		return err
	}
	return f(c)
}
