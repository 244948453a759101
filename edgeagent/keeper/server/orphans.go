package server

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// orphans reaps children that nobody else waits for: processes of containers without a PID namespace of their own fall to the keeper when
// their parent dies. libcontainer waits for its own helpers itself, so nothing is reaped while one may be under way.
type orphans struct {
	births sync.RWMutex // held for reading while libcontainer starts a process

	mu    sync.Mutex
	known map[int]bool // children that a process.wait collects
}

// recheck is how long a child that could not be told apart yet is left before the next look.
const recheck = 200 * time.Millisecond

func newOrphans() *orphans { return &orphans{known: make(map[int]bool)} }

// birth starts a process with start, which returns its number, and holds it before anything else can reap it.
func (o *orphans) birth(start func() (pid int, err error)) (*process, error) {
	o.births.RLock()
	defer o.births.RUnlock()
	pid, err := start()
	if err != nil {
		return nil, err
	}
	p, err := openProcess(pid, true)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	o.known[pid] = true
	o.mu.Unlock()
	return p, nil
}

// buried says that the child pid has been reaped.
func (o *orphans) buried(pid int) {
	o.mu.Lock()
	delete(o.known, pid)
	o.mu.Unlock()
}

func (o *orphans) run(ctx context.Context) {
	died := make(chan os.Signal, 1) // one is enough: each look reaps all there are
	signal.Notify(died, unix.SIGCHLD)
	defer signal.Stop(died)
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-died:
		case <-again.C:
		}
		if !o.reap() {
			again.Reset(recheck)
		}
	}
}

// reap collects unknown dead children; false when it should look again later.
func (o *orphans) reap() bool {
	if !o.births.TryLock() {
		return false
	}
	defer o.births.Unlock()
	for {
		pid, err := firstDead()
		if err != nil || pid == 0 {
			return true
		}
		o.mu.Lock()
		known := o.known[pid]
		o.mu.Unlock()
		if known { // its own waiter will; whoever is behind it has to wait
			return false
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return true
		}
	}
}
