package server_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"skerry.dev/skerry/edgeagent/keeper/keepertest"
)

// binary builds the keeper as it is shipped, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "keeper-binary")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "skerry-keeper")
	cmd := exec.Command("go", "build", "-tags", "netgo osusergo", "-ldflags", "-linkmode external -extldflags -static", "-o", out,
		"skerry.dev/skerry/cmd/skerry-keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	cmd.Stderr = os.Stderr
	return out, cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path)) // it is in the temporary folder
	}
	os.Exit(code)
}

// process is a keeper and what it writes and announces.
type process struct {
	cmd    *exec.Cmd
	log    *journal
	notify *net.UnixConn
}

// journal is a buffer that is read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (p *process) Kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("kill keeper: %v", err)
	}
	_ = p.cmd.Wait() // it was killed
	_ = p.notify.Close()
	if t.Failed() {
		t.Logf("keeper:\n%s", p.log)
	}
}

// Replace sends the signal and waits for the next image's word.
func (p *process) Replace(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(t)
}

func (p *process) awaitReady(t *testing.T) {
	t.Helper()
	if err := p.notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := p.notify.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("keeper is not ready: %q, %v\n%s", buf[:n], err, p.log)
		t.FailNow()
	}
}

func start(t *testing.T, dirs keepertest.Dirs) keepertest.Keeper {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build keeper: %v", err)
	}
	return startImage(t, dirs, path)
}

func startImage(t *testing.T, dirs keepertest.Dirs, path string) *process {
	t.Helper()
	socket := dirs.State + "-notify"
	_ = os.Remove(socket) // of an earlier start
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{log: &journal{}, notify: notify}
	p.cmd = exec.Command(path, "-state-dir", dirs.State, "-run-dir", dirs.Run, "-socket", dirs.Socket, "-cgroup-parent", dirs.CgroupParent)
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket)
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(t)
	return p
}

func TestContract(t *testing.T) { keepertest.Suite(t, start) }
