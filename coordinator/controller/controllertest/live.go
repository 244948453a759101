package controllertest

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/controller"
)

// Live is a world that a shell may run on: a Source and a Writer, safe for concurrent use, on the time of its test bubble.
type Live struct {
	Latency time.Duration // of each write

	mu      sync.Mutex
	world   *World
	changed chan struct{}
	fail    func(controller.Change) error
	done    []string
	calls   int
	most    int // writes under way at once
	running int
}

// NewLive wraps w; use it only through Live from then on.
func NewLive(w *World) *Live { return &Live{world: w, changed: make(chan struct{}, 1)} }

// Snapshot implements controller.Source.
func (l *Live) Snapshot() *controller.Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.world.Snapshot()
}

// Changed implements controller.Source for one listener.
func (l *Live) Changed() (<-chan struct{}, func()) { return l.changed, func() {} }

// Edit changes the world as people and nodes do.
func (l *Live) Edit(change func(w *World)) {
	l.mu.Lock()
	l.world.Now = time.Now()
	change(l.world)
	l.mu.Unlock()
	l.signal()
}

// Fail makes writes end with what f returns for them; nil lets them pass.
func (l *Live) Fail(f func(controller.Change) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = f
}

// Performed returns the lines of what was done, how many writes were tried and how many were under way at most.
func (l *Live) Performed() (lines []string, calls, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.done...), l.calls, l.most
}

func (l *Live) signal() {
	select {
	case l.changed <- struct{}{}:
	default: // one that is waiting says it already
	}
}

// Perform implements controller.Writer.
func (l *Live) Perform(ctx context.Context, c controller.Change) (runtime.Object, error) {
	l.count(1)
	defer l.count(-1)
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", c.Verb, ctx.Err())
	case <-time.After(l.Latency):
	}
	result, err := l.perform(c)
	if err == nil {
		l.signal()
	}
	return result, err
}

func (l *Live) count(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running += n
	l.most = max(l.most, l.running)
	if n > 0 {
		l.calls++
	}
}

func (l *Live) perform(c controller.Change) (runtime.Object, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.world.Now = time.Now()
	if l.fail != nil {
		if err := l.fail(c); err != nil {
			return nil, err
		}
	}
	o := object(c.Object)
	old := l.world.objects[key(o)]
	resource := schema.GroupResource{Group: Kind(o).Group, Resource: Kind(o).Kind}
	if c.Verb == controller.Create && old != nil {
		return nil, apierrors.NewAlreadyExists(resource, o.GetName())
	}
	if c.Verb != controller.Create {
		switch problem := conflict(c, o, old); problem {
		case "":
		case "not found":
			return nil, apierrors.NewNotFound(resource, o.GetName())
		default:
			return nil, apierrors.NewConflict(resource, o.GetName(), fmt.Errorf("%s", problem))
		}
	}
	line, _ := l.world.perform(c)
	l.done = append(l.done, line)
	return l.world.objects[key(o)], nil
}
