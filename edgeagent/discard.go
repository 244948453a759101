package edgeagent

import (
	"context"
	"errors"
	"slices"
	"time"

	"skerry.dev/skerry/edgeagent/volume"
	"skerry.dev/skerry/messaging"
)

// discardRetry is the pause after a volume could not be removed.
const discardRetry = 30 * time.Second

// discard is how the removal of a volume ended.
type discard struct {
	volume string
	err    error
	ends   int // loop.ends when it began
}

// discard begins the removal of the volumes that the coordinator has ordered to go, each once. Nothing else ever removes
// one. A volume that a pod still has is left until that pod is gone.
func (l *loop) discard(ctx context.Context) {
	for name := range l.discards {
		if l.discards[name] && !slices.Contains(l.desired.Discard, name) {
			delete(l.discards, name)
		}
	}
	if l.desired.Manifest.Revision == 0 || !l.started {
		return
	}
	for _, name := range l.desired.Discard {
		if _, begun := l.discards[name]; begun || l.claimed(name) {
			continue
		}
		l.discards[name] = false
		begun := discard{volume: name, ends: l.ends}
		l.running.Go(func() { l.remove(ctx, begun) })
	}
}

// claimed reports whether a pod that is to run here has the volume.
func (l *loop) claimed(name string) bool {
	for _, want := range l.desired.Pods {
		for _, claim := range want.Assignment.Claims {
			if claim.Volume == name {
				return true
			}
		}
	}
	return false
}

// remove removes a volume, trying again when the disk does not let it.
func (l *loop) remove(ctx context.Context, d discard) {
	for {
		d.err = l.node.volumes.Discard(d.volume)
		if d.err == nil || errors.Is(d.err, volume.ErrInUse) {
			select {
			case l.discarded <- d:
			case <-ctx.Done():
			}
			return
		}
		l.log.Warn("volume not removed, will retry", "volume", d.volume, "err", d.err, "after", discardRetry)
		select {
		case <-time.After(discardRetry):
		case <-ctx.Done():
			return
		}
	}
}

// finishDiscard reports a volume that is gone. One that is in use is tried again when a pod has gone, at once if that
// happened meanwhile.
func (l *loop) finishDiscard(ctx context.Context, d discard) {
	if d.err != nil {
		l.log.Info("volume is to go when its pod has gone", "volume", d.volume)
		delete(l.discards, d.volume)
		if l.ends != d.ends {
			l.discard(ctx)
		}
		return
	}
	l.log.Info("volume removed", "volume", d.volume)
	if err := l.node.report.Volume(messaging.VolumeReport{Volume: d.volume}); err != nil {
		l.log.Error("removed volume not reported", "volume", d.volume, "err", err)
	}
	l.discards[d.volume] = true
}
