// Package up is `skerry up`: a whole cluster on this machine, in the foreground. It runs the coordinator as a process of
// its own, nodes through package local, and connects the two as an operator would: with join tokens, and nothing shared
// but the network. `skerry local` asks it for power cuts and pulled cables.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/cmd/skerry/client"
	"skerry.dev/skerry/cmd/skerry/local"
)

// Options are `skerry up`'s flags.
type Options struct {
	DataDir   string
	Nodes     int
	Subnet    netip.Prefix // of the nodes; zero picks a free one
	API       string       // host:port
	NATSPort  int          // on the bridge; zero means 4222
	Heartbeat time.Duration
	BinDir    string // where the other binaries are
	Fresh     bool   // remove the data folder first
	Out       io.Writer
	Log       *slog.Logger
}

// Up is one run. Use New.
type Up struct {
	options     Options
	cluster     *local.Cluster
	coordinator *process
	client      *client.Client

	mu    sync.Mutex
	ready State // what does not change once the coordinator is up
	off   map[string]bool
}

// readyTime is how long a coordinator or a node may take to come up.
const readyTime = 60 * time.Second

// New checks that a cluster could run here. It changes nothing but the data folder, which it takes for itself.
func New(o Options) (*Up, error) {
	for _, name := range []string{"skerry-coordinator", "skerry-agent", "skerry-keeper"} {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); err != nil {
			return nil, fmt.Errorf("%s is not beside this program in %s: run `make build`, or say --bin-dir", name, o.BinDir)
		}
	}
	cluster, err := local.New(local.Options{
		DataDir: o.DataDir, Nodes: o.Nodes, Subnet: o.Subnet, Agent: filepath.Join(o.BinDir, "skerry-agent"), Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Up{options: o, cluster: cluster, off: map[string]bool{}}, nil
}

// Run brings the cluster up, says where it is, and keeps it until ctx ends. It then takes down everything that it made,
// but the data folder.
func (u *Up) Run(ctx context.Context) (err error) {
	release, err := u.takeDataDir()
	if err != nil {
		return err
	}
	defer release()
	if err := u.cluster.Open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.cluster.Close()) }()
	g, ctx := errgroup.WithContext(ctx)
	if err := u.startCoordinator(ctx, g); err != nil {
		return errors.Join(err, g.Wait())
	}
	g.Go(func() error { return u.control(ctx) })
	g.Go(func() error { return u.bringUp(ctx) })
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	u.say("stopping")
	return err
}

// takeDataDir makes sure that no other `skerry up` uses the folder.
func (u *Up) takeDataDir() (release func(), err error) {
	dir := u.options.DataDir
	// Containers whose user is nobody on this machine pass through to their root file systems.
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // what is secret in it has its own mode
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "up.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another `skerry up` runs on %s: stop it, or choose another folder with --data-dir", dir), lock.Close())
	}
	if u.options.Fresh {
		for _, name := range []string{"coordinator", "nodes"} {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return nil, errors.Join(err, lock.Close())
			}
		}
	}
	return func() { _ = lock.Close() }, nil
}

// bringUp starts the nodes, waits until all are ready, and says where everything is.
func (u *Up) bringUp(ctx context.Context) error {
	began := time.Now()
	for _, n := range u.cluster.Nodes() {
		if err := u.startNode(ctx, n); err != nil {
			return err
		}
	}
	if err := u.awaitNodes(ctx); err != nil {
		return err
	}
	u.say("%d nodes ready in %s", len(u.cluster.Nodes()), time.Since(began).Round(10*time.Millisecond))
	u.announce()
	return u.followRoutes(ctx)
}

func (u *Up) awaitNodes(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("nodes not ready after %s: see node.log in %s/nodes/*", readyTime, u.options.DataDir))
	defer cancel()
	reported := map[string]bool{}
	for {
		nodes, err := u.nodes(ctx)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		for _, n := range nodes {
			if isReady(n) && !reported[n.Name] {
				reported[n.Name] = true
				u.say("node %s ready", n.Name)
			}
		}
		if len(reported) >= len(u.cluster.Nodes()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func isReady(n corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (u *Up) nodes(ctx context.Context) ([]corev1.Node, error) {
	var list corev1.NodeList
	if err := u.client.Get(ctx, "/api/v1/nodes", &list); err != nil {
		return nil, err
	}
	return list.Items, nil
}

// followRoutes keeps the host's routes to pods and services: the host reaches pods through their nodes, and services
// through the first node that is on.
func (u *Up) followRoutes(ctx context.Context) error {
	services, err := netip.ParsePrefix(serviceCIDR)
	if err != nil {
		return err
	}
	for {
		if nodes, err := u.nodes(ctx); err == nil {
			for _, n := range nodes {
				u.routePods(n)
			}
		}
		for _, n := range u.cluster.Nodes() {
			if n.PID() != 0 && n.Linked() {
				if err := u.cluster.Route(services, n.Address); err != nil {
					u.options.Log.Warn("services are not reachable from this machine", "err", err)
				}
				break
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

func (u *Up) routePods(n corev1.Node) {
	known := u.cluster.Node(n.Name)
	pods, err := netip.ParsePrefix(n.Spec.PodCIDR)
	if known == nil || err != nil {
		return
	}
	if err := u.cluster.Route(pods, known.Address); err != nil {
		u.options.Log.Warn("pods are not reachable from this machine", "node", n.Name, "err", err)
	}
}

func (u *Up) say(format string, args ...any) { fmt.Fprintf(u.options.Out, format+"\n", args...) }

func (u *Up) announce() {
	s := u.state()
	u.say(`
API         %s
kubeconfig  %s
web page    %s
NATS        %s   (user: admin, password: the token in %s)

  export KUBECONFIG=%s
  kubectl get nodes

Ctrl-C stops everything; the state stays in %s.`,
		s.API, s.Kubeconfig, s.Page, s.NATS, s.TokenFile, s.Kubeconfig, u.options.DataDir)
}
