package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/api"
)

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
