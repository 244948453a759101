package messaging_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

func TestConnectRefusesNonsense(t *testing.T) {
	n := natstest.Server(t)
	for name, o := range map[string]messaging.ConnectOptions{
		"no way":        {Node: "n1"},
		"two ways":      {URLs: []string{"nats://127.0.0.1:1"}, InProcess: n.Server},
		"no key":        {InProcess: n.Server, Node: "n1"},
		"key that none": {InProcess: n.Server, Node: "n1", KeySeed: []byte("x")},
		"hash":          {URLs: []string{"nats://127.0.0.1:1"}, CAHash: "x"},
	} {
		if nc, err := messaging.Connect(t.Context(), o); err == nil {
			nc.Close()
			t.Errorf("%s: connected", name)
		}
	}
}

func TestConnectFailFastNamesTheServer(t *testing.T) {
	_, err := messaging.Connect(t.Context(), messaging.ConnectOptions{URLs: []string{"nats://127.0.0.1:1"}, FailFast: true})
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Fatalf("got %v", err)
	}
}

// A day of cut link in the life of a node: it must come back, tell so, and not send what has piled up.
func TestConnectionHeals(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		beats, err := n.Coordinator().SubscribeSync(messaging.HeartbeatAll)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var events []string
		note := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, s)
		}
		o := n.NodeOptions("n1")
		o.OnConnect = func(*nats.Conn) { note("up") }
		o.OnDisconnect = func(*nats.Conn, error) { note("down") }
		nc := n.Connect(o)
		time.Sleep(time.Hour)
		n.Cut("n1")
		time.Sleep(time.Hour)
		if err := nc.Publish(messaging.HeartbeatSubject("n1"), []byte("stale")); err == nil {
			t.Error("a publication while cut off is silently kept")
		}
		if n.Server.Connected("n1") {
			t.Error("the server still believes in the connection")
		}
		time.Sleep(24 * time.Hour)
		n.Heal("n1")
		time.Sleep(time.Minute)
		if err := nc.Publish(messaging.HeartbeatSubject("n1"), []byte("fresh")); err != nil {
			t.Error(err)
		}
		m, err := beats.NextMsg(time.Minute)
		if err != nil || string(m.Data) != "fresh" {
			t.Errorf("heartbeat after healing: %v, error %v", m, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(events, " "); got != "up down up" {
			t.Errorf("events: %s", got)
		}
	})
}

// An agent that starts while the cluster is away waits for it.
func TestConnectBeforeTheServerIsReachable(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, n *natstest.Net) {
		n.Cut("n1")
		up := make(chan struct{}, 1)
		o := n.NodeOptions("n1")
		o.FailFast, o.OnConnect = false, func(*nats.Conn) { up <- struct{}{} }
		nc := n.Connect(o)
		time.Sleep(24 * time.Hour)
		if nc.IsConnected() {
			t.Fatal("connected over a cut link")
		}
		n.Heal("n1")
		<-up
	})
}

// A denied publication shows as an error that is logged, since the publisher learns nothing.
func TestDeniedPublicationIsLogged(t *testing.T) {
	n := natstest.Server(t)
	log := new(lockedBuffer)
	o := n.NodeOptions("n1")
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	nc := n.Connect(o)
	if err := nc.Publish(messaging.HeartbeatSubject("n2"), nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "ermissions"); {
		if time.Now().After(deadline) {
			t.Fatalf("log: %s", log)
		}
		if err := nc.Flush(); err != nil && !errors.Is(err, nats.ErrPermissionViolation) {
			t.Fatal(err)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
