// Package cluster runs a real `skerry up` for the demo, the end-to-end tests, the soak and the benchmarks, and drives it
// as its users do: with kubectl, over HTTP, and by cutting power and cables.
package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/cmd/skerry/up"
)

// Options say what to run. Zero values: 3 nodes in a new temporary folder, which Stop removes.
type Options struct {
	Nodes   int
	DataDir string
	Root    string    // of the repository, for bin/ and .cache/bin; empty finds it from the working directory
	Out     io.Writer // takes what `skerry up` prints; nil for nowhere
	Args    []string  // further arguments of `skerry up`
	Env     []string  // further environment: settings of the coordinator and the agents
}

// Cluster is a running `skerry up`.
type Cluster struct {
	*up.Control
	Root    string
	DataDir string
	State0  up.State // at the start; ask State for the present

	cmd       *exec.Cmd
	exited    chan error // one word
	temporary bool
	output    *lockedBuffer
}

// Start runs `skerry up` and returns when all its nodes are ready.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c := &Cluster{Root: o.Root, DataDir: o.DataDir, exited: make(chan error, 1), output: &lockedBuffer{also: o.Out}}
	var err error
	if c.Root == "" {
		if c.Root, err = findRoot(); err != nil {
			return nil, err
		}
	}
	if c.DataDir == "" {
		c.temporary = true
		if c.DataDir, err = os.MkdirTemp("", "skerry-"); err != nil {
			return nil, err
		}
		if err := os.Chmod(c.DataDir, 0o711); err != nil { //nolint:gosec // user namespaces need to pass through
			return nil, err
		}
	}
	c.Control = up.NewControl(c.DataDir)
	args := append([]string{"up", "--nodes", fmt.Sprint(o.Nodes), "--data-dir", c.DataDir, "--api", "127.0.0.1:0"}, o.Args...)
	c.cmd = exec.Command(filepath.Join(c.Root, "bin", "skerry"), args...)
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	c.cmd.Env = append(os.Environ(), o.Env...)
	// Ctrl-C is for us, and we say when it stops; should we die, it is told to stop.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.start(); err != nil {
		return nil, err
	}
	if err := c.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// start starts the program on a thread of its own that stays: the kernel takes that thread's death for ours.
func (c *Cluster) start() error {
	started := make(chan error, 1) // one word
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.exited <- c.cmd.Wait()
		}
	}()
	return <-started
}

// startTime is for a machine that is busy with other tests.
const startTime = 2 * time.Minute

func (c *Cluster) awaitReady(ctx context.Context) error {
	return Poll(ctx, startTime, "cluster ready", func() (bool, error) {
		select {
		case err := <-c.exited:
			c.exited <- err
			return false, Permanent(fmt.Errorf("skerry up ended: %w\n%s", err, c.output))
		default:
		}
		if !strings.Contains(c.output.String(), "Ctrl-C stops everything") {
			return false, fmt.Errorf("skerry up says:\n%s", c.output)
		}
		var err error
		c.State0, err = c.State(ctx)
		return err == nil, err
	})
}

func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if data, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(data, []byte("module skerry.dev/skerry\n")) {
			return dir, nil
		}
	}
	return "", errors.New("not within the repository")
}

// stopTime is how long `skerry up` may take to put everything away.
const stopTime = 30 * time.Second

// Stop interrupts `skerry up` as Ctrl-C does and waits for its end. The temporary folder is removed, unless stopping
// failed. It is safe to repeat.
func (c *Cluster) Stop() error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case err := <-c.exited:
		c.exited <- err
		if err != nil {
			return fmt.Errorf("skerry up: %w\n%s", err, c.output)
		}
	case <-time.After(stopTime):
		return errors.Join(fmt.Errorf("skerry up did not stop within %s\n%s", stopTime, c.output), c.cmd.Process.Kill())
	}
	if c.temporary {
		return os.RemoveAll(c.DataDir)
	}
	return nil
}

// Kill ends `skerry up` with kill -9, as a crash of the host's session would.
func (c *Cluster) Kill() error {
	err := c.cmd.Process.Kill()
	word := <-c.exited
	c.exited <- word
	return err
}

// Output is what `skerry up` has printed so far.
func (c *Cluster) Output() string { return c.output.String() }

// Tool is the path of an outside program that the build made, such as kubectl.
func (c *Cluster) Tool(name string) string { return filepath.Join(c.Root, ".cache", "bin", name) }

// Bin is the path of one of our programs.
func (c *Cluster) Bin(name string) string { return filepath.Join(c.Root, "bin", name) }

// Kubectl runs kubectl with input on its standard input and returns what it printed. The error holds what it complained.
func (c *Cluster) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	return c.Run(ctx, input, c.Tool("kubectl"), args...)
}

// Skerry runs the command line.
func (c *Cluster) Skerry(ctx context.Context, args ...string) (string, error) {
	return c.Run(ctx, "", c.Bin("skerry"), args...)
}

// Run runs a program with KUBECONFIG set.
func (c *Cluster) Run(ctx context.Context, input, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.State0.Kubeconfig, "HOME="+c.DataDir)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(path), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// Get reads an object or list of the API into out.
func (c *Cluster) Get(ctx context.Context, out any, args ...string) error {
	text, err := c.Kubectl(ctx, "", append([]string{"get", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}

// Token is the administrator's bearer token.
func (c *Cluster) Token() (string, error) {
	data, err := os.ReadFile(c.State0.TokenFile)
	return strings.TrimSpace(string(data)), err
}

// FetchFrom gets a URL as a program on the node would, on a new connection.
func (c *Cluster) FetchFrom(ctx context.Context, node, url string) (string, error) {
	s, err := c.State(ctx)
	if err != nil {
		return "", err
	}
	n, ok := s.Node(node)
	if !ok || n.InitPID == 0 {
		return "", fmt.Errorf("node %s is off", node)
	}
	return FetchIn(ctx, n.InitPID, url)
}

// fetchTime bounds one request.
const fetchTime = 5 * time.Second

// FetchIn gets a URL from the network of a process, on a new connection. PID 0 is this machine's own network.
func FetchIn(ctx context.Context, pid int, url string) (string, error) {
	dial := (&net.Dialer{}).DialContext
	if pid != 0 {
		dial = dialIn(pid)
	}
	client := http.Client{Timeout: fetchTime, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

// dialIn dials on a thread that has moved to the process's network; the socket stays there, the thread is thrown away.
func dialIn(pid int) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		type result struct {
			conn net.Conn
			err  error
		}
		results := make(chan result, 1) // one result
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			conn, err := dialInThread(ctx, pid, network, address)
			results <- result{conn, err}
		}()
		r := <-results
		return r.conn, r.err
	}
}

func dialInThread(ctx context.Context, pid int, network, address string) (net.Conn, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter network of %d: %w", pid, err)
	}
	return (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, address)
}

// permanent ends a Poll.
type permanent struct{ error }

// Permanent marks an error that waiting does not mend.
func Permanent(err error) error { return permanent{err} }

// Poll asks until ok, for at most limit; an error beside ok does not count. The error says what was waited for, and what stood in the way last.
func Poll(ctx context.Context, limit time.Duration, what string, ask func() (ok bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		if _, final := errors.AsType[permanent](err); final {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), orUnmet(err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func orUnmet(err error) error {
	if err == nil {
		return errors.New("not so yet")
	}
	return err
}

// lockedBuffer keeps what a program prints.
type lockedBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	also io.Writer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.also != nil {
		if _, err := b.also.Write(p); err != nil {
			return 0, err
		}
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
