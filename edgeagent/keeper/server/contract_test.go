package server_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
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

type process struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

func (p *process) Kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Errorf("kill keeper: %v", err)
	}
	_ = p.cmd.Wait() // it was killed
	if t.Failed() {
		t.Logf("keeper:\n%s", p.log)
	}
}

func start(t *testing.T, dirs keepertest.Dirs) keepertest.Keeper {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("build keeper: %v", err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dirs.State + "-notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close(); _ = os.Remove(dirs.State + "-notify") }() // a second start makes it again
	p := &process{log: &bytes.Buffer{}}
	p.cmd = exec.Command(path, "-state-dir", dirs.State, "-run-dir", dirs.Run, "-socket", dirs.Socket, "-cgroup-parent", dirs.CgroupParent)
	p.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+dirs.State+"-notify")
	p.cmd.Stderr = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := notify.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		t.Fatalf("keeper is not ready: %q, %v\n%s", buf[:n], err, p.log)
	}
	return p
}

func TestContract(t *testing.T) { keepertest.Suite(t, start) }
