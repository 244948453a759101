package apiserver_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"skerry.dev/skerry/coordinator/apiserver"
)

// auditor keeps events in memory.
type auditor struct {
	level  auditv1.Level
	mu     sync.Mutex
	events []*auditv1.Event
}

func (a *auditor) Level() auditv1.Level { return a.level }

func (a *auditor) Record(e *auditv1.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, e)
}

// await waits until there are n events: a client has its answer before the line is written.
func (a *auditor) await(t *testing.T, n int) {
	t.Helper()
	if a.level == auditv1.LevelNone {
		return
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		a.mu.Lock()
		have := len(a.events)
		a.mu.Unlock()
		if have >= n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d events, want %d", have, n)
		}
	}
}

// lines are the events without what differs from run to run.
func (a *auditor) lines(t *testing.T) string {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var out strings.Builder
	for _, e := range a.events {
		if e.AuditID == "" || e.RequestReceivedTimestamp.IsZero() || e.StageTimestamp.Time.Before(e.RequestReceivedTimestamp.Time) {
			t.Errorf("event without id or times: %+v", e)
		}
		line := *e
		line.AuditID, line.RequestReceivedTimestamp, line.StageTimestamp, line.UserAgent = "", metav1.MicroTime{}, metav1.MicroTime{}, "test"
		data, err := json.MarshalIndent(line, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(data, '\n'))
	}
	return out.String()
}

// One line for each request that counts, with who, what and how it ended; never a secret.
func TestAudit(t *testing.T) {
	for _, level := range []auditv1.Level{auditv1.LevelNone, auditv1.LevelMetadata, auditv1.LevelRequest} {
		t.Run(string(level), func(t *testing.T) {
			log := &auditor{level: level}
			put := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
			c := start(t, func(c *apiserver.Config) {
				c.Audit = log
				c.Mounts["/v2/"] = apiserver.Mount{Handler: put}
			})
			count := 0
			seen := func() { count++; log.await(t, count) }
			c.must("POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"name":"s"},"stringData":{"password":"hunter2"}}`)
			seen()
			c.must("POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"m"},"data":{"password":"hunter2"}}`)
			seen()
			c.do("PATCH", "/apis/apps/v1/namespaces/default/deployments/d", `{"spec":{"replicas":2}}`, header{"Content-Type": "application/merge-patch+json"})
			seen()
			c.do("PATCH", "/apis/apps/v1/namespaces/default/deployments/d/scale", `{}`, guest)
			seen()
			c.get("/api/v1/namespaces/default/secrets/s")
			seen()
			c.get("/api/v1/namespaces/default/configmaps?limit=1", header{"Impersonate-User": "guest"})
			seen()
			c.get("/api/v1/namespaces/default/configmaps", header{"Authorization": "Bearer wrong"})
			seen()
			c.get("/api/v1/namespaces/default/events")
			for _, quiet := range []string{"/healthz", "/readyz", "/version", "/api", "/apis/apps/v1"} {
				c.get(quiet)
			}
			c.get("/api", header{"Impersonate-User": "bob", "Authorization": "Bearer " + guestToken})
			seen()
			c.do("PUT", "/v2/app/manifests/1", "x")
			seen()
			c.get("/v2/app/manifests/1")

			got, golden := log.lines(t), filepath.Join("testdata", "audit", strings.ToLower(string(level))+".json")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if text := c.log.String() + got; strings.Contains(text, "hunter2") || strings.Contains(text, adminToken) {
				t.Error("a secret is in a log")
			}
		})
	}
}
