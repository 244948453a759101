package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/boot/cgroup"
)

// TestMain lets the test binary play all parts of a node: its first process, the keeper, the agent and a container.
func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "act" {
		os.Exit(m.Run())
	}
	parts := map[string]func(args []string) error{
		"init": actInit, "keeper": actKeeper, "agent": actAgent, "container": actContainer, "stubborn": actStubborn,
	}
	if err := parts[os.Args[2]](os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, os.Args[2]+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func actInit(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	var c Config
	if err := json.Unmarshal([]byte(args[0]), &c); err != nil {
		return err
	}
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	return Run(ctx, c)
}

// actKeeper has two containers, one of which does not listen, and records how they end.
func actKeeper(args []string) error {
	ends := make(chan string, 2) // one per container
	for _, part := range []string{"container", "stubborn"} {
		c := exec.CommandContext(context.Background(), "/proc/self/exe", "act", part, args[0])
		if err := c.Start(); err != nil {
			return err
		}
		go func() { ends <- fmt.Sprint(part, " ", c.Wait()) }()
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	replaced := make(chan os.Signal, 1)
	signal.Notify(replaced, unix.SIGHUP)
	for {
		select {
		case <-replaced:
			if err := note(args[0], "replaced", "keeper"); err != nil {
				return err
			}
		case end := <-ends:
			if err := note(args[0], "ends", end); err != nil {
				return err
			}
		case <-terminated:
			return note(args[0], "ends", "keeper")
		}
	}
}

// actAgent reports what a node's programs see, leaves an orphan and waits.
func actAgent(args []string) error {
	state := args[0]
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	view, err := look(state)
	if err != nil {
		return err
	}
	orphan := exec.CommandContext(context.Background(), "sh", "-c", "true & exit 0")
	if err := orphan.Run(); err != nil {
		return err
	}
	if err := note(state, "view", view); err != nil {
		return err
	}
	<-terminated
	return note(state, "ends", "agent")
}

func actContainer(args []string) error {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	if err := note(args[0], "ready", "container"); err != nil {
		return err
	}
	<-terminated
	return nil
}

func actStubborn(args []string) error {
	signal.Ignore(unix.SIGTERM)
	if err := note(args[0], "ready", "stubborn"); err != nil {
		return err
	}
	time.Sleep(time.Hour) // a select without cases is a deadlock to the runtime
	return nil
}

// note appends a line to a file of the state folder.
func note(state, file, line string) error {
	f, err := os.OpenFile(filepath.Join(state, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

func look(state string) (string, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return "", err
	}
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return "", err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return "", err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(filepath.Join(state, "run"), &fs); err != nil {
		return "", err
	}
	_, stale := os.Stat(filepath.Join(state, "run", "stale"))
	all, err := cgroup.Hierarchies()
	if err != nil {
		return "", err
	}
	old, made := 0, 0
	for _, h := range all {
		if _, err := os.Stat(filepath.Join(h.Path, testGroup(state), "old")); err == nil {
			old++
		}
		if _, err := os.Stat(filepath.Join(h.Path, testGroup(state))); err == nil {
			made++
		}
	}
	return fmt.Sprintf("host %s, init is %s, %d link, lo up %v, run is tmpfs %v, stale %v, cgroups made %v, old %d",
		hostname, procName(1), len(links), lo.Attrs().Flags&1 == 1, fs.Type == unix.TMPFS_MAGIC, stale == nil,
		made > 0 && made == len(all), old), nil
}

func procName(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return err.Error()
	}
	args := strings.Split(string(line), "\x00")
	if len(args) < 3 {
		return "" // dead and not buried yet, or none of ours
	}
	return args[1] + " " + args[2]
}

func testGroup(state string) string {
	return "/skerry-boot-test-" + filepath.Base(filepath.Dir(state)) + filepath.Base(state)
}

// node is a booted node, seen from the host.
type node struct {
	t     *testing.T
	state string
	init  *exec.Cmd
	log   string
}

func bootNode(t *testing.T, grace time.Duration) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make namespaces: run the tests with sudo")
	}
	n := &node{t: t, state: t.TempDir(), log: filepath.Join(t.TempDir(), "log")}
	n.leaveOldThings()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(Config{
		StateDir: n.state, Hostname: "island", CgroupParent: testGroup(n.state), Grace: grace,
		Keeper: Program{Path: exe, Args: []string{"act", "keeper", n.state}},
		Agent:  Program{Path: exe, Args: []string{"act", "agent", n.state}},
	})
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(n.log)
	if err != nil {
		t.Fatal(err)
	}
	n.init = exec.CommandContext(context.WithoutCancel(t.Context()), exe, "act", "init", string(config))
	n.init.Stdout, n.init.Stderr = log, log
	n.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if err := errors.Join(n.init.Start(), log.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.clean)
	return n
}

// leaveOldThings makes what the node's last boot might have left.
func (n *node) leaveOldThings() {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Join(n.state, "run", "stale"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, h := range all {
		if err := os.MkdirAll(filepath.Join(h.Path, testGroup(n.state), "old"), 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) clean() {
	if n.init.ProcessState == nil {
		_ = n.init.Process.Kill()
		_ = n.init.Wait() // it was killed
	}
	if n.t.Failed() {
		log, _ := os.ReadFile(n.log)
		n.t.Logf("log of the node:\n%s", log)
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		n.t.Error(err)
	}
	if err := cgroup.Remove(all, testGroup(n.state), 10*time.Second); err != nil {
		n.t.Error(err)
	}
}

// lines polls until a file of the state folder has that many lines.
func (n *node) lines(file string, count int) []string {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		data, err := os.ReadFile(filepath.Join(n.state, file))
		if lines := strings.Split(string(data), "\n"); err == nil && len(lines) > count { // the last is empty
			return lines[:len(lines)-1]
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s has %q after 20 s (%v), want %d lines", file, data, err, count)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// child polls for the host's process id of the node's keeper or agent, other than not.
func (n *node) child(part string, not int) int {
	n.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		for _, pid := range children(n.t, n.init.Process.Pid) {
			if pid != not && procName(pid) == "act "+part {
				return pid
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	n.t.Fatalf("no %s after 20 s", part)
	return 0
}

func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		t.Fatal(err)
	}
	// Other threads of the parent have children of their own.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		more, err := os.ReadFile(task)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			t.Fatal(err)
		}
		data = append(data, more...)
	}
	for field := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestNodeIsAMachineOfItsOwn(t *testing.T) {
	n := bootNode(t, 0)
	got := n.lines("view", 1)[0]
	want := "host island, init is act init, 1 link, lo up true, run is tmpfs true, stale false, cgroups made true, old 0"
	if got != want {
		t.Errorf("the agent sees\n  %s\nwant\n  %s", got, want)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), n.state) {
		t.Errorf("a mount of the node is seen outside (%v)", err)
	}
}

func TestWhoDiesIsStartedAgain(t *testing.T) {
	n := bootNode(t, 0)
	n.lines("view", 1)
	keeper, agent := n.child("keeper", 0), n.child("agent", 0)
	if err := unix.Kill(agent, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := n.child("agent", agent)
	if got := n.child("keeper", 0); got != keeper {
		t.Errorf("the keeper became %d, was %d", got, keeper)
	}
	if err := unix.Kill(keeper, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.child("keeper", keeper)
	if got := n.child("agent", 0); got != second {
		t.Errorf("the agent became %d, was %d", got, second)
	}
	log, err := os.ReadFile(n.log)
	for _, want := range []string{`program=agent how="signal: killed"`, `program=keeper how="signal: killed"`} {
		if err != nil || !strings.Contains(string(log), want) {
			t.Errorf("log does not say %s (%v)", want, err)
		}
	}
}

func TestOrphansAreBuried(t *testing.T) {
	n := bootNode(t, 0)
	n.lines("view", 1)
	n.child("keeper", 0)
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids := children(t, n.init.Process.Pid)
		if len(pids) == 2 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("init has children %v after 20 s, want only keeper and agent", pids)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestOrderlyShutdown(t *testing.T) {
	n := bootNode(t, 2500*time.Millisecond) // the race detector takes a second to end
	n.lines("view", 1)
	n.lines("ready", 2)
	if err := n.init.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := n.init.Wait(); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	want := []string{"agent", "container <nil>", "stubborn signal: killed", "keeper"}
	if got := n.lines("ends", len(want)); !slices.Equal(got, want) {
		t.Errorf("ended in the order %q, want %q", got, want)
	}
}

func TestPowerCutTakesAll(t *testing.T) {
	n := bootNode(t, 0)
	n.lines("view", 1)
	keeper := n.child("keeper", 0)
	pids := append(children(t, keeper), keeper, n.child("agent", 0))
	if err := n.init.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.init.Wait(); err == nil {
		t.Error("a killed node ended well")
	}
	for _, pid := range pids { // the kernel buries a process namespace before its init is waited for
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d of the node lives: %v", pid, err)
		}
	}
}

func TestMissingProgramIsReportedAndTriedAgain(t *testing.T) {
	s := &supervisor{log: slog.New(slog.DiscardHandler)}
	v := &service{name: "keeper", program: Program{Path: "/no/such/file"}}
	now := time.Now()
	s.start(v, now)
	if v.pid != 0 || v.due != now.Add(firstBackoff) {
		t.Errorf("after a failed start: pid %d, due in %v", v.pid, v.due.Sub(now))
	}
}

func TestOnlyAsFirstProcess(t *testing.T) {
	err := Run(t.Context(), Config{
		StateDir: t.TempDir(), Hostname: "x", CgroupParent: "/x", Keeper: Program{Path: "/k"}, Agent: Program{Path: "/a"},
		Log: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.Contains(err.Error(), "first process") {
		t.Errorf("Run outside a process namespace: %v", err)
	}
}
