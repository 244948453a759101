package e2e

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/tests/cluster"
)

const box = `
apiVersion: v1
kind: Pod
metadata: {name: box}
spec:
  terminationGracePeriodSeconds: 1
  NODE
  containers:
  - {name: box, image: ` + imageBox + `, command: [sh, -c, "trap exit TERM; while :; do sleep 1; done"], ports: [{containerPort: 7}]}
  - {name: other, image: IMAGE, args: [serve]}
`

// newBox makes a pod with a shell, on a node, or anywhere.
func newBox(t *testing.T, node string) space {
	s := newSpace(t)
	where := ""
	if node != "" {
		where = "nodeSelector: {kubernetes.io/hostname: " + node + "}"
	}
	s.apply(strings.Replace(box, "NODE", where, 1))
	s.ready("box")
	return s
}

// transports are the two ways in which clients upgrade a connection: today's, and that of kubectl before 1.31.
var transports = map[string]string{"websocket": "true", "spdy": "false"}

func over(websocket string) []string {
	return []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=" + websocket, "KUBECTL_PORT_FORWARD_WEBSOCKETS=" + websocket}
}

// over runs kubectl with one of the transports.
func (s space) over(websocket, input string, args ...string) (string, error) {
	return shared.Run(s.Context(), input, "env", slices.Concat(over(websocket), []string{shared.Tool("kubectl")}, s.in(args))...)
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

func TestExec(t *testing.T) {
	t.Parallel()
	s := newBox(t, "")
	for name, websocket := range transports {
		t.Run(name, func(t *testing.T) {
			s := space{T: t, name: s.name}
			out, err := s.over(websocket, "", "exec", "box", "-c", "box", "--", "sh", "-c", "echo out; echo complaint >&2; exit 7")
			if code := exitCode(err); code != 7 || out != "out\n" {
				t.Errorf("exit code %d and %q on stdout, want 7 and out: %v", code, out, err)
			}
			s.wants(fmt.Sprint(err), "complaint\n", "command terminated with exit code 7")
			s.execCarriesMuch(websocket)
		})
	}
	s.steps(
		step{args: "exec box -- hostname", want: []string{"box\n"}},
		step{args: "exec box -c other -- /testimage print one two", want: []string{"one two\n"}},
		step{args: "exec pod/box -- env", want: []string{"PATH="}},
		step{args: "exec -i box -- tr a-z A-Z", input: "shout", want: []string{"SHOUT"}},
		step{args: "exec box -- cat", want: []string{"!a"}}, // no -i: no input
		step{args: "exec box -- nonesuch", fails: true, want: []string{"nonesuch", "not found"}},
		step{args: "exec box -c nope -- true", fails: true, want: []string{"container nope"}},
		step{args: "exec nope -- true", fails: true, want: []string{`pods "nope" not found`}},
	)
}

// muchBytes is more than any window between here and the container.
const muchBytes = 32 << 20

func randomData(t *testing.T, n int) (data, sum string) {
	t.Helper()
	buf := make([]byte, n)
	if _, err := rand.Read(buf); err != nil {
		t.Fatal(err)
	}
	return string(buf), sumOf(string(buf))
}

func sumOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

func (s space) execCarriesMuch(websocket string) {
	data, sum := randomData(s.T, muchBytes)
	out, err := s.over(websocket, data, "exec", "-i", "box", "-c", "box", "--", "cat")
	if err != nil || sumOf(out) != sum {
		s.Errorf("%d of %d bytes came back, with the wrong sum: %v", len(out), len(data), err)
	}
	out, err = s.over(websocket, data, "exec", "-i", "box", "-c", "box", "--", "sha256sum")
	if err != nil || !strings.HasPrefix(out, sum) {
		s.Errorf("the container has read %q, want %s: %v", out, sum, err)
	}
}

func TestExecInTerminal(t *testing.T) {
	t.Parallel()
	s := newBox(t, "")
	term := s.inTerminal("exec", "-it", "box", "-c", "box", "--", "sh")
	term.answers("stty size", "40 100")
	term.resize(33, 77)
	term.answers("stty size", "33 77")
	term.answers("tty", "/dev/pts/")
	term.typeIn("sleep 7654321\n")
	s.processes("7654321", 1)
	term.typeIn("\x03") // ctrl-C is for the program in the container
	s.processes("7654321", 0)
	term.answers("echo still $((40+2))", "still 42")
	term.typeIn("exit 5\n")
	if code := term.code(); code != 5 {
		t.Errorf("exit code %d, want 5; the screen says %q", code, term.seen())
	}
}

// processes waits until n processes in the box have mark among their arguments.
func (s space) processes(mark string, n int) {
	s.Helper()
	s.poll(fmt.Sprintf("%d processes %s", n, mark), func() (bool, error) {
		out, err := shared.Kubectl(s.Context(), "", s.in([]string{"exec", "box", "-c", "box", "--", "ps", "-o", "args"})...)
		if err != nil {
			return false, err
		}
		return strings.Count(out, mark) == n, errors.New(out)
	})
}

// TestExecEndsWithItsClient: whoever leaves takes along what he started.
func TestExecEndsWithItsClient(t *testing.T) {
	t.Parallel()
	s := newBox(t, "")
	for name, end := range map[string]os.Signal{"interrupted": os.Interrupt, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			s := space{T: t, name: s.name}
			mark := "1357" + fmt.Sprint(len(name))
			cmd := s.start(t.Context(), "exec", "box", "-c", "box", "--", "sleep", mark)
			s.processes(mark, 1)
			if err := cmd.Process.Signal(end); err != nil {
				t.Fatal(err)
			}
			s.processes(mark, 0)
		})
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	s := newBox(t, "")
	dir := t.TempDir()
	data, sum := randomData(t, 16<<20)
	for name, text := range map[string]string{"tree/big": data, "tree/below/small": "small\n", "tree/empty": ""} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	s.steps(
		step{args: "cp " + dir + "/tree box:/tmp/tree -c box"},
		step{args: "exec box -c box -- sha256sum /tmp/tree/big", want: []string{sum}},
		step{args: "exec box -c box -- cat /tmp/tree/below/small", want: []string{"small\n"}},
		step{args: "cp " + s.name + "/box:/tmp/tree " + dir + "/back -c box"},
	)
	for name, want := range map[string]string{"back/big": sum, "back/below/small": sumOf("small\n"), "back/empty": sumOf("")} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || sumOf(string(got)) != want {
			t.Errorf("%s came back with %d bytes, which are others: %v", name, len(got), err)
		}
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(`
apiVersion: v1
kind: Pod
metadata: {name: ticker}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  containers: [{name: c, image: IMAGE, args: [tick]}]
`)
	s.ready("ticker")
	for name, websocket := range transports {
		t.Run(name, func(t *testing.T) {
			s := space{T: t, name: s.name}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			cmd := s.startOver(ctx, websocket, "attach", "ticker")
			buf := make([]byte, 64)
			n, err := cmd.out.Read(buf)
			if err != nil || !strings.Contains(string(buf[:n]), "tick ") {
				t.Errorf("attach shows %q: %v", buf[:n], err)
			}
		})
	}
	ended := make(chan error, 1) // one word
	var shown string
	go func() {
		var err error
		shown, err = shared.Kubectl(t.Context(), "", s.in([]string{"attach", "ticker"})...)
		ended <- err
	}()
	s.logs("tick 20\n", "ticker")
	s.kubectl("delete pod ticker")
	if err := <-ended; err != nil {
		t.Errorf("attach did not end well with its container: %v", err)
	}
	s.wants(shown, "tick ", "got SIGTERM")
}

// TestRunInteractively: kubectl run gives a container its standard input, which ends with the client unless it is told to stay.
func TestRunInteractively(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	for name, websocket := range transports {
		t.Run(name, func(t *testing.T) {
			s := space{T: t, name: s.name}
			out, err := s.over(websocket, "abcd1234\n", "run", name, "--image", imageBox, "--restart=Never", "-i", "--rm", "-q", "--", "sh", "-c", "cat && echo ended; exit 7")
			if code := exitCode(err); code != 7 || !strings.HasPrefix(out, "abcd1234\nended\n") {
				t.Errorf("exit code %d and %q, want 7 and what was typed: %v", code, out, err)
			}
		})
	}
	s.kubectlArgs("first\n", "run", "open", "--image", imageBox, "--restart=Never", "-i", "--leave-stdin-open", "-q", "--", "sh", "-c", "cat && echo ended")
	s.logs("first\n", "open")
	s.steps(step{args: "attach -i -q open", input: "second\n"})
	if shown := s.logs("second\n", "open"); strings.Contains(shown, "ended") {
		t.Errorf("the input ended although it was to stay open:\n%s", shown)
	}
	term := s.inTerminal("run", "shell", "--image", imageBox, "--restart=Never", "-it", "--rm", "-q", "--", "sh")
	term.answers("stty size", "40 100")
	term.resize(33, 77)
	term.answers("stty size", "33 77")
	term.answers("echo still $((40+2))", "still 42")
	term.typeIn("exit 5\n")
	if code := term.code(); code != 5 {
		t.Errorf("exit code %d, want 5; the screen says %q", code, term.seen())
	}
}

func TestPortForward(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.apply(web)
	s.readyPods("app=web", 2)
	for name, websocket := range transports {
		for _, target := range []string{"deploy/web", "service/web"} {
			t.Run(name+"-"+strings.ReplaceAll(target, "/", "-"), func(t *testing.T) {
				space{T: t, name: s.name}.forwards(websocket, target)
			})
		}
	}
}

// forwards asks through a port-forward, on several connections at once.
func (s space) forwards(websocket, target string) {
	ports := ":8080"
	if strings.HasPrefix(target, "service/") {
		ports = ":80"
	}
	_, address := s.forward(websocket, target, ports)
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			for range 5 {
				out, err := cluster.FetchIn(s.Context(), 0, "http://"+address+"/")
				if err != nil || !strings.HasPrefix(out, "web-") {
					return fmt.Errorf("answer %q: %w", out, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		s.Error(err)
	}
	// The whole program through one connection.
	out, err := cluster.FetchIn(s.Context(), 0, "http://"+address+"/read?path=/testimage")
	if err != nil || len(out) < 4<<20 || out[1:4] != "ELF" {
		s.Errorf("%d bytes of the program came: %v", len(out), err)
	}
}

// forward starts a port-forward and returns the local address.
func (s space) forward(websocket, target, ports string) (running, string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), limit)
	s.Cleanup(cancel)
	cmd := s.startOver(ctx, websocket, "port-forward", target, ports)
	var text string
	buf := make([]byte, 256)
	for !strings.Contains(text, "\n") {
		n, err := cmd.out.Read(buf)
		if err != nil {
			s.Fatalf("port-forward says %q: %v", text, err)
		}
		text += string(buf[:n])
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(text, "Forwarding from "), " ")
	return cmd, address
}

// TestPortForwardToNobody: the person reads why the connection was lost, on his side.
func TestPortForwardToNobody(t *testing.T) {
	t.Parallel()
	s := newBox(t, "")
	for name, websocket := range transports {
		t.Run(name, func(t *testing.T) {
			s := space{T: t, name: s.name}
			cmd, address := s.forward(websocket, "pod/box", ":9999")
			if out, err := cluster.FetchIn(t.Context(), 0, "http://"+address+"/"); err == nil {
				t.Errorf("nobody answered %q", out)
			}
			_, _ = io.Copy(io.Discard, cmd.out) // kubectl gives up
			_ = cmd.Wait()
			s.wants(cmd.complaints.String(), "connection refused", "lost connection to pod")
		})
	}
}

// TestCutLinkEndsSessions: a person whose node has gone is told, instead of waiting for ever.
func TestCutLinkEndsSessions(t *testing.T) {
	s := newBox(t, "n3")
	s.apply(`{apiVersion: v1, kind: Pod, metadata: {name: ticker}, spec: {terminationGracePeriodSeconds: 1, nodeSelector: {kubernetes.io/hostname: n3}, containers: [{name: c, image: IMAGE, args: [tick]}]}}`)
	s.ready("ticker")
	type end struct {
		what, out string
		err       error
	}
	ends := make(chan end, 3) // one word each
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for what, args := range map[string][]string{
		"exec":   {"exec", "box", "-c", "box", "--", "sleep", "24680"},
		"attach": {"attach", "ticker"},
		"logs":   {"logs", "-f", "ticker"},
	} {
		go func() {
			out, err := shared.Kubectl(ctx, "", s.in(args)...)
			ends <- end{what, out, err}
		}()
	}
	s.processes("24680", 1)
	s.logs("tick 20\n", "ticker")
	s.node("n3", "cut")
	for range 3 {
		e := <-ends
		t.Logf("%s ended: %v", e.what, e.err)
		switch {
		case ctx.Err() != nil:
			t.Errorf("%s did not end although its node is cut off", e.what)
		case e.err == nil:
			t.Errorf("%s ended as if all were well:\n%.300s", e.what, e.out)
		case e.what != "logs": // what is in the log is all that a log's reader sees
			s.wants(e.err.Error(), "the connection to node n3 was lost")
		}
	}
	s.node("n3", "heal")
	s.processes("24680", 0)
}
