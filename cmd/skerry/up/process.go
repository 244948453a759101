package up

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// process is a child that is started again whenever it dies.
type process struct {
	name   string
	path   string
	args   []string
	output string // file that takes what it prints
	log    *slog.Logger

	once  sync.Once
	fails chan error // one slot: why it cannot run

	mu    sync.Mutex
	pid   int
	proof bool // it has answered once: from then on a death is an accident, not a fault of its settings
}

const (
	restartPause = 200 * time.Millisecond
	stopTime     = 10 * time.Second // to end in order after SIGTERM
)

func (p *process) failed() chan error {
	p.once.Do(func() { p.fails = make(chan error, 1) }) // one slot: the first failure
	return p.fails
}

// PID is 0 while the child is down.
func (p *process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// proven says that the child works.
func (p *process) proven() {
	p.mu.Lock()
	p.proof = true
	p.mu.Unlock()
}

// run keeps the child running until ctx ends. The child is told by the kernel when this thread dies, so the thread is kept.
func (p *process) run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		err := p.live(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.mu.Lock()
		proof := p.proof
		p.mu.Unlock()
		if !proof {
			err = fmt.Errorf("%s: %w: %s", p.name, err, p.lastLine())
			p.failed() <- err
			return err
		}
		p.log.Warn("process died, starting it again", "process", p.name, "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restartPause):
		}
	}
}

func (p *process) live(ctx context.Context) error {
	out, err := os.OpenFile(p.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.setPID(cmd.Process.Pid)
	defer p.setPID(0)
	return cmd.Wait()
}

func (p *process) setPID(pid int) {
	p.mu.Lock()
	p.pid = pid
	p.mu.Unlock()
}

// lastLine is what the child said last.
func (p *process) lastLine() string {
	data, err := os.ReadFile(p.output)
	if err != nil {
		return ""
	}
	data = bytes.TrimSpace(data)
	return string(data[bytes.LastIndexByte(data, '\n')+1:])
}
