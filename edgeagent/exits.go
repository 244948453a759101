package edgeagent

import (
	"context"
	"errors"
	"slices"
	"time"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
)

// followExits hands the keeper's exits to the workers until ctx ends. Each time the keeper was away, what runs is
// compared with what should: an exit may have been missed for good.
func (l *loop) followExits(ctx context.Context) error {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	var seq uint64
	for {
		err := l.node.keeper.Exits(ctx, seq, func(e keeper.Exit) error {
			if err := l.exited(ctx, e); err != nil {
				return err // not counted as heard: it comes again
			}
			seq = e.Seq
			return nil
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, keeper.ErrTruncated) {
			seq = 0
		}
		l.keeperLost.Store(errors.Is(err, keeper.ErrUnavailable) || errors.Is(err, keeper.ErrVersion))
		l.log.Warn("keeper's exits interrupted, will follow again", "err", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		l.compare(ctx)
	}
}

// exited hands an exit to its pod's worker, if the keeper agrees that the instance it has under this ID ended that way. The
// log also tells of earlier instances: after a power cut an ID can be used again, and an agent that believed the old exit
// would start a second instance beside the one that runs.
func (l *loop) exited(ctx context.Context, e keeper.Exit) error {
	w := l.worker(e.Labels[containerspec.LabelUID])
	if w == nil {
		return nil // of a pod that is gone, or of one that no worker has taken over yet, which will see it in the list
	}
	list, err := l.node.keeper.List(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(c keeper.Container) bool { return c.ID == e.ID && c.Exit != nil && c.Exit.Seq == e.Seq }) {
		w.do(ctx, func() { w.heard(ctx, e) })
	}
	return nil
}

// heard takes the keeper's word that an instance has ended.
func (w *worker) heard(ctx context.Context, e keeper.Exit) {
	name := e.Labels[containerspec.LabelContainer]
	c := w.obs.Containers[name]
	if c.State != pod.Starting && (c.ID != e.ID || c.State == pod.Exited) {
		return // told before
	}
	attempt := attemptOf(keeper.Container{Labels: e.Labels})
	w.exited(name, w.exit(ctx, e, attempt, c.Started))
}

// compare finds instances that ended while the keeper was away: those that were running before the list was made, and
// are not in it as running. A keeper that does not answer has said nothing.
func (l *loop) compare(ctx context.Context) {
	running := map[*worker]map[string]string{} // container by instance
	for _, w := range l.all() {
		w.call(ctx, func() { running[w] = w.runningInstances() })
	}
	list, err := l.node.keeper.List(ctx)
	if err != nil {
		return
	}
	l.keeperLost.Store(false)
	known := map[string]keeper.Container{}
	for _, c := range list {
		known[c.ID] = c
	}
	for w, instances := range running {
		for id, name := range instances {
			if c, ok := known[id]; !ok || c.State == keeper.Exited {
				w.do(ctx, func() { w.missed(ctx, name, id, c.Exit) })
			}
		}
	}
}

func (w *worker) runningInstances() map[string]string {
	out := map[string]string{}
	for name, c := range w.obs.Containers {
		if c.State == pod.Running {
			out[c.ID] = name
		}
	}
	return out
}

// missed takes an exit that was not announced. Without a record nobody knows how it ended.
func (w *worker) missed(ctx context.Context, name, id string, e *keeper.Exit) {
	if e != nil {
		w.heard(ctx, *e)
		return
	}
	w.exited(name, pod.Exit{ID: id, Code: 137, At: time.Now(), Reported: pod.StatusUnknown})
}
