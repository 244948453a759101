package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/edgeagent/uplink/wal"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/natstest"
)

// fakeNode notes what its uplink tells it.
type fakeNode struct {
	mu       sync.Mutex
	sets     []Desired
	tables   []messaging.ServiceTable
	replies  []messaging.RegisterReply
	up       []bool
	failNext error
}

func (n *fakeNode) Desired(_ context.Context, d Desired) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.failNext; err != nil {
		n.failNext = nil
		return err
	}
	n.sets = append(n.sets, d)
	return nil
}

func (n *fakeNode) Current() {}

func (n *fakeNode) Services(_ context.Context, _ messaging.Assigned, t messaging.ServiceTable) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tables = append(n.tables, t)
	return nil
}

func (n *fakeNode) Registered(_ context.Context, r messaging.RegisterReply) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.replies = append(n.replies, r)
	return nil
}

func (n *fakeNode) Link(up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.up = append(n.up, up)
}

func (n *fakeNode) Serve(_ context.Context, _ messaging.OpenRequest, conn net.Conn) { _ = conn.Close() }

func (n *fakeNode) Check(context.Context, messaging.OpenRequest) error { return errors.New("not here") }

func (n *fakeNode) Load(context.Context) messaging.Load { return messaging.Load{Pods: 7} }

func (n *fakeNode) Usage(context.Context) (messaging.UsageReport, error) {
	return messaging.UsageReport{Window: time.Second, Pods: []messaging.PodUsage{{UID: "u", Containers: []messaging.ContainerUsage{{Name: "c", CPUNanos: 5, MemoryBytes: 6}}}}}, nil
}

// last is the newest set: its generation and how many pods it has.
func (n *fakeNode) last() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.sets) == 0 {
		return "none"
	}
	d := n.sets[len(n.sets)-1]
	return fmt.Sprintf("generation %d, %d pods", d.Generation, len(d.Pods))
}

// world is a coordinator's side played by the test, and one node.
type world struct {
	t       *testing.T
	net     *natstest.Net
	nc      *nats.Conn
	js      jetstream.JetStream
	store   *assign.Store
	signer  signer
	node    *fakeNode
	uplink  *Uplink
	wal     *wal.Log
	mu      sync.Mutex
	cluster string
	refuse  string
	mute    bool // leaves registrations unanswered
	beats   []messaging.Heartbeat
}

const beat = 10 * time.Second

func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		w := &world{t: t, net: n, nc: n.Coordinator(), js: n.JetStream(), signer: newSigner(t), cluster: "c1"}
		var err error
		w.store, err = assign.Open(t.Context(), w.js, assign.Options{Storage: n.Storage})
		must(t, err)
		_, err = w.js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: messaging.StreamUp, Subjects: []string{messaging.UpAll}, Storage: n.Storage,
		})
		must(t, err)
		w.subscribe(messaging.NodeAPIAll("register"), w.register)
		w.subscribe(messaging.HeartbeatAll, w.heard)
		f(t, w)
	})
}

func (w *world) subscribe(subject string, h nats.MsgHandler) {
	w.t.Helper()
	_, err := w.nc.Subscribe(subject, h)
	must(w.t, err)
	must(w.t, w.nc.Flush())
}

func (w *world) register(m *nats.Msg) {
	w.mu.Lock()
	if w.mute {
		w.mu.Unlock()
		return
	}
	reply := messaging.RegisterReply{Cluster: w.cluster, Epoch: 1, SigningKey: w.signer.public, Heartbeat: beat, Error: w.refuse}
	w.mu.Unlock()
	data, err := json.Marshal(reply)
	if err == nil {
		err = m.Respond(data)
	}
	if err != nil {
		w.t.Errorf("answer register: %v", err)
	}
}

func (w *world) heard(m *nats.Msg) {
	var b messaging.Heartbeat
	if err := json.Unmarshal(m.Data, &b); err != nil {
		w.t.Errorf("heartbeat %q: %v", m.Data, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beats = append(w.beats, b)
}

func (w *world) lastBeat() (messaging.Heartbeat, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.beats) == 0 {
		return messaging.Heartbeat{}, 0
	}
	return w.beats[len(w.beats)-1], len(w.beats)
}

// start runs node n1; stop ends it.
func (w *world) start(change func(*Config)) (stop func()) {
	w.t.Helper()
	var err error
	w.wal, err = wal.Open(filepath.Join(w.t.TempDir(), "wal"))
	must(w.t, err)
	w.node = &fakeNode{}
	c := Config{
		Connect: w.net.NodeOptions("n1"), Address: "10.0.0.1", Boot: "b1", Node: w.node, WAL: w.wal,
		Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	}
	if change != nil {
		change(&c)
	}
	w.uplink, err = New(c)
	must(w.t, err)
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.uplink.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			w.t.Errorf("uplink ended with %v", err)
		}
		must(w.t, w.wal.Close())
	}
}

// put publishes a manifest with pods of these UIDs.
func (w *world) put(epoch, generation uint64, uids ...string) uint64 {
	w.t.Helper()
	m := messaging.Manifest{Cluster: "c1", Epoch: epoch, Generation: generation}
	for _, uid := range uids {
		pod := w.signer.pod(w.t, "n1", uid, 0)
		m.Pods = append(m.Pods, messaging.PodRef{UID: uid, Revision: w.store1(pod)})
	}
	return w.store1(w.signer.assigned(w.t, "n1", messaging.ManifestPart, 0, m))
}

func (w *world) store1(a messaging.Assigned) uint64 {
	w.t.Helper()
	revision, err := w.store.Put(w.t.Context(), a.Node, a.Part, a.Data, a.Signature)
	must(w.t, err)
	return revision
}

// wait lets virtual time pass until ok.
func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not within five minutes; node has %s", what, w.node.last())
		}
	}
}

func (w *world) waitFor(state string) {
	w.t.Helper()
	w.wait(state, func() bool { return w.node.last() == state })
}

func (w *world) resync() {
	w.t.Helper()
	subject := messaging.CommandSubject("n1", "resync")
	signature, err := w.signer.Sign(subject, []byte("x"))
	must(w.t, err)
	m := nats.NewMsg(subject)
	m.Data = []byte("x")
	m.Header.Set(messaging.SignatureHeader, signature)
	must(w.t, w.nc.PublishMsg(m))
}

func TestFollow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put(1, 1, "a", "b")
		defer w.start(nil)()
		w.waitFor("generation 1, 2 pods")
		revision := w.put(1, 2, "a", "b", "c")
		w.waitFor("generation 2, 3 pods")
		w.wait("heartbeat with the revision", func() bool {
			b, _ := w.lastBeat()
			return b.Manifest == revision && b.Boot == "b1" && b.Load.Pods == 7
		})
		if len(w.node.replies) != 1 || w.node.replies[0].Heartbeat != beat {
			t.Errorf("registered with %+v", w.node.replies)
		}
	})
}

// TestReconnect: after an outage the node gets the newest set, once, and nothing when nothing has changed.
func TestReconnect(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put(1, 1, "a")
		defer w.start(nil)()
		w.waitFor("generation 1, 1 pods")
		w.net.Cut("n1")
		w.wait("link down", func() bool { return !w.uplink.Up() })
		w.put(1, 2, "a", "b")
		w.put(1, 3, "b", "c", "d")
		w.net.Heal("n1")
		w.waitFor("generation 3, 3 pods")
		w.net.Reset("n1")
		w.wait("link down", func() bool { return !w.uplink.Up() })
		w.wait("link up", w.uplink.Up)
		time.Sleep(time.Minute)
		if len(w.node.sets) != 2 {
			t.Errorf("%d sets handed on, want 2", len(w.node.sets))
		}
	})
}

// TestLinkFlaps: however often the link comes and goes while the coordinator does not answer, the node registers soon after
// both are well again.
func TestLinkFlaps(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start(nil)()
		w.wait("link up", w.uplink.Up)
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			w.answer(false)
			for range 1 + rnd.IntN(3) {
				w.net.Reset("n1")
				time.Sleep(time.Duration(rnd.Int64N(int64(15 * time.Second))))
			}
			w.answer(true)
			began := time.Now()
			w.wait("link up", w.uplink.Up)
			if took := time.Since(began); took > requestTimeout+retryMax {
				t.Errorf("registered %s after all was well", took)
			}
		}
	})
}

func (w *world) answer(yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = !yes
}

// TestDamagedCheckpoint: a pod that the checkpoint has lost is fetched again, though the manifest is the one held.
func TestDamagedCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put(1, 1, "a", "b")
		stop := w.start(nil)
		w.waitFor("generation 1, 2 pods")
		held := w.node.sets[0]
		stop()
		delete(held.Pods, "b")
		defer w.start(func(c *Config) { c.Held, c.Trust = held, Trust{Cluster: "c1", SigningKey: w.signer.public} })()
		w.waitFor("generation 1, 2 pods")
	})
}

// TestSilenceIsNoOrder: an empty store, one from an older time, and one of another cluster change nothing.
func TestSilenceIsNoOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.put(5, 1, "a", "b")
		stop := w.start(nil)
		w.waitFor("generation 1, 2 pods")
		held := w.node.sets[0]
		stop()
		restart := func() (stop func()) {
			return w.start(func(c *Config) {
				c.Held, c.Trust = held, Trust{Cluster: "c1", SigningKey: w.signer.public}
			})
		}
		nothing := func(what string) {
			t.Helper()
			defer restart()()
			time.Sleep(2 * time.Minute)
			if got := w.node.last(); got != "none" {
				t.Errorf("%s: node was given %s", what, got)
			}
		}
		must(t, w.store.Delete(t.Context(), "n1", messaging.ManifestPart))
		nothing("manifest gone")
		w.put(4, 99)
		nothing("store restored from before")
		w.signer = newSigner(t)
		w.cluster = "c2"
		w.put(9, 1)
		nothing("another cluster at the same address")
		if w.uplink.Up() {
			t.Error("registered with another cluster")
		}
	})
}

// TestLostMessage: what was republished while nobody heard it is read when the coordinator asks.
func TestLostMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start(nil)()
		w.wait("link up", w.uplink.Up)
		// A foreign node's message is aimed at our subject instead of the manifest.
		stranger := newSigner(t)
		bad := stranger.assigned(t, "n1", messaging.ManifestPart, 1, messaging.Manifest{Cluster: "c1", Epoch: 99})
		w.store1(bad)
		time.Sleep(time.Minute)
		if got := w.node.last(); got != "none" {
			t.Errorf("took a stranger's manifest: %s", got)
		}
		w.node.mu.Lock()
		w.node.failNext = errors.New("disk full")
		w.node.mu.Unlock()
		w.put(1, 1, "a")
		w.waitFor("generation 1, 1 pods") // offered again
		w.resync()
		time.Sleep(time.Second)
		if len(w.node.sets) != 1 {
			t.Errorf("%d sets handed on, want 1", len(w.node.sets))
		}
	})
}

func TestServices(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		table := func(epoch, generation uint64) uint64 {
			return w.store1(w.signer.assigned(t, messaging.Broadcast, messaging.ServicesPart, 0,
				messaging.ServiceTable{Epoch: epoch, Generation: generation}))
		}
		table(1, 1)
		defer w.start(nil)()
		count := func(n int) func() bool {
			return func() bool { w.node.mu.Lock(); defer w.node.mu.Unlock(); return len(w.node.tables) == n }
		}
		w.wait("first table", count(1))
		revision := table(1, 2)
		w.wait("second table", count(2))
		w.wait("heartbeat", func() bool { b, _ := w.lastBeat(); return b.Services == revision })
		table(1, 1)
		time.Sleep(time.Minute)
		if !count(2)() {
			t.Error("an older table was handed on")
		}
	})
}

// TestReports: what is reported during an outage arrives after it, the newest state of each pod once, events in order.
func TestReports(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start(nil)()
		w.wait("link up", w.uplink.Up)
		must(t, w.uplink.Pod(messaging.PodReport{UID: "a", Name: "first"}))
		w.wait("delivered", func() bool { return len(w.wal.Pending()) == 0 })
		w.net.Cut("n1")
		w.wait("link down", func() bool { return !w.uplink.Up() })
		for i := range 10 {
			must(t, w.uplink.Pod(messaging.PodReport{UID: "a", Name: fmt.Sprint("cut", i)}))
			must(t, w.uplink.Event(messaging.EventReport{Reason: "BackOff", Message: fmt.Sprint(i)}))
		}
		time.Sleep(time.Hour)
		w.net.Heal("n1")
		w.wait("delivered", func() bool { return len(w.wal.Pending()) == 0 })
		names, events := w.stored()
		if len(names) < 2 || names[0] != "first" || names[len(names)-1] != "cut9" {
			t.Errorf("pod reports %v, want the first and at last the newest", names)
		}
		if len(events) != 10 {
			t.Errorf("%d events, want 10", len(events))
		}
	})
}

// stored reads back the stream of reports.
func (w *world) stored() (pods, events []string) {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), messaging.StreamUp)
	must(w.t, err)
	info, err := stream.Info(w.t.Context())
	must(w.t, err)
	var last uint64
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(w.t.Context(), seq)
		must(w.t, err)
		var r messaging.PodReport
		must(w.t, json.Unmarshal(m.Data, &r))
		if m.Subject == messaging.UpSubject("n1", "pod", "a") {
			if r.Seq <= last || r.Boot != "b1" {
				w.t.Errorf("report %d of boot %s after %d", r.Seq, r.Boot, last)
			}
			last = r.Seq
			pods = append(pods, r.Name)
			continue
		}
		events = append(events, r.UID)
	}
	return pods, events
}

func TestHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start(nil)()
		w.wait("link up", w.uplink.Up)
		_, before := w.lastBeat()
		time.Sleep(100 * beat)
		_, after := w.lastBeat()
		if n := after - before; n < 85 || n > 125 {
			t.Errorf("%d heartbeats in the time of 100", n)
		}
		w.net.Cut("n1")
		time.Sleep(time.Hour)
		w.net.Heal("n1")
		w.wait("link up", w.uplink.Up)
		time.Sleep(time.Second)
		if _, n := w.lastBeat(); n > after+10 {
			t.Errorf("%d heartbeats after an hour without a link: they pile up", n-after)
		}
	})
}

func TestTurnedAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.refuse = "agent speaks protocol 1, this coordinator 2: upgrade the agent"
		w.put(1, 1, "a")
		defer w.start(nil)()
		time.Sleep(10 * time.Minute)
		if w.uplink.Up() || w.node.last() != "none" {
			t.Errorf("up %t with %s", w.uplink.Up(), w.node.last())
		}
		w.mu.Lock()
		w.refuse = ""
		w.mu.Unlock()
		w.waitFor("generation 1, 1 pods")
	})
}

// TestUnsignedCommands: without the coordinator's signature a command does nothing.
func TestUnsignedCommands(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start(nil)()
		w.wait("link up", w.uplink.Up)
		if _, err := w.nc.Request(messaging.CommandSubject("n1", "ping"), nil, time.Minute); err == nil {
			t.Error("an unsigned ping was answered")
		}
		m := nats.NewMsg(messaging.CommandSubject("n1", "ping"))
		signature, err := w.signer.Sign(m.Subject, nil)
		must(t, err)
		m.Header.Set(messaging.SignatureHeader, signature)
		if _, err := w.nc.RequestMsg(m, time.Minute); err != nil {
			t.Errorf("a signed ping: %v", err)
		}
	})
}
