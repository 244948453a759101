package edgeagent

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/edgeagent/pod"
)

// A pod with api.AnnotationStopAfter must have ended when that time has passed since the last contact with the
// coordinator. The agent stops it in good time by itself; should the agent hang or be dead, the keeper kills it: each
// instance has a deadline there, which is moved on at each proven contact. Contact is a round trip to the server, never
// the mere absence of an error.

// How often contact is proven: a quarter of the shortest time that any pod has, within these bounds.
const (
	fenceFastest = time.Second
	fenceSlowest = 30 * time.Second
)

// stopAfter reads the annotation. One that cannot be read is taken for absent: the API refuses such.
func stopAfter(p *corev1.Pod) (time.Duration, bool) {
	text := p.Annotations[api.AnnotationStopAfter]
	if text == "" {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}

// fence proves contact and moves the deadlines on, until ctx ends. It idles while no pod needs it.
func (l *loop) fence(ctx context.Context, contact func(ctx context.Context) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-l.fenceNow:
		}
		every, err := l.fenceInterval(ctx)
		if err != nil {
			return err
		}
		if every == 0 {
			timer.Stop()
			continue
		}
		l.prove(ctx, contact, every)
		timer.Reset(every)
	}
}

// fenceInterval is how often contact must be proven; zero while no pod needs it.
func (l *loop) fenceInterval(ctx context.Context) (every time.Duration, err error) {
	err = l.ask(ctx, func(context.Context) error {
		for _, want := range l.desired.Pods {
			if limit, ok := stopAfter(want.Pod); ok && (every == 0 || limit/4 < every) {
				every = min(max(limit/4, fenceFastest), fenceSlowest)
			}
		}
		return nil
	})
	return every, err
}

func (l *loop) prove(ctx context.Context, contact func(ctx context.Context) error, timeout time.Duration) {
	if !l.linked.Load() {
		return
	}
	at := sinceBoot() // before asking: the answer says that there was contact no earlier than now
	ask, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := contact(ask); err != nil {
		l.log.Debug("contact not proven", "err", err)
		return
	}
	l.node.contact.Store(int64(at))
	for _, w := range l.all() {
		w.do(ctx, func() { w.extend(ctx, at) })
	}
}

// extend moves the deadlines of the pod's instances on.
func (w *worker) extend(ctx context.Context, contact time.Duration) {
	limit, ok := stopAfter(w.want.Pod)
	if !ok {
		return
	}
	for _, c := range w.obs.Containers {
		if c.State == pod.Running {
			w.actions.Go(func() {
				if err := w.node.keeper.Deadline(ctx, c.ID, contact+limit); err != nil && ctx.Err() == nil {
					w.log.Warn("deadline not moved on", "id", c.ID, "err", err)
				}
			})
		}
	}
}

// errTooLate keeps an instance from starting whose time is over already.
var errTooLate = errors.New("no contact with the coordinator for too long")

// deadline gives a new instance its deadline before it starts.
func (j *job) deadline(ctx context.Context, id string) error {
	limit, ok := stopAfter(j.want.Pod)
	if !ok {
		return nil
	}
	at := time.Duration(j.node.contact.Load()) + limit
	if at <= sinceBoot() {
		return errTooLate
	}
	return j.node.keeper.Deadline(ctx, id, at)
}
