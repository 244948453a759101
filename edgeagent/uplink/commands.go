package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
)

// onResync reads everything again. The command must be signed; one that is replayed does no harm.
func (u *Uplink) onResync(m *nats.Msg) {
	if err := u.verify(m); err != nil {
		u.log.Warn("command refused", "subject", m.Subject, "err", err)
		return
	}
	signal(u.resync)
}

// onPing answers with a heartbeat.
func (u *Uplink) onPing(m *nats.Msg) {
	if err := u.verify(m); err != nil {
		u.log.Warn("command refused", "subject", m.Subject, "err", err)
		return
	}
	u.mu.Lock()
	beat := messaging.Heartbeat{Boot: u.cfg.Boot, Manifest: u.manifest, Services: u.services}
	u.mu.Unlock()
	data, err := json.Marshal(beat)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		u.log.Warn("ping not answered", "err", err)
	}
}

// usageTimeout bounds one measurement: who asked has given up by then.
const usageTimeout = 3 * time.Second

// onUsage answers with what the containers use. Nothing of it is sent unasked: links may be metered.
func (u *Uplink) onUsage(ctx context.Context, m *nats.Msg) {
	if err := u.verify(m); err != nil {
		u.log.Warn("command refused", "subject", m.Subject, "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, usageTimeout)
	defer cancel()
	report, err := u.cfg.Node.Usage(ctx)
	if err == nil {
		err = m.Respond(report.Encode())
	}
	if err != nil {
		u.log.Warn("usage not reported", "err", err)
	}
}

// verify checks the signature of a command over its subject and payload.
func (u *Uplink) verify(m *nats.Msg) error {
	key := u.trusted().SigningKey
	if key == "" {
		return fmt.Errorf("%w: this node is not registered yet", ErrRefused)
	}
	if err := messaging.Verify(key, m.Subject, m.Data, m.Header.Get(messaging.SignatureHeader)); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// onOpen opens a byte stream and serves it on a goroutine that ends with the stream or with ctx.
func (u *Uplink) onOpen(ctx context.Context, nc *nats.Conn, m *nats.Msg) {
	key := u.trusted().SigningKey
	if key == "" {
		u.log.Warn("command refused", "subject", m.Subject, "err", "this node is not registered yet")
		return
	}
	req, err := messaging.ParseOpenRequest(m, key)
	if err != nil {
		u.log.Warn("command refused", "subject", m.Subject, "err", err)
		return
	}
	if err := u.admit(ctx, req); err != nil {
		u.refuse(m, err)
		return
	}
	u.streams.Go(func() { u.serve(ctx, nc, m, req) })
}

func (u *Uplink) admit(ctx context.Context, req messaging.OpenRequest) error {
	if !u.sessions.first(req.Session, time.Now()) {
		return fmt.Errorf("session %q was opened before", req.Session)
	}
	return u.cfg.Node.Check(ctx, req)
}

func (u *Uplink) refuse(m *nats.Msg, reason error) {
	if err := messaging.RefuseStream(m, reason.Error()); err != nil {
		u.log.Warn("refusal not sent", "err", err)
	}
}

func (u *Uplink) serve(ctx context.Context, nc *nats.Conn, m *nats.Msg, req messaging.OpenRequest) {
	conn, err := messaging.AcceptStream(nc, m, req, u.cfg.Connect.Node, messaging.NodeSide)
	if err != nil {
		u.log.Warn("stream not opened", "kind", req.Kind, "err", err)
		return
	}
	u.cfg.Node.Serve(ctx, req, conn)
}

// sessions remembers which streams were opened, so that a recorded request cannot be replayed. A request is valid for
// a minute or so; sessions are kept for longer than that, by this node's own monotonic clock.
type sessions struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const sessionMemory = time.Hour

// first says whether the session has not been seen, and remembers it.
func (s *sessions) first(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]time.Time{}
	}
	if _, again := s.seen[id]; again || id == "" {
		return false
	}
	for old, at := range s.seen {
		if now.Sub(at) > sessionMemory {
			delete(s.seen, old)
		}
	}
	s.seen[id] = now
	return true
}
