package metrics

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

// fleet is nodes that answer, and a collector that asks them.
type fleet struct {
	t         *testing.T
	collector *Collector
	asked     atomic.Int64
	wanted    []string
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newFleet(t *testing.T, n *natstest.Net) *fleet {
	t.Helper()
	seed, err := messaging.NewSeed()
	must(t, err)
	signer, err := messaging.NewSigner(seed)
	must(t, err)
	key, err := signer.PublicKey()
	must(t, err)
	f := &fleet{t: t}
	f.collector = New(Config{
		Conn: n.Coordinator(), Signer: signer, Table: NewTable(), Log: slog.New(slog.DiscardHandler),
		Heard: func(node string) bool { return node != "silent" }, Wanted: func() []string { return f.wanted },
	})
	for _, node := range []string{"a", "b", "broken"} {
		conn := n.NodeConn(node)
		subject := messaging.CommandSubject(node, "usage")
		_, err := conn.Subscribe(subject, func(m *nats.Msg) {
			f.asked.Add(1)
			if err := messaging.Verify(key, m.Subject, m.Data, m.Header.Get(messaging.SignatureHeader)); err != nil {
				t.Errorf("%s: %v", node, err)
			}
			if err := m.Respond(f.answer(node)); err != nil {
				t.Errorf("%s: %v", node, err)
			}
		})
		must(t, err)
		must(t, conn.Flush())
	}
	return f
}

// answer has a pod of each node's own and one that it says is its own.
func (f *fleet) answer(node string) []byte {
	if node == "broken" {
		return []byte("what?")
	}
	use := []messaging.ContainerUsage{{Name: "main", CPUNanos: 250_000_000, MemoryBytes: 64 << 20}}
	return messaging.UsageReport{Age: 2 * time.Second, Window: 10 * time.Second, Pods: []messaging.PodUsage{
		{UID: "on-" + node, Containers: use}, {UID: "on-a", Containers: use},
	}}.Encode()
}

func running(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

func TestNodesAreAskedWhenSomebodyWantsToKnow(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		f := newFleet(t, n)
		source := &Source{Collector: f.collector}
		pods := []*corev1.Pod{running("on-a", "a"), running("on-b", "b"), running("on-silent", "silent"), running("on-broken", "broken"), running("unbound", "")}
		time.Sleep(time.Hour)
		if f.asked.Load() != 0 {
			t.Errorf("nodes were asked %d times for nobody", f.asked.Load())
		}
		got := source.Pods(t.Context(), pods)
		if len(got) != 2 || got[0].Name != "on-a" || got[1].Name != "on-b" {
			t.Fatalf("got %+v", got)
		}
		m := got[0]
		if m.Containers[0].Usage.Cpu().MilliValue() != 250 || m.Containers[0].Usage.Memory().Value() != 64<<20 || m.Window.Duration != 10*time.Second {
			t.Errorf("got %+v", m)
		}
		if age := time.Since(m.Timestamp.Time); age < 2*time.Second || age > 3*time.Second {
			t.Errorf("measured %s ago, want two seconds", age)
		}
		if source.Pods(t.Context(), pods[:2]); f.asked.Load() != 3 {
			t.Errorf("asked %d times, want once each", f.asked.Load())
		}
		time.Sleep(Fresh)
		if source.Pods(t.Context(), pods[:1]); f.asked.Load() != 4 {
			t.Errorf("asked %d times, want only the pod's node again", f.asked.Load())
		}
	})
}

func TestNodeSpeaksOfItsOwnPodsOnly(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		f := newFleet(t, n)
		s := controller.Snapshot{Usage: f.collector.Usage(t.Context(), []string{"b"})}
		if c, _, _ := s.UsageOf(running("on-b", "b")); len(c) != 1 {
			t.Errorf("its own pod: %+v", c)
		}
		if c, _, _ := s.UsageOf(running("on-a", "a")); len(c) != 0 {
			t.Errorf("another node's pod: %+v", c)
		}
	})
}

func TestWantedNodesAreAskedAgainAndAgain(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		f := newFleet(t, n)
		f.wanted = []string{"a"}
		go func() { _ = f.collector.Run(t.Context()) }()
		time.Sleep(10*time.Minute + time.Second)
		if got := f.asked.Load(); got < 20 || got > 41 {
			t.Errorf("asked %d times in ten minutes, want at most every %s", got, Fresh)
		}
	})
}

func TestStaleAnswersAreDropped(t *testing.T) {
	table, now := NewTable(), time.Unix(1000, 0)
	table.put("a", messaging.UsageReport{Age: 10 * time.Second, Window: time.Second}, now)
	before := table.Usage(now.Add(Stale - 10*time.Second))
	if len(before) != 1 {
		t.Error("an answer that is not stale is gone")
	}
	if len(table.Usage(now.Add(Stale-9*time.Second))) != 0 {
		t.Error("a stale answer is served")
	}
	if len(before) != 1 {
		t.Error("a map that was given out has changed")
	}
}

func TestNodeMetricsComeWithHeartbeats(t *testing.T) {
	now := time.Unix(1000, 0)
	load := messaging.Load{CPUMillis: 300, MemoryBytes: 1 << 30, MemoryTotalBytes: 4 << 30}
	s := &Source{Heartbeat: 10 * time.Second, Liveness: func() map[string]controller.Liveness {
		return map[string]controller.Liveness{
			"a": {Heard: now.Add(-time.Second), Load: load}, "lost": {Heard: now.Add(-2 * Stale), Load: load}, "unmeasured": {Heard: now},
		}
	}}
	var nodes []*corev1.Node
	for _, name := range []string{"a", "lost", "unmeasured", "never"} {
		nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"site": "x"}}})
	}
	got := s.Nodes(nodes, now)
	if len(got) != 1 || got[0].Name != "a" || got[0].Usage.Cpu().String() != "300m" || got[0].Usage.Memory().String() != "1Gi" || got[0].Labels["site"] != "x" {
		t.Errorf("got %+v", got)
	}
}
