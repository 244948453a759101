package automation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/access/rbac"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

const patience = 20 * time.Second

type cluster struct {
	t       testing.TB
	people  people
	audit   *book
	net     *natstest.Net
	store   *store.Store
	objects *objects.Store
	view    *view.View
	js      jetstream.JetStream
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, net: natstest.Server(t), people: people{}, audit: &book{level: auditv1.LevelRequest}}
	c.people[natstest.UserID("admin")] = authn.User{Name: "admin", Groups: []string{authn.GroupMasters}}
	c.js = c.net.JetStream()
	var err error
	if c.store, err = store.Open(t.Context(), c.js, store.Options{Storage: c.net.Storage}); err != nil {
		t.Fatal(err)
	}
	c.view = view.New(c.store, slog.New(slog.DiscardHandler))
	if c.objects, err = objects.New(c.view, c.store, objects.Options{}); err != nil {
		t.Fatal(err)
	}
	run(t, c.view.Run)
	<-c.view.Synced()
	if err := c.objects.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// people are those whom an endpoint knows, by the IDs of their logins.
type people map[string]authn.User

func (p people) Caller(id string) (authn.User, bool) {
	u, ok := p[id]
	return u, ok
}

// book is an audit log.
type book struct {
	level  auditv1.Level
	mu     sync.Mutex
	events []*auditv1.Event
}

func (b *book) Level() auditv1.Level { return b.level }

func (b *book) Record(e *auditv1.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// last is the line of the last request that was answered; its answer comes first.
func (b *book) last(t *testing.T, count int) *auditv1.Event {
	t.Helper()
	var e *auditv1.Event
	waitFor(t, "the request has left its line", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.events) >= count {
			e = b.events[count-1]
		}
		return e != nil
	})
	return e
}

// run runs f until the test or stop ends it, whichever is first.
func run(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	done := false
	stop = func() {
		cancel()
		if done {
			return
		}
		done = true
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (c *cluster) endpoints() *nats.Conn {
	c.t.Helper()
	return c.endpointsWith(c.objects)
}

func (c *cluster) endpointsWith(w automation.Writer) *nats.Conn {
	c.t.Helper()
	e, err := automation.NewEndpoints(automation.EndpointsConfig{
		Conn: c.net.Coordinator(), View: c.view, Objects: w, Version: "1.2.3", Callers: c.people, Access: rbac.New(c.view), Audit: c.audit,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	run(c.t, e.Run)
	nc := c.net.UserConn("admin")
	waitFor(c.t, "the service answers", func() bool { // endpoints are added in their order, and this one last
		_, err := nc.Request(automation.DocumentSubject, nil, time.Second)
		return err == nil
	})
	return nc
}

func (c *cluster) events() (stop func()) {
	c.t.Helper()
	e, err := automation.NewEvents(automation.EventsConfig{JS: c.net.JetStream(), Source: c.store, Storage: c.net.Storage})
	if err != nil {
		c.t.Fatal(err)
	}
	return run(c.t, e.Run)
}

func (c *cluster) apply(manifest string) {
	c.t.Helper()
	if _, _, err := c.objects.Apply(context.Background(), []byte(manifest), objects.WriteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func configMap(name, value string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"default"},"data":{"key":%q}}`, name, value)
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func request(t *testing.T, nc *nats.Conn, subject, payload string) *nats.Msg {
	t.Helper()
	msg, err := nc.Request("skerry.v1.api."+subject, []byte(payload), patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	return msg
}

func into(t *testing.T, msg *nats.Msg, obj any) {
	t.Helper()
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		t.Fatalf("error %s: %s", code, msg.Header.Get(micro.ErrorHeader))
	}
	if err := json.Unmarshal(msg.Data, obj); err != nil {
		t.Fatalf("%v: %s", err, msg.Data)
	}
}

func TestApplyGetListDelete(t *testing.T) {
	c := start(t)
	nc := c.endpoints()
	var made, changed, got corev1.ConfigMap
	into(t, request(t, nc, "configmaps.apply", configMap("a", "1")), &made)
	into(t, request(t, nc, "configmaps.apply", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: '2'}\n"), &changed)
	if changed.UID != made.UID || changed.Data["key"] != "2" || changed.ResourceVersion == made.ResourceVersion {
		t.Errorf("second apply: %+v", changed)
	}
	into(t, request(t, nc, "configmaps.get", `{"name":"a"}`), &got)
	if got.UID != made.UID || got.ResourceVersion != changed.ResourceVersion {
		t.Errorf("get: %+v", got)
	}
	into(t, request(t, nc, "configmaps.apply", `{"namespace":"kube-system","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","labels":{"x":"y"}}}}`), &got)
	if got.Namespace != "kube-system" {
		t.Errorf("namespace %q", got.Namespace)
	}
	var list corev1.ConfigMapList
	into(t, request(t, nc, "configmaps.list", ""), &list)
	if len(list.Items) != 2 || list.Kind != "ConfigMapList" || list.ResourceVersion == "" {
		t.Errorf("list: %+v", list)
	}
	into(t, request(t, nc, "configmaps.list", `{"labelSelector":"x=y"}`), &list)
	if len(list.Items) != 1 || list.Items[0].Name != "b" {
		t.Errorf("selected: %+v", list.Items)
	}
	var gone metav1.Status
	into(t, request(t, nc, "configmaps.delete", `{"name":"a"}`), &gone)
	if gone.Status != metav1.StatusSuccess || gone.Details.UID != made.UID {
		t.Errorf("delete: %+v", gone)
	}
	if code := request(t, nc, "configmaps.get", `{"name":"a"}`).Header.Get(micro.ErrorCodeHeader); code != "404" {
		t.Errorf("get after delete: code %q", code)
	}
}

func TestListInParts(t *testing.T) {
	c := start(t)
	nc := c.endpoints()
	for i := range 5 {
		c.apply(configMap(fmt.Sprintf("m%d", i), "v"))
	}
	var names []string
	for next := ""; ; {
		var list corev1.ConfigMapList
		into(t, request(t, nc, "configmaps.list", fmt.Sprintf(`{"limit":2,"continue":%q}`, next)), &list)
		for _, i := range list.Items {
			names = append(names, i.Name)
		}
		if next = list.Continue; next == "" {
			break
		}
	}
	if got := strings.Join(names, " "); got != "m0 m1 m2 m3 m4" {
		t.Errorf("parts give %s", got)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	c := start(t)
	nc := c.endpoints()
	tests := []struct{ subject, payload, code, words string }{
		{"pods.get", `{"name":"nope"}`, "404", `pods "nope" not found`},
		{"pods.get", `{}`, "400", "must have a name"},
		{"pods.get", `{"nam":"x"}`, "400", `unknown field "nam"`},
		{"pods.list", `{"labelSelector":"a b"}`, "400", "labelSelector"},
		{"pods.list", `{"continue":"%"}`, "400", "continue"},
		{"pods.apply", ``, "400", "object to apply"},
		{"pods.apply", configMap("a", "1"), "400", "this subject is for /v1, Kind=Pod"},
		{"pods.apply", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}`, "422", "spec.containers[0].image: Required value"},
		{"configmaps.apply", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dta":{}}`, "400", `unknown field "dta"`},
		{"configmaps.apply", `{"namespace":"kube-system","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}}`, "400", "does not match"},
		{"configmaps.delete", `{"name":"a","propagationPolicy":"Sideways"}`, "400", "propagationPolicy"},
		{"deployments.apply", `[1,2]`, "400", "no request"},
		{"configmaps.apply", `{"object":"` + strings.Repeat("x", 3<<20) + `"}`, "413", "Request entity too large: limit is 3145728"},
	}
	for _, tt := range tests {
		msg := request(t, nc, tt.subject, tt.payload)
		var status metav1.Status
		if err := json.Unmarshal(msg.Data, &status); err != nil {
			t.Fatalf("%s %s: body %q: %v", tt.subject, tt.payload, msg.Data, err)
		}
		if msg.Header.Get(micro.ErrorCodeHeader) != tt.code || !strings.Contains(msg.Header.Get(micro.ErrorHeader), tt.words) || status.Kind != "Status" {
			t.Errorf("%s %s: %s %q, want %s with %q", tt.subject, tt.payload, msg.Header.Get(micro.ErrorCodeHeader), msg.Header.Get(micro.ErrorHeader), tt.code, tt.words)
		}
	}
}

// Every endpoint says in its metadata what to send.
func TestEndpointsHaveSchemas(t *testing.T) {
	c := start(t)
	nc := c.endpoints()
	msg, err := nc.Request("$SRV.INFO.skerry", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		t.Fatal(err)
	}
	subjects := map[string]bool{}
	for _, e := range info.Endpoints {
		subjects[e.Subject] = true
		if !json.Valid([]byte(e.Metadata["request"])) || !json.Valid([]byte(e.Metadata["response"])) {
			t.Errorf("%s: metadata %v", e.Subject, e.Metadata)
		}
	}
	for _, want := range []string{"skerry.v1.api.pods.get", "skerry.v1.api.deployments.apply", "skerry.v1.api.nodes.list", "skerry.v1.api.moveplans.delete"} {
		if !subjects[want] {
			t.Errorf("no endpoint %s", want)
		}
	}
}

// slowWriter lets a test see that requests are not worked on one at a time.
type slowWriter struct {
	automation.Writer
	began chan struct{}
	goOn  chan struct{}
}

func (w *slowWriter) Delete(ctx context.Context, _ *resourceType, _, _ string, _ metav1.DeleteOptions) (objectType, bool, error) {
	w.began <- struct{}{}
	<-w.goOn
	return &corev1.ConfigMap{}, true, nil
}

func TestRequestsOverlap(t *testing.T) {
	c := start(t)
	w := &slowWriter{Writer: c.objects, began: make(chan struct{}), goOn: make(chan struct{})}
	nc := c.endpointsWith(w)
	replies := make(chan *nats.Msg, 2)
	inbox := nc.NewInbox()
	if _, err := nc.Subscribe(inbox, func(m *nats.Msg) { replies <- m }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := nc.PublishRequest("skerry.v1.api.configmaps.delete", inbox, []byte(`{"name":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // both are under way before either has ended
		select {
		case <-w.began:
		case <-time.After(patience):
			t.Fatal("the second request waits for the first")
		}
	}
	close(w.goOn)
	for range 2 {
		<-replies
	}
}

// One user has half of what is under work at once; with more it is told to come later, and others are served.
func TestNobodyHasAllPlaces(t *testing.T) {
	c := startWithRoles(t)
	w := &slowWriter{Writer: c.objects, began: make(chan struct{}), goOn: make(chan struct{})}
	admin := c.endpointsWith(w)
	dev, boss := c.net.UserConn("dev"), c.net.UserConn("boss")
	const half = 32
	replies := make(chan *nats.Msg, half)
	inbox := dev.NewInbox()
	if _, err := dev.ChanSubscribe(inbox, replies); err != nil {
		t.Fatal(err)
	}
	for range half {
		if err := dev.PublishRequest("skerry.v1.api.configmaps.delete", inbox, []byte(`{"name":"a"}`)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range half {
		select {
		case <-w.began:
		case <-time.After(patience):
			t.Fatalf("%d requests of one user are under work, want %d", i, half)
		}
	}
	for range half + 1 { // those that are refused take no place
		msg := request(t, dev, "configmaps.list", `{"namespace":"default"}`)
		if text := msg.Header.Get(micro.ErrorHeader); answered(msg) != 429 || !strings.Contains(text, `busy with other requests of user "dev"`) {
			t.Fatalf("one more is answered %d %q", answered(msg), text)
		}
	}
	for user, nc := range map[string]*nats.Conn{"boss": boss, "admin": admin} {
		if msg := request(t, nc, "configmaps.list", `{"namespace":"boss"}`); answered(msg) != 200 {
			t.Errorf("%s meanwhile: %d %s", user, answered(msg), msg.Data)
		}
	}
	close(w.goOn)
	for range half {
		if msg := <-replies; answered(msg) != 200 {
			t.Errorf("a request that had a place: %d %s", answered(msg), msg.Data)
		}
	}
	waitFor(t, "the places are given back", func() bool { return answered(request(t, dev, "configmaps.list", `{"namespace":"default"}`)) == 200 })
}
