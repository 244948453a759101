package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/containerspec"
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

	// --- owned by run's goroutine:

	desired  uplink.Desired
	memories map[string]checkpoint.Memory
	found    map[string][]keeper.Container // instances that no worker has taken over yet, by UID
	workers  map[string]*worker
	ended    map[string]bool // UIDs whose worker has reported that nothing is left
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
		workers: map[string]*worker{}, ended: map[string]bool{}, byUID: map[string]*worker{},
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

// takeStock waits for the keeper and learns what runs. Without its word nothing is started or stopped.
func (l *loop) takeStock(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		list, err := l.node.keeper.List(ctx)
		if err == nil {
			l.sort(list)
			l.sweep(ctx, list)
			l.keeperLost.Store(false)
			close(l.ready)
			return nil
		}
		l.log.Warn("keeper not reached, will retry", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// sweep removes the root file systems of instances that the keeper does not have: an agent died before it asked for them.
func (l *loop) sweep(ctx context.Context, list []keeper.Container) {
	ids, err := l.node.images.Mounted()
	if err != nil {
		l.log.Warn("root file systems not listed", "err", err)
	}
	for _, id := range ids {
		if slices.ContainsFunc(list, func(c keeper.Container) bool { return c.ID == id }) {
			continue
		}
		if err := l.node.images.Unmount(ctx, id); err != nil {
			l.log.Warn("root file system not removed", "id", id, "err", err)
		}
	}
}

// imagesInUse are the images of all pods on the node.
func (l *loop) imagesInUse(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	for _, w := range l.all() {
		w.call(ctx, func() {
			for _, i := range w.images {
				used[i.ID] = true
			}
			for _, c := range w.obs.Containers {
				used[c.ImageID] = true
			}
		})
	}
	return used, ctx.Err()
}

// all returns the workers, for goroutines other than the loop's.
func (l *loop) all() []*worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.byUID))
}

func (l *loop) sort(list []keeper.Container) {
	for _, c := range list {
		uid := c.Labels[containerspec.LabelUID]
		if uid == "" {
			l.log.Warn("container without a pod left alone", "id", c.ID)
			continue
		}
		l.found[uid] = append(l.found[uid], c)
	}
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

func anyRunning(list []keeper.Container) bool {
	return slices.ContainsFunc(list, func(c keeper.Container) bool { return c.State == keeper.Running })
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

// removeOrphans takes off the node what belongs to no wanted pod: containers, volumes and sandboxes that a manifest which
// came later than they did does not name.
func (l *loop) removeOrphans(ctx context.Context) {
	for uid, containers := range l.found {
		l.log.Info("pod is no longer wanted", "uid", uid, "containers", len(containers))
		l.launchOrphan(ctx, orphan(uid, containers))
	}
	volumes, err1 := l.node.volumes.Pods()
	sandboxes, err2 := l.node.sandboxes.List()
	if err := errors.Join(err1, err2); err != nil {
		l.log.Warn("left-overs of pods not listed", "err", err)
	}
	for uid := range l.memories {
		volumes = append(volumes, uid)
	}
	for _, uid := range append(volumes, sandboxes...) {
		_, wanted := l.desired.Pods[uid]
		if l.workers[uid] == nil && !wanted {
			l.launchOrphan(ctx, orphan(uid, nil))
		}
	}
}

func (l *loop) launchOrphan(ctx context.Context, p uplink.Pod) {
	uid := string(p.Pod.UID)
	l.launch(ctx, uid, p)
	w := l.workers[uid]
	w.do(ctx, func() { w.stop(time.Now()) })
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

// worker returns the worker of a pod, for goroutines other than the loop's.
func (l *loop) worker(uid string) *worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byUID[uid]
}

// setLink tells of a change of the link. It does not wait for the loop, which may be waiting for the uplink.
func (l *loop) setLink(up bool) {
	l.linked.Store(up)
	select {
	case l.linkChanged <- struct{}{}:
	default: // a change that waits already will see this one
	}
}

// setCurrent tells that the set held is the coordinator's newest: there is nothing to wait for.
func (l *loop) setCurrent() {
	select {
	case l.current <- struct{}{}:
	default: // said before
	}
}

func (l *loop) takeLink() {
	up, now := l.linked.Load(), sinceBoot()
	if l.up == up {
		return
	}
	l.up = up
	if up || !l.fenced() {
		l.node.contact.Store(int64(now)) // otherwise the last proof of contact counts
	}
	if err := l.contact.note(up, time.Duration(l.node.contact.Load())); err != nil {
		l.log.Warn("contact not noted", "err", err)
	}
}

// fenced says whether contact is being proven all the time.
func (l *loop) fenced() bool {
	for _, want := range l.desired.Pods {
		if _, ok := stopAfter(want.Pod); ok {
			return true
		}
	}
	return false
}

// count is how many pods run.
func (l *loop) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, w := range l.byUID {
		if w.active.Load() {
			n++
		}
	}
	return n
}

// healthy says why the node cannot run pods; nil when it can.
func (l *loop) healthy() error {
	if l.keeperLost.Load() {
		return errKeeperLost
	}
	return nil
}

var errKeeperLost = errors.New("the keeper does not answer")

// holdPods stops the pods that may not run for that long without contact, lets those run whose contact is back, and
// returns when to look again; zero for never. A pod is stopped early enough to end by itself before its time is over.
func (l *loop) holdPods(ctx context.Context) time.Duration {
	var next time.Duration
	silent := sinceBoot() - time.Duration(l.node.contact.Load())
	for uid, want := range l.desired.Pods {
		limit, ok := stopAfter(want.Pod)
		w := l.workers[uid]
		if !ok || w == nil {
			continue
		}
		why := ""
		switch {
		case l.up:
		case silent >= limit-inTime(want.Pod, limit):
			why = fmt.Sprintf("no contact with the coordinator for longer than %s=%s", api.AnnotationStopAfter, limit)
		case next == 0 || limit-inTime(want.Pod, limit)-silent < next:
			next = limit - inTime(want.Pod, limit) - silent
		}
		w.do(ctx, func() { w.pause(why) })
	}
	return next
}

// inTime is how long before its time is over a pod must be told to stop: its grace period, at most half of its time.
func inTime(p *corev1.Pod, limit time.Duration) time.Duration {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	return min(time.Duration(grace)*time.Second, limit/2)
}
