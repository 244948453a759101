package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fence calls expire for every container whose deadline has passed on the boot-time clock, which also runs while the machine sleeps.
type fence struct {
	timer  *os.File // a timerfd, so that waiting costs no thread and no ticks
	expire func(id string)

	mu        sync.Mutex
	deadlines map[string]time.Duration
}

func newFence(expire func(id string)) (*fence, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &fence{timer: os.NewFile(uintptr(fd), "timerfd"), expire: expire, deadlines: make(map[string]time.Duration)}, nil
}

func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}

// set replaces the deadline of id; zero removes it.
func (f *fence) set(id string, at time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at == 0 {
		delete(f.deadlines, id)
	} else {
		f.deadlines[id] = at
	}
	return f.arm()
}

// arm sets the timer to the earliest deadline. The caller holds mu.
func (f *fence) arm() error {
	var next time.Duration
	for _, at := range f.deadlines {
		if next == 0 || at < next {
			next = at
		}
	}
	raw, err := f.timer.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(next))} // zero disarms
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if err = errors.Join(err, setErr); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	return nil
}

// due removes and returns the containers whose deadline has passed.
func (f *fence) due(now time.Duration) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id, at := range f.deadlines {
		if at <= now {
			ids = append(ids, id)
			delete(f.deadlines, id)
		}
	}
	return ids, f.arm()
}

// close frees the timer; deadlines may be set no more.
func (f *fence) close() { _ = f.timer.Close() } // nothing to flush

// run waits for deadlines until ctx ends.
func (f *fence) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = f.timer.SetReadDeadline(time.Unix(1, 0)) }) // fails only when closed
	defer stop()
	var expirations [8]byte
	for {
		if _, err := f.timer.Read(expirations[:]); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("wait for deadlines: %w", err)
		}
		now, err := bootTime()
		if err != nil {
			return err
		}
		ids, err := f.due(now)
		if err != nil {
			return err
		}
		for _, id := range ids {
			f.expire(id)
		}
	}
}
