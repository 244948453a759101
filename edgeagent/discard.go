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
		l.running.Go(func() { l.remove(ctx, name) })
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
func (l *loop) remove(ctx context.Context, name string) {
	for {
		err := l.node.volumes.Discard(name)
		if err == nil || errors.Is(err, volume.ErrInUse) {
			select {
			case l.discarded <- discard{name, err}:
			case <-ctx.Done():
			}
			return
		}
		l.log.Warn("volume not removed, will retry", "volume", name, "err", err, "after", discardRetry)
		select {
		case <-time.After(discardRetry):
		case <-ctx.Done():
			return
		}
	}
}

// finishDiscard reports a volume that is gone. One that is in use is tried again when a pod has gone.
func (l *loop) finishDiscard(d discard) {
	if d.err != nil {
		l.log.Info("volume is to go when its pod has gone", "volume", d.volume)
		delete(l.discards, d.volume)
		return
	}
	l.log.Info("volume removed", "volume", d.volume)
	if err := l.node.report.Volume(messaging.VolumeReport{Volume: d.volume}); err != nil {
		l.log.Error("removed volume not reported", "volume", d.volume, "err", err)
	}
	l.discards[d.volume] = true
}
