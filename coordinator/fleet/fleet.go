package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sync/errgroup"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

// SilentBeats is how many heartbeats a node may miss before it counts as silent.
const SilentBeats = 3

// Config is what a Fleet needs.
type Config struct {
	View      *view.View
	Conn      *nats.Conn
	JetStream jetstream.JetStream
	Storage   jetstream.StorageType // of stream UP; memory in virtual time only
	Table     *Table
	Registrar *Registrar
	Reports   *Reports
	Signer    *messaging.Signer
	Heartbeat time.Duration
	// Returned is told that a node was heard after a silence. It must not block.
	Returned func()
	// Revoke ends the connections of a node whose credential is gone.
	Revoke func(node string) int
	Log    *slog.Logger
}

// Fleet listens to the nodes.
type Fleet struct{ Config }

// New returns a fleet that does not listen yet.
func New(c Config) *Fleet { return &Fleet{c} }

// registrations bounds the registrations under way: after a coordinator's restart the whole fleet registers at once.
const registrations = 32

// Run listens until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	beats, err := f.Conn.Subscribe(messaging.HeartbeatAll, f.hear)
	if err != nil {
		return fmt.Errorf("listen to heartbeats: %w", err)
	}
	defer f.unsubscribe(beats)
	slots := make(chan struct{}, registrations)
	registers, err := f.Conn.Subscribe(messaging.NodeAPIAll("register"), func(m *nats.Msg) {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		g.Go(func() error {
			defer func() { <-slots }()
			f.Registrar.Handle(ctx, m)
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("listen to registrations: %w", err)
	}
	defer f.unsubscribe(registers)
	g.Go(func() error { return f.Reports.Run(ctx, f.JetStream, f.Storage) })
	g.Go(func() error { return f.revoke(ctx) })
	return g.Wait()
}

func (f *Fleet) unsubscribe(s *nats.Subscription) {
	if err := s.Unsubscribe(); err != nil && f.Conn.IsConnected() {
		f.Log.Warn("unsubscribe", "subject", s.Subject, "err", err)
	}
}

func (f *Fleet) hear(m *nats.Msg) {
	node, beat, err := parseHeartbeat(m)
	if err != nil {
		f.Log.Warn("heartbeat dropped", "subject", m.Subject, "err", err)
		return
	}
	if f.Table.Hear(node, beat, time.Now(), SilentBeats*f.Heartbeat) {
		f.Log.Info("node heard", "node", node, "boot", beat.Boot)
		f.Returned()
	}
}

// Resync asks a node to read its desired state again.
func (f *Fleet) Resync(node string) {
	subject := messaging.CommandSubject(node, "resync")
	msg := nats.NewMsg(subject)
	msg.Data = []byte("{}")
	signature, err := f.Signer.Sign(subject, msg.Data)
	if err == nil {
		msg.Header.Set(messaging.SignatureHeader, signature)
		err = f.Conn.PublishMsg(msg)
	}
	if err != nil {
		f.Log.Warn("resync not sent", "node", node, "err", err)
	}
}

// revoke disconnects nodes whose credential was deleted or replaced, and forgets nodes that left the API. It compares
// whole lists, so that it can miss no change.
func (f *Fleet) revoke(ctx context.Context) error {
	_, _, credentials := f.View.ListWatch(resourceOf[*api.NodeCredential](), "")
	defer credentials.Stop()
	_, _, nodes := f.View.ListWatch(resourceOf[*corev1.Node](), "")
	defer nodes.Stop()
	keys := f.credentials()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-credentials.Ready():
			now := f.credentials()
			for name, key := range keys {
				if now[name] != key {
					f.Log.Info("node credential changed, connections closed", "node", name, "closed", f.Revoke(name))
				}
			}
			keys = now
		case <-nodes.Ready():
			for _, name := range f.Table.Nodes() {
				if _, ok := get[*corev1.Node](f.View, "", name); !ok {
					f.Table.Forget(name)
				}
			}
		}
	}
}

// credentials returns each enrolled node's public key.
func (f *Fleet) credentials() map[string]string {
	items, _ := f.View.List(resourceOf[*api.NodeCredential](), "")
	keys := make(map[string]string, len(items))
	for _, i := range items {
		if c, ok := i.Object.(*api.NodeCredential); ok {
			keys[c.Name] = c.PublicKey
		}
	}
	return keys
}

// Applied is Table.Applied of a node that is heard: to a silent one nothing can be said.
func (f *Fleet) Applied(node string) (manifest, services uint64, heard bool) {
	return f.Table.Applied(node, time.Now().Add(-SilentBeats*f.Heartbeat))
}

// Liveness is Table.Liveness, for the controllers' snapshot.
func (f *Fleet) Liveness() map[string]controller.Liveness { return f.Table.Liveness() }
