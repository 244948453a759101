// Package telemetry shows the coordinator's figures to Prometheus, in its text format. A figure that means what one of
// upstream's does has upstream's name; our own begin with skerry_.
//
// It reads what others have and keeps only the counts of API requests, whose labels come from the table of served kinds,
// so that no client can make it grow. It decides nothing and measures no pods: coordinator/metrics does.
package telemetry

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/view"
)

// Config is what is shown, but for the API server, which comes later: see ShowAPI. All must be set but Version.
type Config struct {
	View     *view.View
	Liveness func() map[string]controller.Liveness
	// Heartbeat is how often a node says that it lives; one that is silent for three of them is unreachable.
	Heartbeat time.Duration
	Conn      *nats.Conn
	Version   string
}

// Telemetry counts requests and answers Prometheus. It is an apiserver.Observer, and safe for concurrent use.
type Telemetry struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	current  *prometheus.GaugeVec
	long     *prometheus.GaugeVec
}

// New returns one that has counted nothing.
func New(c Config) (*Telemetry, error) {
	if c.View == nil || c.Liveness == nil || c.Heartbeat <= 0 || c.Conn == nil {
		return nil, errors.New("telemetry: View, Liveness, Heartbeat and Conn must be set")
	}
	kind := []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}
	t := &Telemetry{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_request_total", Help: "Requests answered, by what they were for and the code of the answer."}, append(kind, "code")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "How long requests took that are no streams, in seconds.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, kind),
		current: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_current_inflight_requests", Help: "Requests under work that are no streams."}, []string{"request_kind"}),
		long:    prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "apiserver_longrunning_requests", Help: "Watches, logs, sessions and proxied requests that are open."}, kind),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "skerry_build_info", Help: "Always 1; the labels say which version runs.",
		ConstLabels: prometheus.Labels{"version": c.Version, "kubernetes": apiserver.Version},
	}, func() float64 { return 1 })
	for _, collector := range []prometheus.Collector{
		t.requests, t.duration, t.current, t.long, build, newState(c), newLink(c.Conn),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := t.registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Handler answers with all figures. Two may ask at once; another waits for none of them but is told to come later.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second})
}

// ShowAPI adds the figures of the API server, of which there is one.
func (t *Telemetry) ShowAPI(s *apiserver.Server) error {
	gauge := func(name, help string, of func(apiserver.Load) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return of(s.Load()) })
	}
	return errors.Join(
		t.registry.Register(gauge("skerry_api_connections", "Open connections to the API.", func(l apiserver.Load) float64 { return float64(l.Connections) })),
		t.registry.Register(gauge("skerry_api_connections_limit", "How many there may be.", func(l apiserver.Load) float64 { return float64(l.MaxConnections) })),
		t.registry.Register(gauge("skerry_api_body_bytes", "Bytes of request bodies that are held.", func(l apiserver.Load) float64 { return float64(l.BodyBytes) })),
		t.registry.Register(gauge("apiserver_registered_watchers", "Watches that are open.", func(l apiserver.Load) float64 { return float64(l.Watches) })),
	)
}

// Begin is apiserver.Observer's.
func (t *Telemetry) Begin(r apiserver.Request) (end func(code int)) {
	labels := []string{r.Verb, r.Group, r.Version, r.Resource, r.Subresource, r.Scope, "apiserver"}
	open := t.current.WithLabelValues(kindOf(r.Verb))
	if r.Stream {
		open = t.long.WithLabelValues(labels...)
	}
	open.Inc()
	began := time.Now()
	return func(code int) {
		open.Dec()
		t.requests.WithLabelValues(append(labels, strconv.Itoa(code))...).Inc()
		if !r.Stream {
			t.duration.WithLabelValues(labels...).Observe(time.Since(began).Seconds())
		}
	}
}

func kindOf(verb string) string {
	switch verb {
	case "GET", "LIST":
		return "readOnly"
	}
	return "mutating"
}
