package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"skerry.dev/skerry/messaging"
)

// Bounds of talking to the coordinator.
const (
	requestTimeout = 10 * time.Second
	retryFirst     = 500 * time.Millisecond
	retryMax       = 30 * time.Second
	parallelGets   = 8
)

// ErrTurnedAway means that the coordinator has answered and will not have this node: the message says why.
var ErrTurnedAway = errors.New("turned away by the coordinator")

// tracker follows the node's desired state. It belongs to follow's goroutine.
type tracker struct {
	u        *Uplink
	nc       *nats.Conn
	held     Desired
	services messaging.Assigned
	recent   map[string]messaging.Assigned // pods that were republished and whose manifest has not come yet, by part
}

// follow registers on each connection, reads the complete set, and then takes what is republished.
func (u *Uplink) follow(ctx context.Context, nc *nats.Conn) error {
	t := &tracker{u: u, nc: nc, held: u.cfg.Held, services: u.cfg.Services, recent: map[string]messaging.Assigned{}}
	retry := newRetry()
	defer retry.stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.connected:
			u.setUp(false)
			retry.clear()
		case <-u.resync:
		case <-retry.due():
		case a := <-u.heard:
			if err := t.take(ctx, a); err != nil {
				u.log.Warn("desired state not taken", "part", a.Part, "revision", a.Revision, "err", err)
				retry.later()
			}
			continue
		}
		retry.outcome(t.sync(ctx))
	}
}

// sync registers when needed and reads everything anew.
func (t *tracker) sync(ctx context.Context) error {
	if !t.nc.IsConnected() {
		return nil // the connect that follows wakes us
	}
	err := t.register(ctx)
	if err == nil {
		err = errors.Join(t.readManifest(ctx), t.readServices(ctx))
	}
	if err != nil && ctx.Err() == nil && t.nc.IsConnected() {
		t.u.log.Warn("not in step with the coordinator", "err", err)
	}
	return err
}

// register introduces the node, once per connection.
func (t *tracker) register(ctx context.Context) error {
	if t.u.Up() {
		return nil
	}
	reply, err := t.introduce(ctx)
	if err != nil {
		return err
	}
	if trust := t.u.trusted(); trust.Cluster != "" && trust.Cluster != reply.Cluster {
		return fmt.Errorf("%w: the coordinator is of cluster %q, this node belongs to %q; to move the node, remove its checkpoint folder and join anew",
			ErrRefused, reply.Cluster, trust.Cluster)
	}
	if err := t.u.cfg.Node.Registered(ctx, reply); err != nil {
		return err
	}
	t.u.registered(reply)
	return nil
}

func (t *tracker) introduce(ctx context.Context) (messaging.RegisterReply, error) {
	var reply messaging.RegisterReply
	c := t.u.cfg
	body, err := json.Marshal(messaging.RegisterRequest{
		Protocol: messaging.ProtocolVersion, Version: c.Version, Boot: c.Boot, SealKey: c.SealKey, Address: c.Address,
	})
	if err != nil {
		return reply, err
	}
	ctx, cancel := t.u.link.request(ctx)
	defer cancel()
	msg, err := t.nc.RequestWithContext(ctx, messaging.NodeAPISubject(c.Connect.Node, "register"), body)
	if err != nil {
		return reply, fmt.Errorf("register: %w", err)
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return reply, fmt.Errorf("register: read the answer: %w", err)
	}
	if reply.Error != "" {
		return reply, fmt.Errorf("%w: %s", ErrTurnedAway, reply.Error)
	}
	return reply, nil
}

func (u *Uplink) registered(reply messaging.RegisterReply) {
	u.mu.Lock()
	u.trust.Cluster, u.trust.SigningKey = reply.Cluster, reply.SigningKey
	if reply.Heartbeat > 0 {
		u.beat = reply.Heartbeat
	}
	u.mu.Unlock()
	u.setUp(true)
}

// take handles one republished part.
func (t *tracker) take(ctx context.Context, a messaging.Assigned) error {
	if t.u.trusted().SigningKey == "" {
		return nil // not registered yet: sync will read it
	}
	switch {
	case a.Node == messaging.Broadcast && a.Part == messaging.ServicesPart:
		return t.takeServices(ctx, a)
	case a.Part == messaging.ManifestPart:
		return t.takeManifest(ctx, a)
	default:
		t.remember(a)
		return nil
	}
}

// remember keeps a pod for the manifest that will name it. The number is bounded: what is forgotten is read again.
func (t *tracker) remember(a messaging.Assigned) {
	if len(t.recent) >= 1024 {
		clear(t.recent)
	}
	t.recent[a.Part] = a
}

func (t *tracker) readManifest(ctx context.Context) error {
	a, err := t.get(ctx, t.u.trusted().Node, messaging.ManifestPart)
	if errors.Is(err, messaging.ErrNotAssigned) {
		return nil // no manifest is no order
	}
	if err != nil {
		return err
	}
	return t.takeManifest(ctx, a)
}

func (t *tracker) readServices(ctx context.Context) error {
	a, err := t.get(ctx, messaging.Broadcast, messaging.ServicesPart)
	if errors.Is(err, messaging.ErrNotAssigned) {
		return nil
	}
	if err != nil {
		return err
	}
	return t.takeServices(ctx, a)
}

// takeManifest completes a manifest with its pods and hands the set on. A manifest that must not be followed is logged
// and forgotten: asking again would bring the same.
func (t *tracker) takeManifest(ctx context.Context, a messaging.Assigned) error {
	m, err := judge(t.held, a, t.u.trusted())
	switch {
	case errors.Is(err, errSame) && len(t.held.Pods) == len(m.Pods):
		t.held.Manifest = a
		t.u.applied(&t.u.manifest, a.Revision)
		t.u.cfg.Node.Current()
		return nil
	case errors.Is(err, ErrRefused):
		t.u.log.Error("manifest refused", "revision", a.Revision, "err", err)
		return nil
	case err != nil && !errors.Is(err, errSame): // the same again brings pods that the checkpoint has lost
		return err
	}
	d, err := t.complete(ctx, a, m)
	if err != nil {
		return fmt.Errorf("complete manifest %d: %w", a.Revision, err)
	}
	if err := t.u.cfg.Node.Desired(ctx, d); err != nil {
		return err
	}
	t.held = d
	t.forget()
	t.u.applied(&t.u.manifest, a.Revision)
	return nil
}

func (t *tracker) forget() {
	for part, a := range t.recent {
		if a.Revision <= t.held.Manifest.Revision {
			delete(t.recent, part)
		}
	}
}

// complete fetches the pods of a manifest that are not held yet.
func (t *tracker) complete(ctx context.Context, a messaging.Assigned, m messaging.Manifest) (Desired, error) {
	d := Desired{Manifest: a, Epoch: m.Epoch, Generation: m.Generation, Pods: make(map[string]Pod, len(m.Pods)), Discard: m.Discard}
	var mu sync.Mutex // guards d.Pods
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelGets)
	for _, ref := range m.Pods {
		if held, ok := t.held.Pods[ref.UID]; ok && held.Source.Revision == ref.Revision {
			mu.Lock()
			d.Pods[ref.UID] = held
			mu.Unlock()
			continue
		}
		recent := t.recent[messaging.PodPart(ref.UID)]
		g.Go(func() error {
			pod, err := t.pod(ctx, ref, recent)
			mu.Lock()
			defer mu.Unlock()
			d.Pods[ref.UID] = pod
			return err
		})
	}
	return d, g.Wait()
}

func (t *tracker) pod(ctx context.Context, ref messaging.PodRef, recent messaging.Assigned) (Pod, error) {
	trust, part := t.u.trusted(), messaging.PodPart(ref.UID)
	a, err := recent, error(nil)
	if a.Revision < ref.Revision || checkSource(a, trust.Node, part, trust.SigningKey) != nil {
		a, err = t.get(ctx, trust.Node, part)
	}
	if err != nil {
		return Pod{}, err
	}
	if a.Revision < ref.Revision {
		return Pod{}, fmt.Errorf("pod %s: the store answers with revision %d, the manifest names %d", ref.UID, a.Revision, ref.Revision)
	}
	if err := checkSource(a, trust.Node, part, trust.SigningKey); err != nil {
		return Pod{}, fmt.Errorf("pod %s: %w", ref.UID, err)
	}
	return decodePod(ref.UID, a)
}

func (t *tracker) get(ctx context.Context, node, part string) (messaging.Assigned, error) {
	ctx, cancel := t.u.link.request(ctx)
	defer cancel()
	return messaging.GetAssigned(ctx, t.nc, node, part)
}

func (t *tracker) takeServices(ctx context.Context, a messaging.Assigned) error {
	if err := checkSource(a, messaging.Broadcast, messaging.ServicesPart, t.u.trusted().SigningKey); err != nil {
		t.u.log.Error("service table refused", "revision", a.Revision, "err", err)
		return nil
	}
	table, err := DecodeServices(a)
	if err != nil {
		return err
	}
	held, err := DecodeServices(t.services)
	if err == nil && t.services.Revision != 0 && !newer(table, held) {
		t.u.applied(&t.u.services, a.Revision)
		return nil
	}
	if err := t.u.cfg.Node.Services(ctx, a, table); err != nil {
		return err
	}
	t.services = a
	t.u.applied(&t.u.services, a.Revision)
	return nil
}

// DecodeServices reads a service table.
func DecodeServices(a messaging.Assigned) (messaging.ServiceTable, error) {
	var table messaging.ServiceTable
	if a.Revision == 0 {
		return table, nil
	}
	if err := json.Unmarshal(a.Data, &table); err != nil {
		return table, fmt.Errorf("service table %d: %w", a.Revision, err)
	}
	return table, nil
}

func newer(a, b messaging.ServiceTable) bool {
	return a.Epoch > b.Epoch || (a.Epoch == b.Epoch && a.Generation > b.Generation)
}

func (u *Uplink) applied(which *uint64, revision uint64) {
	u.mu.Lock()
	changed := *which != revision
	*which = revision
	u.mu.Unlock()
	if changed {
		signal(u.beatNow)
	}
}

// hear queues what is republished. A full queue loses nothing for good: everything is read again.
func (u *Uplink) hear(m *nats.Msg) {
	a, err := messaging.ParseAssigned(m)
	if err != nil {
		u.log.Warn("message ignored", "subject", m.Subject, "err", err)
		return
	}
	select {
	case u.heard <- a:
	default:
		signal(u.resync)
	}
}
