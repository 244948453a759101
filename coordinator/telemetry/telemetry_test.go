package telemetry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/telemetry"
	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging/natstest"
	"skerry.dev/skerry/messaging/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start serves a real API with its figures.
func start(t *testing.T, live map[string]controller.Liveness) http.Handler {
	t.Helper()
	net := natstest.Server(t)
	state, err := store.Open(t.Context(), net.JetStream(), store.Options{Storage: net.Storage})
	must(t, err)
	v := view.New(state, slog.New(slog.DiscardHandler))
	store, err := objects.New(v, state, objects.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-v.Synced()
	must(t, store.Bootstrap(t.Context()))
	figures, err := telemetry.New(telemetry.Config{
		View: v, Liveness: func() map[string]controller.Liveness { return live }, Heartbeat: 10 * time.Second, Conn: net.Coordinator(), Version: "1.2.3",
	})
	must(t, err)
	server, err := apiserver.New(apiserver.Config{
		View: v, Objects: store, Observer: figures,
		Authenticator: authn.Bearer{Tokens: authn.NewStaticTokens(map[string]authn.User{"admin": {Name: "admin", Groups: []string{authn.GroupMasters}}, "guest": {Name: "guest"}})},
		Mounts:        map[string]apiserver.Mount{"/metrics/": {Handler: figures.Handler()}},
	})
	must(t, err)
	must(t, figures.ShowAPI(server))
	return server
}

func do(t *testing.T, h http.Handler, token, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// scrape reads the figures as Prometheus does.
func scrape(t *testing.T, h http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	w := do(t, h, "admin", "GET", "/metrics", "")
	if w.Code != 200 {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	must(t, err)
	return families
}

// value is the figure of a metric with these labels, name=value each.
func value(t *testing.T, families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range families[name].GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && have[l]
		}
		switch {
		case !all:
		case m.Counter != nil:
			return m.Counter.GetValue()
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount())
		default:
			return m.Gauge.GetValue()
		}
	}
	t.Errorf("no %s with %v: %v", name, labels, families[name])
	return -1
}

func TestFigures(t *testing.T) {
	now := time.Now()
	h := start(t, map[string]controller.Liveness{"a": {Heard: now}, "b": {Heard: now.Add(-time.Hour)}, "gone": {Heard: now}})
	for _, name := range []string{"a", "b", "c"} {
		if w := do(t, h, "admin", "POST", "/api/v1/nodes", fmt.Sprintf(`{"metadata":{"name":%q}}`, name)); w.Code != 201 {
			t.Fatalf("%s", w.Body)
		}
	}
	pods := "/api/v1/namespaces/default/pods"
	for _, pod := range []string{
		`{"metadata":{"name":"bound"},"spec":{"nodeName":"a","containers":[{"name":"c","image":"i"}]}}`,
		`{"metadata":{"name":"waits"},"spec":{"containers":[{"name":"c","image":"i"}]}}`,
		`{"metadata":{"name":"gated"},"spec":{"schedulingGates":[{"name":"x/y"}],"containers":[{"name":"c","image":"i"}]}}`,
	} {
		if w := do(t, h, "admin", "POST", pods, pod); w.Code != 201 {
			t.Fatalf("%s", w.Body)
		}
	}
	do(t, h, "admin", "GET", pods+"/nope", "")
	f := scrape(t, h)
	for _, x := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{3, "apiserver_request_total", []string{"verb=POST", "resource=pods", "version=v1", "scope=resource", "code=201"}},
		{1, "apiserver_request_total", []string{"verb=GET", "resource=pods", "code=404"}},
		{3, "apiserver_request_duration_seconds", []string{"verb=POST", "resource=pods"}},
		{0, "apiserver_current_inflight_requests", []string{"request_kind=readOnly"}},
		{0, "apiserver_current_inflight_requests", []string{"request_kind=mutating"}},
		{3, "apiserver_resource_objects", []string{"group=", "resource=pods"}},
		{1, "scheduler_pending_pods", []string{"queue=unschedulable"}},
		{1, "scheduler_pending_pods", []string{"queue=gated"}},
		{1, "skerry_pods", []string{"phase=Pending"}},
		{1, "skerry_nodes", []string{"state=ready"}},
		{1, "skerry_nodes", []string{"state=unreachable"}},
		{1, "skerry_nodes", []string{"state=unheard"}},
		{0, "apiserver_registered_watchers", nil},
		{0, "skerry_api_body_bytes", nil},
		{0, "skerry_nats_reconnects_total", nil},
		{1, "skerry_build_info", []string{"version=1.2.3"}},
	} {
		if got := value(t, f, x.name, x.labels...); got != x.want {
			t.Errorf("%s%v is %g, want %g", x.name, x.labels, got, x.want)
		}
	}
	for _, name := range []string{"skerry_store_revision", "process_resident_memory_bytes", "process_open_fds", "go_goroutines"} {
		if value(t, f, name) <= 0 {
			t.Errorf("%s is nothing", name)
		}
	}
	if open := f["apiserver_longrunning_requests"].GetMetric(); len(open) > 0 {
		t.Errorf("requests that are no streams have series as such: %v", open)
	}
	if s := value(t, f, "skerry_node_silence_seconds", "node=b"); s < 3600 {
		t.Errorf("silent for %g s", s)
	}
}

// The figures are for those whom a role lets read /metrics.
func TestFiguresAreGuarded(t *testing.T) {
	h := start(t, nil)
	for token, code := range map[string]int{"guest": 403, "wrong": 401} {
		if w := do(t, h, token, "GET", "/metrics", ""); w.Code != code {
			t.Errorf("%q gets %d: %s", token, w.Code, w.Body)
		}
	}
}

// Clients cannot make new series with paths, methods and names of their own.
func TestClientsMakeNoSeries(t *testing.T) {
	h := start(t, nil)
	count := func() (n int) {
		for _, f := range scrape(t, h) {
			if strings.HasPrefix(f.GetName(), "apiserver_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	odd := func(i int) {
		do(t, h, "admin", fmt.Sprintf("M%d", i), "/api/v1/namespaces/default/pods", "")
		do(t, h, "admin", "GET", fmt.Sprintf("/api/v1/things%d", i), "")
		do(t, h, "admin", "GET", fmt.Sprintf("/apis/g%d/v1/things", i), "")
		do(t, h, "admin", "GET", fmt.Sprintf("/api/v1/namespaces/default/pods/p%d", i), "")
		do(t, h, "admin", "GET", fmt.Sprintf("/api/v1/namespaces/n%d/pods", i), "")
		do(t, h, "guest", "GET", fmt.Sprintf("/api/v1/namespaces/default/pods/p/s%d", i), "")
	}
	odd(0)
	before := count()
	for i := range 50 {
		odd(i + 1)
	}
	if after := count(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
