package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/embedded"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

// world is the API's objects over a real store.
type world struct {
	t       *testing.T
	net     *natstest.Net
	view    *view.View
	objects *objects.Store
	events  recorder
}

type recorder struct {
	mu     sync.Mutex
	events []messaging.EventReport
}

func (r *recorder) Record(_ context.Context, e messaging.EventReport, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, net: natstest.Server(t)}
	state, err := store.Open(t.Context(), w.net.JetStream(), store.Options{Storage: w.net.Storage})
	must(t, err)
	w.view = view.New(state, slog.New(slog.DiscardHandler))
	w.background(w.view.Run)
	<-w.view.Synced()
	w.objects, err = objects.New(w.view, state, objects.Options{})
	must(t, err)
	must(t, w.objects.Bootstrap(t.Context()))
	return w
}

// background runs f until the test ends, and waits for it.
func (w *world) background(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1) // f's word
	go func() { done <- f(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(obj object) {
	w.t.Helper()
	_, err := w.objects.Create(w.t.Context(), obj, objects.WriteOptions{})
	must(w.t, err)
}

func (w *world) pod(name, node string) *corev1.Pod {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	w.create(p)
	made, ok := get[*corev1.Pod](w.view, "default", name)
	if !ok {
		w.t.Fatalf("pod %s is not in the view", name)
	}
	return made
}

func TestTokenIsGoodForOneKey(t *testing.T) {
	w := newWorld(t)
	e := NewEnrolment(w.view, w.objects, slog.New(slog.DiscardHandler))
	token := func(name, node string, expires time.Duration) {
		w.create(&api.EnrolmentToken{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       api.EnrolmentTokenSpec{SecretHash: messaging.HashSecret("secret"), Expires: metav1.NewTime(time.Now().Add(expires)), Node: node},
		})
	}
	keys := map[string]string{"": ""}
	for _, name := range []string{"U1", "U2", "U3", "U4"} {
		keys[name] = userKey(t)
	}
	token("open", "", time.Hour)
	token("late", "", -time.Minute)
	token("for-c", "c", time.Hour)
	token("again-a", "a", time.Hour)
	token("other", "", time.Hour)
	login := func(node, key, name, secret string) error {
		return e.Node(t.Context(), embedded.NodeLogin{Node: node, PublicKey: key, TokenName: name, Secret: secret})
	}
	for _, step := range []struct {
		what                    string
		node, key, name, secret string
		want                    error
	}{
		{"no token", "a", "U1", "", "", ErrUnknownKey},
		{"unknown token", "a", "U1", "nothing", "secret", ErrUnknownToken},
		{"wrong secret", "a", "U1", "open", "guess", ErrUnknownToken},
		{"expired", "a", "U1", "late", "secret", ErrTokenExpired},
		{"another node's", "a", "U1", "for-c", "secret", ErrTokenForeign},
		{"good", "a", "U1", "open", "secret", nil},
		{"the answer was lost", "a", "U1", "open", "secret", nil},
		{"by key alone", "a", "U1", "", "", nil},
		{"used by another node", "b", "U2", "open", "secret", ErrTokenUsed},
		{"used with another key", "a", "U3", "open", "secret", ErrTokenUsed},
		{"a taken name", "a", "U3", "", "", ErrNameTaken},
		{"a taken name with somebody's token", "a", "U3", "other", "secret", ErrNameTaken},
		{"re-flashed, with a token for it", "a", "U4", "again-a", "secret", nil},
		{"the old key is dead", "a", "U1", "", "", ErrNameTaken},
		{"the new one lives", "a", "U4", "", "", nil},
	} {
		if err := login(step.node, keys[step.key], step.name, step.secret); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.what, err, step.want)
		}
	}
	if err := login("Not_A_Name", "U1", "other", "secret"); err == nil {
		t.Error("a name that is no DNS name got in")
	}
}

func userKey(t *testing.T) string {
	t.Helper()
	pair, err := nkeys.CreateUser()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	return public
}

func TestTwoNodesRaceForOneToken(t *testing.T) {
	w := newWorld(t)
	e := NewEnrolment(w.view, w.objects, slog.New(slog.DiscardHandler))
	w.create(&api.EnrolmentToken{
		ObjectMeta: metav1.ObjectMeta{Name: "t"},
		Spec:       api.EnrolmentTokenSpec{SecretHash: messaging.HashSecret("s"), Expires: metav1.NewTime(time.Now().Add(time.Hour))},
	})
	const racers = 8
	var wg sync.WaitGroup
	results := make(chan error, racers) // one word each
	for i := range racers {
		key := userKey(t)
		wg.Go(func() {
			results <- e.Node(t.Context(), embedded.NodeLogin{Node: string(rune('a' + i)), PublicKey: key, TokenName: "t", Secret: "s"})
		})
	}
	wg.Wait()
	close(results)
	in := 0
	for err := range results {
		if err == nil {
			in++
		} else if !errors.Is(err, ErrTokenUsed) {
			t.Errorf("lost with %v", err)
		}
	}
	if in != 1 {
		t.Errorf("%d nodes came in on one token", in)
	}
}

func TestRegisterMakesTheNodeAndRefusesOtherProtocols(t *testing.T) {
	w := newWorld(t)
	conn := w.net.Coordinator()
	r := &Registrar{View: w.view, Objects: w.objects, Reply: messaging.RegisterReply{Cluster: "c", Epoch: 3, SigningKey: "U"}, Log: slog.New(slog.DiscardHandler)}
	sub, err := conn.Subscribe(messaging.NodeAPIAll("register"), func(m *nats.Msg) { r.Handle(t.Context(), m) })
	must(t, err)
	t.Cleanup(func() { must(t, sub.Unsubscribe()) })
	seal := func() string {
		pair, err := nkeys.CreateCurveKeys()
		must(t, err)
		public, err := pair.PublicKey()
		must(t, err)
		return public
	}
	ask := func(req messaging.RegisterRequest) (reply messaging.RegisterReply) {
		data, err := json.Marshal(req)
		must(t, err)
		msg, err := conn.Request(messaging.NodeAPISubject("edge.1", "register"), data, 5*time.Second)
		must(t, err)
		must(t, json.Unmarshal(msg.Data, &reply))
		return reply
	}
	key := seal()
	first := ask(messaging.RegisterRequest{Protocol: messaging.ProtocolVersion, SealKey: key, Address: "10.0.0.7"})
	node, ok := get[*corev1.Node](w.view, "", "edge.1")
	if !ok || first.Error != "" || first.PodCIDR == "" || first.PodCIDR != node.Spec.PodCIDR || first.Epoch != 3 {
		t.Fatalf("answer %+v, node %v", first, node)
	}
	if node.Annotations[api.AnnotationSealKey] != key || node.Annotations[api.AnnotationNodeAddress] != "10.0.0.7" {
		t.Errorf("annotations %v", node.Annotations)
	}
	if again := ask(messaging.RegisterRequest{Protocol: messaging.ProtocolVersion, SealKey: seal(), Address: "10.0.0.8"}); again.PodCIDR != first.PodCIDR {
		t.Errorf("pod network went from %s to %s", first.PodCIDR, again.PodCIDR)
	}
	if node, _ = get[*corev1.Node](w.view, "", "edge.1"); node.Annotations[api.AnnotationNodeAddress] != "10.0.0.8" {
		t.Errorf("the address did not follow: %v", node.Annotations)
	}
	for _, bad := range []messaging.RegisterRequest{{Protocol: messaging.ProtocolVersion + 1, SealKey: key}, {Protocol: messaging.ProtocolVersion, SealKey: "nonsense"}} {
		if reply := ask(bad); reply.Error == "" || reply.SigningKey != "" {
			t.Errorf("request %+v was answered %+v", bad, reply)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	table, now := NewTable(slog.New(slog.DiscardHandler)), time.Unix(1000, 0)
	const silence = 3 * time.Second
	for _, step := range []struct {
		what     string
		after    time.Duration
		beat     messaging.Heartbeat
		returned bool
	}{
		{"the first", 0, messaging.Heartbeat{Boot: "x"}, true},
		{"in time", time.Second, messaging.Heartbeat{Boot: "x", Manifest: 5}, false},
		{"late, but not silent", 3 * time.Second, messaging.Heartbeat{Boot: "x"}, false},
		{"after a silence", 4 * time.Second, messaging.Heartbeat{Boot: "x"}, true},
		{"rebooted", time.Second, messaging.Heartbeat{Boot: "y", Manifest: 9, Services: 4}, true},
	} {
		now = now.Add(step.after)
		if got := table.Hear("n", step.beat, now, silence); got != step.returned {
			t.Errorf("%s: returned %t", step.what, got)
		}
	}
	if m, s, heard := table.Applied("n", now); m != 9 || s != 4 || !heard {
		t.Errorf("applied %d %d %t", m, s, heard)
	}
	if _, _, heard := table.Applied("n", now.Add(time.Nanosecond)); heard {
		t.Error("a silent node can be told nothing")
	}
	if _, _, heard := table.Applied("unknown", now); heard {
		t.Error("an unknown node was heard")
	}
	table.Forget("n")
	if len(table.Liveness()) != 0 {
		t.Error("a forgotten node is remembered")
	}
}

func (w *world) reports() *Reports {
	r := NewReports(w.view, w.objects, &w.events, slog.New(slog.DiscardHandler))
	w.background(func(ctx context.Context) error { return r.Run(ctx, w.net.JetStream(), w.net.Storage) })
	return r
}

func (w *world) publish(subject string, report any) {
	w.t.Helper()
	data, err := json.Marshal(report)
	must(w.t, err)
	w.until("report stored", func() bool { // the stream is made by Run
		_, err = w.net.JetStream().Publish(w.t.Context(), subject, data)
		return !errors.Is(err, jetstream.ErrNoStreamResponse) && !errors.Is(err, nats.ErrNoResponders)
	})
	must(w.t, err)
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s", what)
		}
		select {
		case <-w.t.Context().Done():
			w.t.Fatal(w.t.Context().Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func podReport(t *testing.T, p *corev1.Pod, seq uint64, phase corev1.PodPhase, gone bool) messaging.PodReport {
	t.Helper()
	status := corev1.PodStatus{Phase: phase, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue}, {Type: corev1.PodScheduled, Status: corev1.ConditionFalse},
	}}
	data, err := status.Marshal()
	must(t, err)
	return messaging.PodReport{Boot: "b", Seq: seq, Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Status: data, Gone: gone}
}

func TestNodeSpeaksOnlyOfItsOwnPods(t *testing.T) {
	w := newWorld(t)
	mine, others := w.pod("mine", "n1"), w.pod("others", "n2")
	w.reports()
	w.publish(messaging.UpSubject("n1", "pod", string(others.UID)), podReport(t, others, 1, corev1.PodFailed, false))
	w.publish(messaging.UpSubject("n1", "pod", string(mine.UID)), podReport(t, mine, 2, corev1.PodRunning, false))
	w.until("own pod running", func() bool {
		p, _ := get[*corev1.Pod](w.view, "default", "mine")
		return p.Status.Phase == corev1.PodRunning
	})
	p, _ := get[*corev1.Pod](w.view, "default", "mine")
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			t.Error("the node overwrote the scheduler's condition")
		}
	}
	if p, _ := get[*corev1.Pod](w.view, "default", "others"); p.Status.Phase == corev1.PodFailed {
		t.Error("n1 spoke of n2's pod")
	}
}

func TestGonePodsGoOnlyWhenTheyAreToGo(t *testing.T) {
	w := newWorld(t)
	p := w.pod("p", "n1")
	w.reports()
	subject := messaging.UpSubject("n1", "pod", string(p.UID))
	w.publish(subject, podReport(t, p, 1, corev1.PodRunning, true))
	w.until("status merged", func() bool {
		now, ok := get[*corev1.Pod](w.view, "default", "p")
		return ok && now.Status.Phase == corev1.PodRunning
	})
	_, gone, err := w.objects.Delete(t.Context(), resourceOf[*corev1.Pod](), "default", "p", metav1.DeleteOptions{})
	if err != nil || gone {
		t.Fatalf("deleted at once: %t, %v", gone, err)
	}
	w.publish(subject, podReport(t, p, 2, corev1.PodFailed, true))
	w.until("pod removed", func() bool { _, ok := get[*corev1.Pod](w.view, "default", "p"); return !ok })
	w.publish(subject, podReport(t, p, 3, corev1.PodRunning, false)) // a straggler
	again := w.pod("p", "n1")
	w.publish(subject, podReport(t, p, 4, corev1.PodFailed, true)) // of the old one, under the same name
	w.publish(messaging.UpSubject("n1", "pod", string(again.UID)), podReport(t, again, 5, corev1.PodRunning, false))
	w.until("the new pod runs", func() bool {
		now, ok := get[*corev1.Pod](w.view, "default", "p")
		return ok && now.Status.Phase == corev1.PodRunning
	})
}

// A pod that somebody's finalizer keeps must say how it ended, or whoever counts it waits for ever.
func TestHeldPodsSayHowTheyEnded(t *testing.T) {
	w := newWorld(t)
	w.reports()
	for name, phase := range map[string]corev1.PodPhase{"well": corev1.PodSucceeded, "badly": corev1.PodFailed, "unsaid": corev1.PodRunning} {
		p := w.pod(name, "n1")
		_, err := w.objects.Mutate(t.Context(), resourceOf[*corev1.Pod](), "default", name, func(o runtime.Object) bool {
			o.(*corev1.Pod).Finalizers = []string{"example.com/count"}
			return true
		})
		must(t, err)
		_, _, err = w.objects.Delete(t.Context(), resourceOf[*corev1.Pod](), "default", name, metav1.DeleteOptions{})
		must(t, err)
		w.publish(messaging.UpSubject("n1", "pod", string(p.UID)), podReport(t, p, 1, phase, true))
		want := phase
		if phase == corev1.PodRunning {
			want = corev1.PodFailed
		}
		w.until(name+" ended", func() bool {
			now, ok := get[*corev1.Pod](w.view, "default", name)
			return ok && now.Status.Phase == want && *now.DeletionGracePeriodSeconds == 0
		})
	}
}

// A coordinator that dies with reports in hand must not have them undo newer ones when they are handed out again.
func TestReportsOfADeadCoordinatorComeInOrder(t *testing.T) {
	w := newWorld(t)
	p := w.pod("p", "n1")
	dead := w.openUp()
	subject := messaging.UpSubject("n1", "pod", string(p.UID))
	w.publish(subject, podReport(t, p, 1, corev1.PodPending, false))
	taken, err := dead.consumer.Fetch(1) // and never acknowledged
	must(t, err)
	if _, ok := <-taken.Messages(); !ok {
		t.Fatal("nothing to take")
	}
	w.publish(subject, podReport(t, p, 2, corev1.PodRunning, false))
	w.reports()
	w.until("the newest report merged", func() bool {
		now, _ := get[*corev1.Pod](w.view, "default", "p")
		return now.Status.Phase == corev1.PodRunning
	})
	w.until("one consumer, with nothing left to hand out again", func() bool {
		names, floor, err := consumersBefore(t.Context(), dead.stream)
		must(t, err)
		return len(names) == 1 && floor == 2
	})
}

func (w *world) openUp() *upStream {
	w.t.Helper()
	up, err := openUp(w.t.Context(), w.net.JetStream(), w.net.Storage, slog.New(slog.DiscardHandler))
	must(w.t, err)
	return up
}

// A report comes again when the coordinator that took it dies, and its consumer may be lost with it. Whatever was merged
// of the subject since, by whichever coordinator and in whichever boot of the node, it must not undo.
func TestOldReportsDoNotUndoNewOnes(t *testing.T) {
	w := newWorld(t)
	w.openUp()
	const subject, other = "skerry.v1.up.n.pod.u", "skerry.v1.up.n.pod.v"
	w.publish(subject, messaging.PodReport{Boot: "w", Seq: 7})
	w.publish(subject, messaging.PodReport{Boot: "x", Seq: 1})
	w.publish(other, messaging.PodReport{Boot: "w", Seq: 8})
	r := NewReports(nil, nil, nil, slog.New(slog.DiscardHandler))
	r.stream = w.openUp()
	for i, step := range []struct {
		subject string
		stream  uint64
		boot    string
		seq     uint64
		stale   bool
	}{
		{subject, 1, "w", 7, true}, // another coordinator has merged the second
		{subject, 2, "x", 1, false},
		{other, 3, "w", 8, false},
		{subject, 4, "x", 3, false},
		{subject, 5, "x", 2, true}, // the node sent it twice
		{subject, 4, "x", 3, false},
		{subject, 6, "y", 1, false},
		{subject, 4, "x", 3, true}, // of a boot before
		{other, 3, "w", 8, false},
	} {
		data, err := json.Marshal(messaging.PodReport{Boot: step.boot, Seq: step.seq})
		must(t, err)
		if got := r.stale(t.Context(), fakeMsg{subject: step.subject, data: data, stream: step.stream}); got != step.stale {
			t.Errorf("step %d: stale %t", i, got)
		}
	}
}

type fakeMsg struct {
	jetstream.Msg
	subject string
	data    []byte
	stream  uint64
}

func (m fakeMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.stream}}, nil
}

func (m fakeMsg) Subject() string { return m.subject }
func (m fakeMsg) Data() []byte    { return m.data }

func TestNodeReportsKeepToTheirOwnLabels(t *testing.T) {
	w := newWorld(t)
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{
		"team": "ours", featurePrefix + "usb-old.present": "true",
	}}})
	w.reports()
	status := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
	data, err := status.Marshal()
	must(t, err)
	w.publish(messaging.UpSubject("n1", "node", "self"), messaging.NodeReport{Boot: "b", Seq: 1, Status: data, Labels: map[string]string{
		corev1.LabelArchStable: "arm64", featurePrefix + "cpu-cpuid.AES": "true", "node-role.kubernetes.io/control-plane": "", "team": "theirs",
	}})
	w.until("node ready", func() bool {
		n, _ := get[*corev1.Node](w.view, "", "n1")
		return len(n.Status.Conditions) > 0
	})
	n, _ := get[*corev1.Node](w.view, "", "n1")
	for key, want := range map[string]string{
		corev1.LabelArchStable: "arm64", featurePrefix + "cpu-cpuid.AES": "true", "team": "ours", "node-role.kubernetes.io/control-plane": "<none>", featurePrefix + "usb-old.present": "<none>",
	} {
		got, ok := n.Labels[key]
		if !ok {
			got = "<none>"
		}
		if got != want {
			t.Errorf("label %s is %q, want %q", key, got, want)
		}
	}
}

func TestInventoryAndEvents(t *testing.T) {
	w := newWorld(t)
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
	p := w.pod("p", "n1")
	w.reports()
	for seq, model := range []string{"one", "two"} {
		data, err := json.Marshal(api.Inventory{CPU: api.CPU{Model: model}})
		must(t, err)
		w.publish(messaging.UpSubject("n1", "inventory", "self"), messaging.InventoryReport{Boot: "b", Seq: uint64(seq + 1), Inventory: data})
		w.until("inventory "+model, func() bool {
			i, ok := get[*api.NodeInventory](w.view, "", "n1")
			return ok && i.Inventory.CPU.Model == model
		})
	}
	for seq := range 3 {
		w.publish(messaging.UpSubject("n1", "event", "Started"), messaging.EventReport{Boot: "b", Seq: uint64(seq), Namespace: "default", Pod: "p", UID: string(p.UID), Reason: "Started"})
	}
	w.until("three events", func() bool {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		return len(w.events.events) == 3
	})
}

func TestUnreadableReportsAreDropped(t *testing.T) {
	w := newWorld(t)
	p := w.pod("p", "n1")
	w.reports()
	for _, subject := range []string{"skerry.v1.up.n1", "skerry.v1.up.n1.pod.u.more", "skerry.v1.up.n1.nonsense.u", messaging.UpSubject("n1", "pod", "u")} {
		w.publish(subject, "not a report")
	}
	w.publish(messaging.UpSubject("n1", "pod", string(p.UID)), podReport(t, p, 1, corev1.PodRunning, false))
	w.until("the good one behind them", func() bool {
		now, _ := get[*corev1.Pod](w.view, "default", "p")
		return now.Status.Phase == corev1.PodRunning
	})
	if permanent(apierrors.NewConflict(resourceOf[*corev1.Pod]().GroupResource(), "p", nil)) {
		t.Error("a conflict would be given up")
	}
}
