package image

import (
	"context"
	"sync"
)

// flights let callers that want the same thing share the work of getting it. The work goes on while at least one
// caller waits; the last one to give up stops it and waits until it has stopped, so nothing outlives its callers.
type flights struct {
	mu  sync.Mutex
	now map[string]*flight
}

type flight struct {
	done    chan struct{} // closed when err is set
	err     error
	cancel  context.CancelCauseFunc
	waiters int // 0 once cancelled
}

// do runs work for key, or joins whoever runs it.
func (f *flights) do(ctx context.Context, key string, work func(context.Context) error) error {
	for {
		fl, mine := f.board(ctx, key, work)
		if mine {
			return f.wait(ctx, fl)
		}
		// The flight under that key is being cancelled: begin anew when it has landed.
		select {
		case <-fl.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// board joins the flight of key or starts it. It says false for a flight that is being cancelled.
func (f *flights) board(ctx context.Context, key string, work func(context.Context) error) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.now[key]; fl != nil {
		if fl.waiters == 0 {
			return fl, false
		}
		fl.waiters++
		return fl, true
	}
	shared, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	fl := &flight{done: make(chan struct{}), cancel: cancel, waiters: 1}
	f.now[key] = fl
	go func() {
		err := work(shared)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.now, key)
		cancel(nil)
		fl.err = err
		close(fl.done)
	}()
	return fl, true
}

func (f *flights) wait(ctx context.Context, fl *flight) error {
	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	f.mu.Unlock()
	if last {
		fl.cancel(context.Cause(ctx))
		<-fl.done
	}
	return context.Cause(ctx)
}
