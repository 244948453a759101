package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/boot"
	"skerry.dev/skerry/edgeagent/boot/cgroup"
)

// TestMain lets the test binary play `skerry up` and every part of a node.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "act" {
		os.Exit(m.Run())
	}
	parts := map[string]func(args []string) error{"up": actUp, "init": actInit, "keeper": actKeeper, "agent": actAgent}
	if err := parts[os.Args[2]](os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[2]+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func actInit(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	state, name, group, address := args[0], args[1], args[2], args[3]
	c := boot.NewConfig(state, name, group, exe, exe, []string{"act", "agent", name, address}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	c.Keeper.Args, c.Grace = []string{"act", "keeper", group}, 200*time.Millisecond // a sleep as process 1 ignores SIGTERM
	return boot.Run(ctx, c)
}

// actKeeper has a container: a process in a namespace and a control group of its own.
func actKeeper(args []string) error {
	container := exec.CommandContext(context.Background(), "sleep", "100000")
	container.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if err := container.Start(); err != nil {
		return err
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		dir := filepath.Join(h.Path, args[0], "pod")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if strings.HasSuffix(h.Path, "cpuset") {
			continue // takes processes only once it has processors
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, container.Process.Pid), 0o600); err != nil {
			return err
		}
	}
	return container.Wait()
}

// actAgent answers whoever connects with the node's name.
func actAgent(args []string) error {
	listener, err := net.Listen("tcp4", args[1]+":7000")
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_, err = io.WriteString(conn, args[0])
		if err := errors.Join(err, conn.Close()); err != nil {
			return err
		}
	}
}

// actUp runs a cluster until it is killed.
func actUp(args []string) error {
	c, err := New(Options{DataDir: args[0], Nodes: 2, Agent: "/proc/self/exe", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := c.Open(); err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		if err := n.Start(initArgs(n), nil); err != nil {
			return err
		}
		fmt.Println(n.PID())
	}
	select {}
}

func initArgs(n *Node) []string {
	return []string{"act", "init", n.StateDir, n.Name, n.cluster.CgroupParent(n.Name), n.Address.String()}
}

// testCluster is a cluster whose nodes run this test binary.
type testCluster struct {
	*Cluster
	t *testing.T
}

func newCluster(t *testing.T, nodes int) testCluster {
	t.Helper()
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := New(Options{DataDir: t.TempDir(), Nodes: nodes, Agent: exe, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c := testCluster{cluster, t}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		c.start(n)
	}
	return c
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces: run the tests with sudo")
	}
}

func (c testCluster) start(n *Node) {
	c.t.Helper()
	if err := n.Start(initArgs(n), nil); err != nil {
		c.t.Fatal(err)
	}
	c.eventually(n.Name+" to answer", func() bool { return ask(nil, n) == n.Name })
}

// eventually polls for what other processes and the kernel do in their own time.
func (c testCluster) eventually(what string, holds func() bool) {
	c.t.Helper()
	eventually(c.t, what, holds)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// ask returns what a node answers to another, or to the host for nil; empty when it cannot be reached.
func ask(from, to *Node) string {
	dialer := net.Dialer{Timeout: 300 * time.Millisecond}
	dial := dialer.Dial
	if from != nil {
		dial = func(network, address string) (net.Conn, error) { return from.Dial(dialer, network, address) }
	}
	conn, err := dial("tcp4", netip.AddrPortFrom(to.Address, 7000).String())
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return ""
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return ""
	}
	return string(answer)
}

func TestNodesReachEachOtherAndLinksCanBeCut(t *testing.T) {
	c := newCluster(t, 3)
	one, two, three := c.Node("n1"), c.Node("n2"), c.Node("n3")
	for _, from := range []*Node{nil, one, two, three} {
		for _, to := range c.Nodes() {
			c.eventually("the link", func() bool { return ask(from, to) == to.Name })
		}
	}
	agent := two.Process(exeName(t))
	for range 2 {
		if err := two.Cut(); err != nil {
			t.Fatal(err)
		}
	}
	if two.Linked() || ask(one, two) != "" || ask(nil, two) != "" || ask(two, one) != "" {
		t.Error("a cut node is still reached")
	}
	if ask(one, three) != "n3" || ask(two, two) != "n2" {
		t.Error("a cut hurts others, or the node itself")
	}
	for range 2 {
		if err := two.Heal(); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the healed link", func() bool { return ask(one, two) == "n2" && ask(two, three) == "n3" })
	if !two.Linked() || two.Process(exeName(t)) != agent {
		t.Error("the node did not live through the cut")
	}
}

func exeName(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(exe)
}

func TestPowerCutAndReturn(t *testing.T) {
	c := newCluster(t, 2)
	n := c.Node("n1")
	keep := filepath.Join(n.StateDir, "keep")
	if err := os.WriteFile(keep, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var containers []int
	c.eventually("the container", func() bool {
		for _, pid := range children(n.PID()) {
			for _, child := range children(pid) {
				if firstOfNamespace(child) {
					containers = []int{pid, child}
					return true
				}
			}
		}
		return false
	})
	if err := n.Start(initArgs(n), nil); err == nil || !strings.Contains(err.Error(), "running") {
		t.Errorf("starting a running node: %v", err)
	}
	for range 2 {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range containers {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d lives on without power: %v", pid, err)
		}
	}
	if n.PID() != 0 || n.Linked() || ask(nil, n) != "" {
		t.Error("a node without power is there")
	}
	if ask(nil, c.Node("n2")) != "n2" {
		t.Error("the other node went, too")
	}
	c.start(n)
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("the disk did not survive: %v", err)
	}
}

func TestCableStaysOutOverAPowerCut(t *testing.T) {
	c := newCluster(t, 2)
	n := c.Node("n1")
	for _, step := range []func() error{n.Cut, n.Stop, func() error { return n.Start(initArgs(n), nil) }} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("the node itself", func() bool { return ask(n, n) == "n1" })
	if n.Linked() || ask(nil, n) != "" || ask(n, c.Node("n2")) != "" {
		t.Error("the cable is in again")
	}
	for _, step := range []func() error{n.Stop, n.Heal} { // plugged in while it is off
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	c.start(n)
}

func TestDeathIsReported(t *testing.T) {
	c := newCluster(t, 1)
	n := c.Node("n1")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	died := make(chan error, 1) // one death
	if err := n.Start(initArgs(n), func(err error) { died <- err }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(n.PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-died; err == nil || !strings.Contains(err.Error(), "killed") || n.PID() != 0 {
		t.Errorf("died with %v, PID %d", err, n.PID())
	}
}

func TestAgentThatCannotStart(t *testing.T) {
	c := newCluster(t, 1)
	n := c.Node("n1")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	agent := c.options.Agent
	c.options.Agent = "/no/such/agent"
	if err := n.Start(nil, nil); !errors.Is(err, os.ErrNotExist) || n.PID() != 0 {
		t.Errorf("starting without an agent: %v, PID %d", err, n.PID())
	}
	c.options.Agent = agent
	c.start(n)
}

func TestOrderlyShutdown(t *testing.T) {
	c := newCluster(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.Nodes() {
		log, err := os.ReadFile(filepath.Join(n.StateDir, "node.log"))
		if err != nil || !strings.Contains(string(log), "node shut down") {
			t.Errorf("%s did not shut down in order (%v):\n%s", n.Name, err, log)
		}
	}
}

func TestRoutes(t *testing.T) {
	c := newCluster(t, 2)
	pods := netip.MustParsePrefix("198.18.0.0/24") // for benchmarks only: no machine is in it
	for _, n := range c.Nodes() {
		for range 2 {
			if err := c.Route(pods, n.Address); err != nil {
				t.Fatal(err)
			}
		}
		routes, err := netlink.RouteGet(net.ParseIP("198.18.0.7"))
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != n.Address.String() {
			t.Errorf("route %v (%v), want one via %s", routes, err, n.Address)
		}
	}
}

func TestClustersCoexist(t *testing.T) {
	a, b := newCluster(t, 1), newCluster(t, 1)
	if a.subnet == b.subnet || a.mark == b.mark {
		t.Errorf("two clusters share %s or %s", a.subnet, a.mark)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := b.Node("n1"); ask(nil, n) != "n1" {
		t.Error("closing one cluster hurt the other")
	}
}

func TestSubnetInUse(t *testing.T) {
	c := newCluster(t, 1)
	_, err := pickSubnet(c.subnet, "")
	if err == nil || !strings.Contains(err.Error(), hostLink(c.mark)) {
		t.Errorf("a subnet in use: %v", err)
	}
	for _, bad := range []string{"10.41.0.0/16", "fd00::/24"} {
		if _, err := pickSubnet(netip.MustParsePrefix(bad), ""); err == nil {
			t.Errorf("subnet %s was accepted", bad)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	c := newCluster(t, 2)
	inits := []int{c.Node("n1").PID(), c.Node("n2").PID()}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	wantNothing(t, c.options.DataDir, inits)
}

// However `skerry up` ends: links, mounts, namespaces and processes are gone by themselves, the rest is for Clean.
func TestKilledUpLeavesNothing(t *testing.T) {
	needRoot(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dataDir := t.TempDir()
	up := exec.CommandContext(t.Context(), exe, "act", "up", dataDir)
	up.Stderr = os.Stderr
	out, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	var inits []int
	for lines := bufio.NewScanner(out); len(inits) < 2 && lines.Scan(); {
		var pid int
		if _, err := fmt.Sscan(lines.Text(), &pid); err != nil {
			t.Fatal(err)
		}
		inits = append(inits, pid)
	}
	eventually(t, "the containers", func() bool {
		return len(inits) == 2 && len(children(inits[0])) == 2 && len(children(inits[1])) == 2
	})
	if err := up.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = up.Wait() // it was killed
	eventually(t, "the nodes to die", func() bool { return gone(inits[0]) && gone(inits[1]) })
	eventually(t, "the host's link to vanish", func() bool {
		_, err := netlink.LinkByName(hostLink(Mark(dataDir)))
		return err != nil
	})
	for range 2 {
		if err := Clean(dataDir); err != nil {
			t.Fatal(err)
		}
	}
	wantNothing(t, dataDir, inits)
}

func gone(pid int) bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) }

func wantNothing(t *testing.T, dataDir string, inits []int) {
	t.Helper()
	mark := Mark(dataDir)
	for _, pid := range inits {
		if !gone(pid) {
			t.Errorf("node process %d is left", pid)
		}
	}
	if _, err := netlink.LinkByName(hostLink(mark)); err == nil {
		t.Error("the host's link is left")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), dataDir) {
		t.Errorf("a mount is left (%v)", err)
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if _, err := os.Stat(filepath.Join(h.Path, cgroupOf(mark))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("control group of %s is left (%v)", h.Path, err)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := conn.ListTables()
	for _, table := range tables {
		if err != nil || strings.Contains(table.Name, mark) {
			t.Errorf("firewall table %s is left (%v)", table.Name, err)
		}
	}
}

func TestPreflight(t *testing.T) {
	needRoot(t)
	if err := Preflight(); err != nil {
		t.Errorf("on the machine that runs these tests: %v", err)
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{checkCgroups(nil, nil), "mount -t cgroup2"},
		{checkCgroups([]cgroup.Hierarchy{{Controllers: []string{"cpu", "pids"}}}, nil), "memory"},
		{checkFilesystems([]byte("nodev\ttmpfs\n\text4\n"), nil), "modprobe overlay"},
		{checkCgroups([]cgroup.Hierarchy{{V2: true, Controllers: []string{"cpu", "pids", "memory"}}}, nil), ""},
	} {
		if test.want == "" && test.err != nil || test.want != "" && (test.err == nil || !strings.Contains(test.err.Error(), test.want)) {
			t.Errorf("got %v, want something about %q", test.err, test.want)
		}
	}
}

func TestNumberOfNodes(t *testing.T) {
	for _, nodes := range []int{-1, 0, 201} {
		if _, err := New(Options{DataDir: t.TempDir(), Nodes: nodes}); err == nil {
			t.Errorf("%d nodes were accepted", nodes)
		}
	}
}
