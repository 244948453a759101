package edgeagent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/usage"
)

// Gauges measure the node and make room on it; nil in tests that are about other things.
type Gauges interface {
	// Signals is what is left. Those that could not be measured are missing and in the error.
	Signals(ctx context.Context) (map[eviction.Signal]eviction.Amount, error)
	// Disk measures the room that a pod takes; instances are those of its containers, by name. What could not be measured is
	// missing and in the error.
	Disk(ctx context.Context, p *corev1.Pod, instances map[string]string) (containers map[string]eviction.Use, volumes map[string]eviction.Disk, err error)
	// FreeImages removes images that nothing uses.
	FreeImages(ctx context.Context) error
}

// After images and dead containers were removed, the disk is given settle to show it; until reclaimPause is over nothing
// more is expected of removing them again.
const (
	settle       = 2 * time.Second
	reclaimPause = 30 * time.Second
)

// A pod's files are walked for at most walkTime, and then not again for walkShare times as long as it took: a pod with
// millions of files must not keep the node from looking after the others.
const (
	walkTime  = 5 * time.Second
	walkShare = 20
)

// pressure watches what the node has left, says so in its conditions, and evicts pods, with or without a link.
type pressure struct {
	gauges Gauges
	config eviction.Config
	pods   func() []*worker
	usage  func(ctx context.Context, now time.Time) ([]usage.Container, error)
	now    *atomic.Pointer[[]corev1.NodeConditionType] // the node's conditions
	// changed has capacity 1: the conditions are others than they were.
	changed chan struct{}
	log     *slog.Logger

	// --- owned by run's goroutine:

	state     eviction.State
	reclaimed time.Time
	rare      rare
	walked    map[string]walked // by UID of the pod
}

// walked is what a walk of a pod's files found.
type walked struct {
	containers map[string]eviction.Use
	volumes    map[string]eviction.Disk
	good       time.Time // until then it is not walked again
}

// run measures and acts until ctx ends.
func (p *pressure) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		timer.Reset(max(0, time.Until(p.round(ctx, time.Now()))))
	}
}

// round measures once and does what is to be done. It returns when to come again.
func (p *pressure) round(ctx context.Context, now time.Time) time.Time {
	s := p.measure(ctx, now)
	var plan eviction.Plan
	p.state, plan = eviction.Decide(p.config, p.state, s, now)
	p.show(plan)
	if plan.Reclaim {
		p.log.Warn("node is short, removing what is not needed", "resource", plan.Resource)
		p.reclaimed = now
		p.reclaim(ctx)
		return now.Add(settle)
	}
	for _, v := range plan.Evict {
		p.evict(ctx, v)
	}
	return plan.Wake
}

func (p *pressure) measure(ctx context.Context, now time.Time) eviction.Snapshot {
	signals, err := p.gauges.Signals(ctx)
	p.complain(ctx, "node not measured", err)
	s := eviction.Snapshot{Signals: signals, Reclaimed: !p.reclaimed.IsZero() && now.Sub(p.reclaimed) < reclaimPause}
	using, err := p.usage(ctx, now)
	p.complain(ctx, "containers not measured", err)
	burdens := p.burdens(ctx)
	var pods []*corev1.Pod
	for _, b := range burdens {
		pods = append(pods, b.pod)
	}
	all, some := eviction.Measure(p.config, signals, pods)
	kept := map[string]walked{}
	for _, b := range burdens {
		measured := eviction.Pod{Pod: b.pod, Ending: b.ending, Containers: map[string]eviction.Use{}}
		if !b.ending && (all || some[string(b.pod.UID)]) {
			w := p.walk(ctx, b, now)
			kept[string(b.pod.UID)] = w
			measured.Containers, measured.Volumes, measured.Measured = maps.Clone(w.containers), w.volumes, true
		}
		addUsage(&measured, using)
		s.Pods = append(s.Pods, measured)
	}
	p.walked = kept
	return s
}

// walk measures the room that a pod takes, or returns what the last walk found.
func (p *pressure) walk(ctx context.Context, b burden, now time.Time) walked {
	if w, known := p.walked[string(b.pod.UID)]; known && now.Before(w.good) {
		return w
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, walkTime)
	defer cancel()
	containers, volumes, err := p.gauges.Disk(limited, b.pod, b.instances)
	p.complain(ctx, "room taken by a pod not measured", err)
	return walked{containers: containers, volumes: volumes, good: now.Add(walkShare * time.Since(began))}
}

func addUsage(p *eviction.Pod, using []usage.Container) {
	for _, c := range using {
		if c.UID == string(p.UID) {
			if p.Containers == nil {
				p.Containers = map[string]eviction.Use{}
			}
			use := p.Containers[c.Name]
			use.MemoryBytes, use.Pids = int64(c.Stats.MemoryBytes), int64(c.Stats.Pids) //nolint:gosec // real amounts fit
			p.Containers[c.Name] = use
		}
	}
}

// complain logs now and then what goes wrong at each round.
func (p *pressure) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil && p.rare.allow(what, time.Now()) {
		p.log.Warn("housekeeping is incomplete", "what", what, "err", err)
	}
}

// show makes the conditions known to all who take or report pods.
func (p *pressure) show(plan eviction.Plan) {
	old := p.now.Swap(&plan.Conditions)
	if old != nil && slices.Equal(*old, plan.Conditions) || old == nil && len(plan.Conditions) == 0 {
		return
	}
	p.log.Info("node conditions", "under", plan.Conditions)
	select {
	case p.changed <- struct{}{}:
	default: // said before
	}
}

func (p *pressure) reclaim(ctx context.Context) {
	for _, w := range p.pods() {
		w.do(ctx, func() { w.obs.Tidy = w.burden().ending })
	}
	p.complain(ctx, "images not removed", p.gauges.FreeImages(ctx))
}

func (p *pressure) evict(ctx context.Context, v eviction.Verdict) {
	for _, w := range p.pods() {
		if w.uid != v.UID {
			continue
		}
		w.call(ctx, func() {
			w.rule(pod.Ruling{Reason: eviction.Reason, Message: v.Message, Grace: v.Grace, Disrupted: v.Pressure})
		})
	}
}

// burden is a pod that takes something of the node.
type burden struct {
	pod       *corev1.Pod
	instances map[string]string
	ending    bool
}

func (p *pressure) burdens(ctx context.Context) (out []burden) {
	for _, w := range p.pods() {
		w.call(ctx, func() {
			if b := w.burden(); !b.ending || w.obs.Volumes.Dirty || w.obs.Sandbox.Dirty {
				out = append(out, b)
			}
		})
	}
	return out
}

// burden is the pod as the eviction sees it.
func (w *worker) burden() burden {
	b := burden{pod: w.want.Pod, instances: map[string]string{}}
	b.ending = w.ending()
	for name, c := range w.obs.Containers {
		if c.ID != "" {
			b.instances[name] = c.ID
		}
	}
	return b
}

// ending says whether the pod has ended, or is being ended.
func (w *worker) ending() bool {
	return !w.obs.StopSince.IsZero() || w.obs.Ruling != nil || finished(w.obs.Previous.Phase)
}

// rule ends the pod by the node's decision. It is remembered before anything is stopped: an agent that dies here must not
// start the pod again. A full disk does not keep it from being stopped.
func (w *worker) rule(r pod.Ruling) {
	if w.ending() {
		return
	}
	w.log.Warn("pod ended by the node", "reason", r.Reason, "message", r.Message)
	w.event(w.want.Pod, "", corev1.EventTypeWarning, r.Reason, r.Message)
	w.obs.Ruling = &r
	w.abandonPulls()
	w.save(pod.Next(w.want.Pod, w.observed(), time.Now()).Status)
}

// refuse ends a new pod that the node, or the node in its present state, does not take.
func (w *worker) refuse() {
	if w.want.Pod.DeletionTimestamp != nil {
		return
	}
	if reason, why := w.node.incapable(w.want.Pod); reason != "" {
		w.rule(pod.Ruling{Reason: reason, Message: "Pod was rejected: " + why})
		return
	}
	conditions := w.node.pressures.Load()
	if conditions == nil {
		return
	}
	if why := eviction.Refuse(w.want.Pod, pod.QOS(w.want.Pod), *conditions); why != "" {
		w.rule(pod.Ruling{Reason: eviction.Reason, Message: "Pod was rejected: " + why})
	}
}
