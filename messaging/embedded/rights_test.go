package embedded_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/assign"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/store"
)

// world is a server with its streams, an object, and a manifest for each of two nodes.
type world struct {
	server   *embedded.Server
	registry *registry
	core     *nats.Conn
	js       jetstream.JetStream
	store    *store.Store
	assign   *assign.Store
	signer   *messaging.Signer
	key      string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{registry: newRegistry()}
	w.server = start(t, embedded.Options{Auth: w.registry})
	w.core = connect(t, w.server.CoordinatorOptions())
	seed, err := messaging.NewSeed()
	check(t, err)
	w.key = public(t, seed)
	w.signer, err = messaging.NewSigner(seed)
	check(t, err)
	w.js, err = jetstream.New(w.core)
	check(t, err)
	w.store, err = store.Open(t.Context(), w.js, store.Options{})
	check(t, err)
	w.assign, err = assign.Open(t.Context(), w.js, assign.Options{})
	check(t, err)
	for name, subject := range map[string]string{messaging.StreamUp: messaging.UpAll, messaging.StreamEvents: messaging.EventAll} {
		_, err = w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}})
		check(t, err)
	}
	_, err = w.store.Create(t.Context(), object, []byte("object"))
	check(t, err)
	for _, n := range []string{"n1", "n2"} {
		data := []byte("manifest of " + n)
		sig, err := w.signer.Sign(messaging.AssignKey(n, "manifest"), data)
		check(t, err)
		_, err = w.assign.Put(t.Context(), n, "manifest", data, sig)
		check(t, err)
	}
	return w
}

var object = store.Key{Kind: "pods", Namespace: "default", Name: "web"}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counts are the messages of each stream: what an attack must not change.
func (w *world) counts(t *testing.T) map[string]uint64 {
	t.Helper()
	counts := map[string]uint64{}
	for _, name := range []string{messaging.StreamState, messaging.StreamAssign, messaging.StreamUp, messaging.StreamEvents} {
		s, err := w.js.Stream(t.Context(), name)
		check(t, err)
		counts[name+" messages"] = s.CachedInfo().State.Msgs
		counts[name+" last"] = s.CachedInfo().State.LastSeq
	}
	return counts
}

// settle lets all that nc has sent be worked off: the server handles a connection's messages in order, and what it or the
// coordinator sends on is handled before the coordinator's next request is answered.
func (w *world) settle(t *testing.T, nc *nats.Conn) {
	t.Helper()
	check(t, nc.Flush())
	for range 3 {
		check(t, w.core.Flush())
		_, err := w.js.AccountInfo(t.Context())
		check(t, err)
	}
}

func TestNodeDoesItsWork(t *testing.T) {
	w := newWorld(t)
	nc := connect(t, node(t, "n1", w.server))
	a, err := messaging.GetAssigned(t.Context(), nc, "n1", "manifest")
	check(t, err)
	check(t, a.Verify(w.key))

	js, err := jetstream.New(nc)
	check(t, err)
	_, err = js.Publish(t.Context(), messaging.UpSubject("n1", "pod", "x"), []byte("report"))
	check(t, err)

	beats, err := w.core.SubscribeSync(messaging.HeartbeatAll)
	check(t, err)
	check(t, w.core.Flush())
	check(t, nc.Publish(messaging.HeartbeatSubject("n1"), []byte("beat")))
	_, err = beats.NextMsg(5 * time.Second)
	check(t, err)

	_, err = nc.Subscribe(messaging.CommandSubject("n1", "ping"), func(m *nats.Msg) { check(t, m.Respond([]byte("pong"))) })
	check(t, err)
	check(t, nc.Flush())
	answer, err := w.core.Request(messaging.CommandSubject("n1", "ping"), nil, 5*time.Second)
	check(t, err)
	if string(answer.Data) != "pong" {
		t.Fatalf("got %q", answer.Data)
	}
	if _, err := w.core.Request(messaging.CommandSubject("n9", "ping"), nil, 5*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("command to a node that is not there: %v", err)
	}
	if _, err := nc.Request(messaging.NodeAPISubject("n1", "register"), nil, 5*time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("request that nobody serves: %v", err)
	}
}

func TestNodeReachesNothingElse(t *testing.T) {
	w := newWorld(t)
	nc := connect(t, node(t, "n1", w.server))
	all, err := w.core.SubscribeSync("skerry.>")
	check(t, err)
	before := w.counts(t)
	for _, subject := range []string{
		messaging.HeartbeatSubject("n2"),
		messaging.UpSubject("n2", "pod", "x"),
		messaging.NodeAPISubject("n2", "register"),
		messaging.StreamSubject("n2", "s", "out"),
		messaging.StreamSubject("n1", "s", "in"),
		messaging.CommandSubject("n1", "open"),
		messaging.CommandSubject("n2", "open"),
		messaging.APIGroup + ".pods.list",
		"skerry.v1.assign.n1.manifest",
		messaging.AssignKey("n1", "manifest"),
		"$KV.state.pods.default.web",
		"$JS.API.STREAM.PURGE.KV_state",
		"$JS.API.STREAM.INFO.KV_assign",
		"$JS.API.STREAM.MSG.GET.KV_assign",
		"$JS.API.CONSUMER.CREATE.KV_assign.x.$KV.assign.n1.>",
		"$JS.API.DIRECT.GET.KV_assign",
		"$JS.API.DIRECT.GET.KV_assign." + messaging.AssignKey("n2", "manifest"),
		"$JS.API.DIRECT.GET.KV_state.$KV.state.pods.default.web",
		"$SYS.REQ.SERVER.PING",
		"$SRV.PING",
	} {
		if answer, err := nc.Request(subject, []byte("{}"), 50*time.Millisecond); err == nil {
			t.Errorf("%s answers %q", subject, answer.Data)
		}
	}
	w.settle(t, nc)
	if m, err := all.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("%s came through", m.Subject)
	}
	same(t, before, w.counts(t))
	for _, subject := range []string{
		">", "skerry.>", "_INBOX.>", messaging.InboxPrefix("n2") + ".>", messaging.AssignSubjects("n2"), messaging.CommandSubject("n2", "open"),
		messaging.HeartbeatAll, messaging.EventAll, "$KV.>", "_R_.>", "$SYS.>",
	} {
		sub, err := nc.SubscribeSync(subject)
		check(t, err)
		check(t, nc.Flush())
		if _, err := sub.NextMsg(time.Second); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("subscription to %s: %v", subject, err)
		}
	}
}

func same(t *testing.T, before, after map[string]uint64) {
	t.Helper()
	for name, n := range before {
		if after[name] != n {
			t.Errorf("%s: %d, were %d", name, after[name], n)
		}
	}
}

// Whoever answers a request publishes, with his own rights, on a subject that the asker has chosen. That must reach
// neither a stream, nor JetStream, nor another node's ear with anything that it would believe.
func TestReplySubjectsAreHarmless(t *testing.T) {
	w := newWorld(t)
	w.registry.users["alice"] = embedded.UserGrant{Name: "alice", API: true}
	_, err := w.core.Subscribe("skerry.v1.api.>", func(m *nats.Msg) { check(t, m.Respond([]byte("{}"))) })
	check(t, err)
	check(t, w.core.Flush())
	n1, n2 := connect(t, node(t, "n1", w.server)), connect(t, node(t, "n2", w.server))
	alice := connect(t, messaging.ConnectOptions{URLs: []string{w.server.ClientURL()}, Token: "alice", InboxPrefix: "_INBOX.alice"})
	victim, err := n2.SubscribeSync(messaging.AssignSubjects("n2"))
	check(t, err)
	check(t, n2.Flush())
	before := w.counts(t)

	own := "$JS.API.DIRECT.GET.KV_assign." + messaging.AssignKey("n1", "manifest")
	for _, reply := range []string{
		"$KV.state.pods.default.web", "$KV.assign.n2.manifest", "$JS.API.STREAM.PURGE.KV_state", "$JS.API.STREAM.DELETE.KV_state",
		messaging.UpSubject("n2", "pod", "x"), messaging.EventSubject("default", "pods", "web", "deleted"),
	} {
		check(t, n1.PublishRequest(own, reply, nil))
		check(t, n1.PublishRequest(messaging.NodeAPISubject("n1", "register"), reply, nil))
		check(t, alice.PublishRequest(messaging.APIGroup+".pods.list", reply, nil))
	}
	w.settle(t, n1)
	w.settle(t, alice)
	same(t, before, w.counts(t))

	// Within the account of nodes it does reach the victim, whom the signature protects.
	check(t, n1.PublishRequest(own, "skerry.v1.assign.n2.manifest", nil))
	m, err := victim.NextMsg(5 * time.Second)
	check(t, err)
	a, err := messaging.ParseAssigned(m)
	check(t, err)
	check(t, a.Verify(w.key)) // it is genuine,
	if a.Node != "n1" {       // but says for whom
		t.Fatalf("manifest claims to be for %s", a.Node)
	}
	forged := a
	forged.Node = "n2"
	if err := forged.Verify(w.key); !errors.Is(err, messaging.ErrSignature) {
		t.Fatalf("manifest of another node verifies: %v", err)
	}
}

func TestUser(t *testing.T) {
	w := newWorld(t)
	w.registry.users["nothing"] = embedded.UserGrant{Name: "nothing"}
	w.registry.users["bob"] = embedded.UserGrant{Name: "bob", API: true, Events: []string{messaging.EventAll}}
	_, err := w.core.Subscribe("skerry.v1.api.>", func(m *nats.Msg) { check(t, m.Respond([]byte("{}"))) })
	check(t, err)
	check(t, w.core.Flush())
	url := []string{w.server.ClientURL()}
	refused(t, "unknown token", messaging.ConnectOptions{URLs: url, Token: "mallory"})

	_, err = w.core.Subscribe("$SRV.>", func(m *nats.Msg) { check(t, m.Respond([]byte("{}"))) })
	check(t, err)
	check(t, w.core.Flush())
	bob := connect(t, messaging.ConnectOptions{URLs: url, Token: "bob", InboxPrefix: "_INBOX.bob"})
	_, err = bob.Request("$SRV.INFO.skerry", nil, 5*time.Second)
	check(t, err)
	_, err = bob.Request(messaging.APIGroup+".pods.list", nil, 5*time.Second)
	check(t, err)
	events, err := bob.SubscribeSync(messaging.EventAll)
	check(t, err)
	check(t, bob.Flush())
	_, err = w.js.Publish(t.Context(), messaging.EventSubject("default", "pods", "web", "added"), []byte("x"))
	check(t, err)
	_, err = events.NextMsg(5 * time.Second)
	check(t, err)
	for _, subject := range []string{
		messaging.NodeAPISubject("n1", "register"), "$KV.state.pods.default.web", "$JS.API.STREAM.INFO.KV_state",
		"$JS.API.DIRECT.GET.KV_state.$KV.state.pods.default.web", messaging.HeartbeatSubject("n1"), messaging.CommandSubject("n1", "ping"),
		"$SRV.STATS", "$SRV.STATS.skerry", "$SRV.SCHEMA.skerry", // the last error of an endpoint may be another's
	} {
		if answer, err := bob.Request(subject, nil, 50*time.Millisecond); err == nil {
			t.Errorf("%s answers %q", subject, answer.Data)
		}
	}

	nothing := connect(t, messaging.ConnectOptions{URLs: url, Token: "nothing", InboxPrefix: "_INBOX.nothing"})
	if _, err := nothing.Request(messaging.APIGroup+".pods.list", nil, 50*time.Millisecond); err == nil {
		t.Error("a user without a grant reaches the API")
	}
}

// A user with the grant reads the bucket with the ordinary key-value client, and cannot change it.
func TestUserReadsState(t *testing.T) {
	w := newWorld(t)
	w.registry.users["root"] = embedded.UserGrant{Name: "root", API: true, Events: []string{messaging.EventAll}, State: true}
	nc := connect(t, messaging.ConnectOptions{URLs: []string{w.server.ClientURL()}, Token: "root"})
	js, err := jetstream.New(nc)
	check(t, err)
	kv, err := js.KeyValue(t.Context(), "state")
	check(t, err)
	entry, err := kv.Get(t.Context(), "pods.default.web")
	check(t, err)
	if string(entry.Value()) != "object" {
		t.Fatalf("got %q", entry.Value())
	}
	keys, err := kv.Keys(t.Context())
	check(t, err)
	if len(keys) != 1 {
		t.Fatalf("keys %v", keys)
	}
	watch, err := kv.WatchAll(t.Context())
	check(t, err)
	if e := <-watch.Updates(); e == nil || e.Key() != "pods.default.web" {
		t.Fatalf("watch begins with %v", e)
	}
	if e := <-watch.Updates(); e != nil {
		t.Fatalf("watch goes on with %v", e)
	}
	_, err = w.store.Create(t.Context(), store.Key{Kind: "pods", Namespace: "default", Name: "two"}, []byte("2"))
	check(t, err)
	if e := <-watch.Updates(); e == nil || e.Key() != "pods.default.two" {
		t.Fatalf("watch goes on with %v", e)
	}
	events, err := js.OrderedConsumer(t.Context(), messaging.StreamEvents, jetstream.OrderedConsumerConfig{})
	check(t, err)
	_, err = w.js.Publish(t.Context(), messaging.EventSubject("default", "pods", "web", "added"), []byte("x"))
	check(t, err)
	m, err := events.Next(jetstream.FetchMaxWait(5 * time.Second))
	check(t, err)
	if string(m.Data()) != "x" {
		t.Fatalf("event %q", m.Data())
	}
	before := w.counts(t)
	for _, subject := range []string{
		"$KV.state.pods.default.web", "$JS.API.STREAM.PURGE.KV_state", "$JS.API.STREAM.DELETE.EVENTS",
		"$JS.API.STREAM.UPDATE.KV_state", "$JS.API.CONSUMER.CREATE.KV_assign", "$JS.API.STREAM.INFO.KV_assign",
	} {
		if _, err := nc.Request(subject, nil, 50*time.Millisecond); err == nil {
			t.Errorf("%s is answered", subject)
		}
	}
	same(t, before, w.counts(t))
}
