package edgeagent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/messaging"
)

// firstManifest is how long a node that has a checkpoint waits for the coordinator's word before it starts pods that do
// not run yet: those that were moved away meanwhile need not start for nothing. Then it goes on alone.
const firstManifest = 2 * time.Second

// loop owns the node's desired state and its workers.
type loop struct {
	node    *node
	log     *slog.Logger
	store   Store
	contact contact
	// requests has no capacity: who asks waits for the answer anyhow.
	requests chan func(ctx context.Context)
	// linkChanged has capacity 1: one signal stands for any number of changes.
	linkChanged chan struct{}
	linked      atomic.Bool
	keeperLost  atomic.Bool
	// current has capacity 1: the coordinator has confirmed the set held, once is enough.
	current chan struct{}
	// fenceNow has capacity 1: the desired state has changed, which may have made pods that need fencing.
	fenceNow chan struct{}
	gone     chan *worker // those that ended; capacity is for many pods of one deletion
	// discarded has no capacity: who has removed a volume waits until it is noted.
	discarded chan discard

	// --- owned by run's goroutine:

	desired  uplink.Desired
	memories map[string]checkpoint.Memory
	found    map[string][]keeper.Container // instances that no worker has taken over yet, by UID
	workers  map[string]*worker
	ended    map[string]bool // UIDs whose worker has reported that nothing is left
	discards map[string]bool // volumes that are to go: true when that was done and reported
	ends     int             // workers that have ended
	running  sync.WaitGroup
	started  bool // past the wait for the first manifest
	up       bool

	mu    sync.Mutex // guards byUID, the copy of workers for other goroutines
	byUID map[string]*worker
	ready chan struct{} // closed when the keeper's containers are known
}

func newLoop(n *node, store Store, held uplink.Desired, memories map[string]checkpoint.Memory, c contact) *loop {
	l := &loop{
		node: n, log: n.log, store: store, contact: c,
		requests: make(chan func(context.Context)), gone: make(chan *worker, 64), linkChanged: make(chan struct{}, 1), current: make(chan struct{}, 1),
		desired: held, memories: memories, found: map[string][]keeper.Container{},
		workers: map[string]*worker{}, ended: map[string]bool{}, discards: map[string]bool{}, discarded: make(chan discard), byUID: map[string]*worker{},
		ready: make(chan struct{}), fenceNow: make(chan struct{}, 1),
	}
	n.contact.Store(int64(c.lost(sinceBoot())))
	l.keeperLost.Store(true) // until it has answered
	return l
}

// ask has f run by the loop's goroutine and waits until it is done.
func (l *loop) ask(ctx context.Context, f func(ctx context.Context) error) error {
	answer := make(chan error, 1) // the loop never waits for who asked
	select {
	case l.requests <- func(ctx context.Context) { answer <- f(ctx) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run works until ctx ends, then waits for the workers. Containers go on.
func (l *loop) run(ctx context.Context) error {
	defer l.running.Wait()
	if err := l.takeStock(ctx); err != nil {
		return err
	}
	l.claimPorts()
	l.apply(ctx)
	wait := time.NewTimer(l.patience())
	defer wait.Stop()
	pauses := time.NewTimer(time.Hour)
	defer pauses.Stop()
	for {
		resetTimer(pauses, l.holdPods(ctx))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-l.requests:
			f(ctx)
		case w := <-l.gone:
			l.forget(w)
			l.ends++
			l.discard(ctx) // it may have had a volume that is to go
		case d := <-l.discarded:
			l.finishDiscard(ctx, d)
		case <-l.linkChanged:
			l.takeLink()
		case <-l.current:
			l.start(ctx)
		case <-wait.C:
			l.start(ctx)
		case <-pauses.C:
		}
	}
}

func resetTimer(t *time.Timer, d time.Duration) {
	t.Stop()
	if d > 0 {
		t.Reset(d)
	}
}

// patience: a node that was never told anything has nothing to start.
func (l *loop) patience() time.Duration {
	if l.desired.Manifest.Revision == 0 {
		return 0
	}
	return firstManifest
}

func (l *loop) start(ctx context.Context) {
	if l.started {
		return
	}
	l.started = true
	l.log.Info("starting pods", "pods", len(l.desired.Pods), "linked", l.up)
	l.apply(ctx)
}

// setDesired checkpoints a new complete set, then acts on it.
func (l *loop) setDesired(ctx context.Context, d uplink.Desired) error {
	return l.ask(ctx, func(ctx context.Context) error {
		sources := make(map[string]messaging.Assigned, len(d.Pods))
		for uid, p := range d.Pods {
			sources[uid] = p.Source
		}
		if err := l.store.SaveDesired(d.Manifest, sources); err != nil {
			return err
		}
		l.desired = d
		l.log.Info("desired state", "revision", d.Manifest.Revision, "epoch", d.Epoch, "pods", len(d.Pods))
		l.started = true
		l.apply(ctx)
		select {
		case l.fenceNow <- struct{}{}:
		default: // said before
		}
		return nil
	})
}

// apply brings the workers in line with the desired state.
func (l *loop) apply(ctx context.Context) {
	l.releasePorts()
	for uid, want := range l.desired.Pods {
		l.applyPod(ctx, uid, want)
	}
	if l.desired.Manifest.Revision == 0 || !l.started {
		return // nobody has said what should run: what runs, runs
	}
	now := time.Now()
	for uid, w := range l.workers {
		if _, wanted := l.desired.Pods[uid]; !wanted {
			w.do(ctx, func() { w.stop(now) })
		}
	}
	l.removeOrphans(ctx)
	l.discard(ctx)
}

func (l *loop) applyPod(ctx context.Context, uid string, want uplink.Pod) {
	if w, ok := l.workers[uid]; ok {
		taken := w.do(ctx, func() {
			if w.want.Source.Revision != want.Source.Revision {
				w.update(want, time.Now())
			}
		})
		if taken || ctx.Err() != nil {
			return
		}
		l.forget(w) // it has just ended
	}
	if l.ended[uid] && want.Pod.DeletionTimestamp != nil {
		return // reported already
	}
	if l.started || anyRunning(l.found[uid]) {
		l.launch(ctx, uid, want)
	}
}

func (l *loop) launch(ctx context.Context, uid string, want uplink.Pod) {
	w := newWorker(ctx, l.node, want, inheritance{memory: l.memories[uid], containers: l.found[uid]})
	delete(l.found, uid)
	delete(l.memories, uid)
	delete(l.ended, uid)
	l.workers[uid] = w
	l.mu.Lock()
	l.byUID[uid] = w
	l.mu.Unlock()
	l.running.Go(func() {
		w.run(ctx)
		select {
		case l.gone <- w:
		case <-ctx.Done():
		}
	})
}

// forget drops a pod of which nothing is left. One that was forgotten before, and maybe begun anew, is left alone.
func (l *loop) forget(w *worker) {
	uid := w.uid
	if l.workers[uid] != w {
		return
	}
	delete(l.workers, uid)
	l.mu.Lock()
	delete(l.byUID, uid)
	l.mu.Unlock()
	if err := errors.Join(l.store.Forget(uid), l.node.logs.Remove(uid)); err != nil {
		l.log.Warn("left-overs of pod not removed", "uid", uid, "err", err)
	}
	if want, listed := l.desired.Pods[uid]; listed && want.Pod.DeletionTimestamp != nil {
		l.ended[uid] = true
	}
	for old := range l.ended {
		if _, listed := l.desired.Pods[old]; !listed {
			delete(l.ended, old)
		}
	}
}
