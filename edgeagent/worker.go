package edgeagent

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/checkpoint"
	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/network"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/messaging"
)

// shortPhase is how long a status that says only "being set up" may wait to be sent: most pods are past it by then.
const shortPhase = 100 * time.Millisecond

// adoptionPatience is how long a pod that was taken over may leave the coordinator with its former status.
const adoptionPatience = 2 * time.Second

// saveRetry is the pause after a memory could not be written.
const saveRetry = 30 * time.Second

// worker runs one pod. Everything below the line is owned by run's goroutine; others hand it work through do.
type worker struct {
	node *node
	uid  string
	log  *slog.Logger
	// inbox has no capacity: who hands in work waits until the worker takes it, which is never long.
	inbox chan func()
	done  chan struct{} // closed when run has returned
	// active says that the pod is running, for the node's count.
	active atomic.Bool

	// ---

	want    uplink.Pod
	obs     pod.Observed
	sandbox network.Sandbox
	images  map[string]containerspec.Image // by container
	early   map[string]pod.Exit            // exits heard before the start they belong to was answered, by instance
	stale   []string                       // instances of before that are to be removed
	actions sync.WaitGroup
	leaving chan struct{} // closed when the pod must go: no image is pulled for it any more

	holdUntil time.Time // no status before, unless every probe has spoken
	sent      []byte    // status last reported
	sendAfter time.Time // when an unsent status must go out
	noted     noted     // memory last saved
	saving    bool
	saveAfter time.Time // not before: a full disk is not asked all the time
	gone      bool
}

// noted is the part of a status that is worth a write to disk.
type noted struct {
	phase   corev1.PodPhase
	ids     string
	crashes map[string]int
}

func newWorker(ctx context.Context, n *node, want uplink.Pod, inherited inheritance) *worker {
	w := &worker{
		node: n, uid: string(want.Pod.UID), want: want,
		log:   n.log.With("pod", want.Pod.Namespace+"/"+want.Pod.Name, "uid", string(want.Pod.UID)),
		inbox: make(chan func()), done: make(chan struct{}), leaving: make(chan struct{}),
		images: map[string]containerspec.Image{}, early: map[string]pod.Exit{},
	}
	w.inherit(ctx, inherited)
	isNew := len(inherited.containers) == 0 && len(inherited.memory.Status) == 0
	if isNew {
		w.refuse()
	}
	w.takePorts(isNew)
	return w
}

// do has f run by the worker's goroutine. It returns at once with false when the worker has ended, and when ctx ends.
func (w *worker) do(ctx context.Context, f func()) bool {
	select {
	case w.inbox <- f:
		return true
	case <-w.done:
		return false
	case <-ctx.Done():
		return false
	}
}

// call is do, but waits until f is done.
func (w *worker) call(ctx context.Context, f func()) {
	done := make(chan struct{})
	if w.do(ctx, func() { defer close(done); f() }) {
		<-done
	}
}

// run works until the pod is gone or ctx ends; containers keep running in the latter case.
func (w *worker) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer close(w.done)
	defer w.actions.Wait()
	defer cancel()
	w.takeOver(ctx)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wake := w.step(ctx)
		if w.gone {
			return
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(time.Until(wake))
		}
		select {
		case f := <-w.inbox:
			f()
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// step asks what is next, begins it, and reports. It returns when to step again without an event.
func (w *worker) step(ctx context.Context) (wake time.Time) {
	now := time.Now()
	plan := pod.Next(w.want.Pod, w.observed(), now)
	if !w.holding(now) {
		w.obs.Previous = plan.Status
	}
	w.active.Store(plan.Status.Phase == corev1.PodRunning)
	for _, a := range plan.Actions {
		w.obs.Begin(a, now)
		w.begin(ctx, a)
	}
	if plan.Gone && len(plan.Actions) == 0 {
		w.leave(plan.Status)
		return time.Time{}
	}
	wake = plan.Wake
	if late := w.report(plan.Status, now); !late.IsZero() && (wake.IsZero() || late.Before(wake)) {
		wake = late
	}
	w.remember(ctx, plan.Status)
	return wake
}

func (w *worker) observed() pod.Observed {
	o := w.obs
	o.HostIPs = w.node.facts().HostIPs
	return o
}

// leave reports that nothing of the pod is left.
func (w *worker) leave(status corev1.PodStatus) {
	w.gone = true
	w.log.Info("pod gone")
	w.send(status, true)
}

// report sends a changed status: at once, or soon when it says only that the pod is being set up.
func (w *worker) report(status corev1.PodStatus, now time.Time) (later time.Time) {
	if w.holding(now) {
		return w.holdUntil
	}
	data, err := status.Marshal()
	if err != nil {
		w.log.Error("pod status cannot be encoded", "err", err)
		return time.Time{}
	}
	if bytes.Equal(data, w.sent) {
		w.sendAfter = time.Time{}
		return time.Time{}
	}
	if settingUp(&status) {
		if w.sendAfter.IsZero() {
			w.sendAfter = now.Add(shortPhase)
		}
		if now.Before(w.sendAfter) {
			return w.sendAfter
		}
	}
	w.sendAfter, w.sent = time.Time{}, data
	w.send(status, false)
	return time.Time{}
}

// holding says whether the first status must wait: a pod that was taken over was probed by the agent before, and would
// look unready until this one has probed it too.
func (w *worker) holding(now time.Time) bool {
	if !now.Before(w.holdUntil) {
		return false
	}
	for name, c := range w.obs.Containers {
		spec := pod.Spec(w.want.Pod, name)
		if c.State != pod.Running || spec == nil {
			continue
		}
		if (spec.StartupProbe != nil && c.Probes[pod.Startup].Verdict == pod.Undecided) ||
			(spec.ReadinessProbe != nil && c.Probes[pod.Readiness].Runs == 0) {
			return true
		}
	}
	return false
}

// settingUp says whether a status holds nothing that anybody waits for.
func settingUp(s *corev1.PodStatus) bool {
	if s.Phase != corev1.PodPending {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			waiting := list[i].State.Waiting
			if waiting == nil || (waiting.Reason != "ContainerCreating" && waiting.Reason != "PodInitializing") {
				return false
			}
		}
	}
	return true
}

func (w *worker) send(status corev1.PodStatus, gone bool) {
	if gone || finished(status.Phase) {
		w.node.claims.release(w.uid) // before anybody knows, and sends the next one here
	}
	data, err := status.Marshal()
	if err == nil {
		err = w.node.report.Pod(messaging.PodReport{
			Namespace: w.want.Pod.Namespace, Name: w.want.Pod.Name, UID: w.uid, Status: data, Gone: gone,
		})
	}
	if err != nil {
		w.log.Error("pod status not reported", "err", err)
	}
}

// remember saves what a reboot must not lose, when it has changed. The write runs beside the work: nothing waits for it.
func (w *worker) remember(ctx context.Context, status corev1.PodStatus) {
	n := w.notable(status)
	if w.saving || time.Now().Before(w.saveAfter) || (n.phase == w.noted.phase && n.ids == w.noted.ids && maps.Equal(n.crashes, w.noted.crashes)) {
		return
	}
	data, err := status.Marshal()
	if err != nil {
		w.log.Error("pod status cannot be encoded", "err", err)
		return
	}
	w.saving = true
	m := checkpoint.Memory{Status: data, Crashes: n.crashes}
	w.actions.Go(func() {
		err := w.node.store.SaveMemory(w.uid, m)
		w.do(ctx, func() {
			w.saving = false
			if err != nil {
				w.log.Error("pod not remembered", "err", err)
				w.saveAfter = time.Now().Add(saveRetry)
				return
			}
			w.noted = n
		})
	})
}

// save is remember for what must be on disk before the next step.
func (w *worker) save(status corev1.PodStatus) {
	n := w.notable(status)
	data, err := status.Marshal()
	if err == nil {
		err = w.node.store.SaveMemory(w.uid, checkpoint.Memory{Status: data, Crashes: n.crashes})
	}
	if err != nil {
		w.log.Error("pod not remembered", "err", err)
		return
	}
	w.noted = n
}

// notable: a pod that is only being set up for the first time needs no memory.
func (w *worker) notable(status corev1.PodStatus) noted {
	n := noted{phase: status.Phase, crashes: map[string]int{}}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			n.ids += list[i].ContainerID
			if list[i].State.Running != nil {
				n.ids += "+"
			}
			if crashes := w.obs.Containers[list[i].Name].Crashes; crashes > 0 {
				n.crashes[list[i].Name] = crashes
			}
		}
	}
	if n.ids == "" && n.phase == corev1.PodPending {
		n.phase = ""
	}
	return n
}

// update takes a new version of the pod.
func (w *worker) update(want uplink.Pod, now time.Time) {
	w.want = want
	w.obs.Changed()
	if want.Pod.DeletionTimestamp != nil {
		w.stop(now)
	}
	if w.obs.Volumes.State == pod.Done && w.obs.StopSince.IsZero() {
		w.obs.Volumes.State = pod.Todo // config maps may have changed: preparing again brings them up to date
	}
}

// stop has the pod go away.
func (w *worker) stop(now time.Time) {
	if w.obs.StopSince.IsZero() {
		w.obs.StopSince = now
		w.abandonPulls()
		w.log.Info("pod stopping")
	}
}

// abandonPulls ends the pulls under way, once.
func (w *worker) abandonPulls() {
	select {
	case <-w.leaving:
	default:
		close(w.leaving)
	}
}

// pause holds the pod's containers stopped, or lets them run again when why is empty.
func (w *worker) pause(why string) {
	if w.obs.Paused != why {
		w.log.Info("pod paused", "why", why)
		w.obs.Paused = why
	}
}

// exited takes the end of an instance. One that is being started is not known by its name yet.
func (w *worker) exited(container string, e pod.Exit) {
	c := w.obs.Containers[container]
	if c.State == pod.Starting && c.ID != e.ID {
		w.early[e.ID] = e
		return
	}
	if c.ID == e.ID && c.State != pod.Exited {
		w.log.Info("container exited", "container", container, "code", e.Code, "oom", e.OOM)
	}
	w.obs.Exited(container, e, time.Now())
}

// result takes the end of an action.
func (w *worker) result(r pod.Result) {
	if r.Err != nil {
		w.log.Warn("action failed", "action", r.Action.String(), "err", r.Err)
	}
	w.announce(r)
	w.rejectWithout(r.Err)
	w.obs.Apply(r, w.want.Pod, time.Now())
	if r.Action.Verb == pod.StartContainer {
		if e, ok := w.early[r.ID]; ok {
			w.obs.Exited(r.Action.Container, e, time.Now())
		}
		clear(w.early)
	}
}
