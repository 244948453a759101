package sim

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/edgeagent"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

var (
	seedFlag  = flag.Uint64("sim.seed", 1, "of the random choices")
	nodesFlag = flag.Int("sim.nodes", 50, "how many nodes the large scenarios have")
	stepsFlag = flag.Int("sim.steps", 150, "how many troubles the storm makes")
	monthFlag = flag.Bool("sim.month", false, "cut a node off for a month, which takes two minutes")
	logFlag   = flag.Bool("sim.log", false, "print what coordinators and agents log")
)

// heartbeat is how often nodes say that they live, unless a scenario says otherwise.
const heartbeat = 5 * time.Second

// cluster is a coordinator and nodes on one NATS server.
type cluster struct {
	t      *testing.T
	net    *natstest.Net
	rnd    *rand.Rand
	log    *slog.Logger
	dir    string
	config coordinator.Config
	nodes  []*node

	core      *coordinator.Core // nil while no coordinator runs
	coreEnded chan error        // its last word
	stopCore  func()
}

// simulate runs f on a cluster without nodes in a bubble.
func simulate(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Helper()
	simulateWith(t, func(*coordinator.Config) {}, f)
}

func simulateWith(t *testing.T, change func(*coordinator.Config), f func(t *testing.T, c *cluster)) {
	t.Helper()
	t.Logf("repeat with -sim.seed=%d -sim.nodes=%d", *seedFlag, *nodesFlag)
	dir := t.TempDir()
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		c := &cluster{t: t, net: n, rnd: rand.New(rand.NewPCG(*seedFlag, 1)), dir: dir, config: coordinator.DefaultConfig(), log: slog.New(slog.DiscardHandler)}
		if *logFlag {
			c.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
		}
		c.config.StateDir = filepath.Join(dir, "coordinator")
		c.config.Nodes.Heartbeat = heartbeat
		change(&c.config)
		c.startCoordinator()
		defer func() {
			for _, n := range c.nodes {
				n.stop()
			}
			if c.core != nil {
				c.killCoordinator()
			}
		}()
		f(t, c)
	})
}

// startCoordinator runs a coordinator on a connection of its own.
func (c *cluster) startCoordinator() {
	c.t.Helper()
	c.startCoordinatorOn(natstest.CoordinatorLink)
}

func (c *cluster) startCoordinatorOn(name string) {
	c.t.Helper()
	must(c.t, os.MkdirAll(c.config.StateDir, 0o700))
	c.net.Heal(name)
	options := c.net.CoordinatorOptions()
	options.InProcess = c.net.Link(name)
	conn, err := messaging.Connect(c.t.Context(), options)
	must(c.t, err)
	js, err := jetstream.New(conn)
	must(c.t, err)
	link := coordinator.Link{Conn: conn, JetStream: js, Storage: c.net.Storage, Disconnect: c.net.Server.DisconnectNode}
	core, err := coordinator.OpenCore(c.t.Context(), c.config, link, c.log.With("coordinator", conn.ConnectedServerName()))
	must(c.t, err)
	c.net.SetAuth(core.Authenticator())
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan error, 1) // Run's word
	go func() { done <- core.Run(ctx) }()
	c.core, c.coreEnded = core, done
	c.stopCore = func() {
		cancel()
		conn.Close()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) && ctx.Err() == nil {
			c.t.Errorf("coordinator ended with %v", err)
		}
	}
}

// killCoordinator ends it between any two of its messages: what it sends from now on is lost, and so is what the server
// answers. The nodes' connections break, because the server is in the same process.
func (c *cluster) killCoordinator() {
	c.net.Cut(natstest.CoordinatorLink)
	c.stopCore()
	c.core, c.stopCore = nil, nil
	for _, n := range c.nodes {
		c.net.Reset(n.name)
	}
}

// join makes n more nodes and starts them.
func (c *cluster) join(n int) []*node {
	c.t.Helper()
	first := len(c.nodes)
	for range n {
		node := &node{c: c, name: fmt.Sprintf("n%03d", len(c.nodes)), machine: newMachine(c.dir)}
		node.token = c.token("for-" + node.name)
		c.nodes = append(c.nodes, node)
		node.start()
	}
	return c.nodes[first:]
}

// token makes a join token good for one node.
func (c *cluster) token(name string) string {
	c.t.Helper()
	token, err := messaging.NewJoinToken(c.core.Cluster(), name)
	must(c.t, err)
	c.create(&api.EnrolmentToken{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       api.EnrolmentTokenSpec{SecretHash: messaging.HashSecret(token.Secret), Expires: metav1.NewTime(time.Now().Add(time.Hour))},
	})
	return token.String()
}

// tester is a connection of the test's own, with full permission.
func (c *cluster) tester() *nats.Conn {
	options := c.net.CoordinatorOptions()
	options.InProcess = c.net.Link("tester")
	return c.net.Connect(options)
}

// js is JetStream over it.
func (c *cluster) js() jetstream.JetStream {
	c.t.Helper()
	js, err := jetstream.New(c.tester())
	must(c.t, err)
	return js
}

func (c *cluster) create(o controller.Object) {
	c.t.Helper()
	c.eventually("create "+o.GetName(), time.Minute, func() error {
		_, err := c.core.Objects().Create(c.t.Context(), o, objects.WriteOptions{FieldManager: "sim"})
		return err
	})
}

// snapshot is the state as the coordinator has it.
func (c *cluster) snapshot() *controller.Snapshot { return c.core.View().Snapshot(nil, time.Time{}) }

// eventually lets virtual time pass until check has nothing to complain.
func (c *cluster) eventually(what string, limit time.Duration, check func() error) {
	c.t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Since(began) > limit {
			c.t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a machine and the agent on it.
type node struct {
	c       *cluster
	name    string
	token   string
	machine *machine
	stop    func()
}

func (n *node) dir() string { return filepath.Join(n.c.dir, n.name) }

// start runs an agent on what the last one has left.
func (n *node) start() {
	n.c.t.Helper()
	config := edgeagent.DefaultConfig()
	config.Name, config.StateDir, config.Servers, config.Address = n.name, n.dir(), []string{"nats://unused:1"}, "10.41.0.11"
	config.JoinToken = n.token
	must(n.c.t, config.Complete())
	agent, err := edgeagent.New(n.c.t.Context(), edgeagent.Options{
		Config: config, Version: "sim", Log: n.c.log, Parts: n.machine.parts(), InProcess: n.c.net.Link(n.name),
	})
	must(n.c.t, err)
	ctx, cancel := context.WithCancel(n.c.t.Context())
	done := make(chan error, 1) // Run's word
	go func() { done <- agent.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			n.c.t.Errorf("agent of %s ended with %v", n.name, err)
		}
		n.stop = func() {}
	}
}

// restartAgent replaces the agent; containers run on.
func (n *node) restartAgent() {
	n.c.t.Helper()
	n.stop()
	n.start()
}

// powerOff takes the machine's power; powerOn gives it back.
func (n *node) powerOff() {
	n.c.t.Helper()
	n.stop()
	n.c.net.Reset(n.name)
	n.machine.powerCut()
	must(n.c.t, os.RemoveAll(filepath.Join(n.dir(), "run"))) // it is in memory on a real node
}

func (n *node) powerOn() {
	n.c.t.Helper()
	n.start()
}

func (n *node) cut()  { n.c.net.Cut(n.name) }
func (n *node) heal() { n.c.net.Heal(n.name) }
