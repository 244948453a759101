package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
)

// heartbeats says that the node lives: at once when the link is up or something was applied, then at the interval the
// coordinator named, give or take a fifth so that a fleet does not beat in step. Without a link nothing is sent and
// nothing piles up.
func (u *Uplink) heartbeats(ctx context.Context, nc *nats.Conn) error {
	var seq uint64
	timer := time.NewTimer(u.nextBeat())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-u.beatNow:
		}
		if u.Up() && nc.IsConnected() {
			seq++
			if err := u.sendBeat(ctx, nc, seq); err != nil {
				u.log.Warn("heartbeat not sent", "err", err)
			}
		}
		timer.Reset(u.nextBeat())
	}
}

func (u *Uplink) sendBeat(ctx context.Context, nc *nats.Conn, seq uint64) error {
	load := u.cfg.Node.Load(ctx)
	u.mu.Lock()
	beat := messaging.Heartbeat{Boot: u.cfg.Boot, Seq: seq, Manifest: u.manifest, Services: u.services, Load: load}
	u.mu.Unlock()
	data, err := json.Marshal(beat)
	if err != nil {
		return fmt.Errorf("encode heartbeat: %w", err)
	}
	return nc.Publish(messaging.HeartbeatSubject(u.cfg.Connect.Node), data)
}

func (u *Uplink) nextBeat() time.Duration {
	u.mu.Lock()
	beat := u.beat
	u.mu.Unlock()
	return time.Duration(float64(beat) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // jitter, not a secret
}
