package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry.dev/skerry/coordinator/view"
	"skerry.dev/skerry/messaging"
)

func (s *site) configure(name string) {
	s.Helper()
	s.must("POST", "/api/v1/namespaces/default/services", `{"metadata":{"name":"`+name+`"},"spec":{"ports":[{"port":80}]}}`)
}

func TestEventsNeedAnAdministrator(t *testing.T) {
	s := newSite(t)
	if resp := s.do("GET", "/ui/events", "", nil); resp.code != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", resp.code)
	}
	if resp := s.do("GET", "/ui/events", "guess", nil); resp.code != http.StatusUnauthorized {
		t.Errorf("a wrong token gets %d", resp.code)
	}
	if resp := s.do("GET", "/ui/events", guestToken, nil); resp.code != http.StatusForbidden {
		t.Errorf("a guest gets %d", resp.code)
	}
	s.login()
	if resp := s.do("GET", "/ui/events", "", nil); resp.code != http.StatusOK {
		t.Errorf("a session gets %d", resp.code)
	}
	if resp := s.do("DELETE", "/ui/session", "", nil); resp.code != http.StatusOK {
		t.Errorf("logout: %d", resp.code)
	}
	if resp := s.do("GET", "/ui/events", "", nil); resp.code != http.StatusUnauthorized {
		t.Errorf("a session that was ended gets %d", resp.code)
	}
}

func TestSnapshotThenChanges(t *testing.T) {
	s := newSite(t)
	s.configure("before")
	s.must("POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"name":"hidden"},"stringData":{"password":"open-sesame"}}`)
	inbox := s.follow("")
	all := inbox.until("snapshot", isSync)
	var kinds []string
	for _, m := range all {
		if m.event == "reset" {
			var reset struct {
				Kind  string
				Items []any
			}
			if err := json.Unmarshal([]byte(m.data), &reset); err != nil {
				t.Fatal(err)
			}
			kinds = append(kinds, reset.Kind)
		}
	}
	want := []string{"nodes", "nodeinventories", "pods", "deployments", "replicasets", "services", "endpointslices", "events", "moveplans"}
	if !slices.Equal(kinds, want) {
		t.Errorf("snapshot has %v, want %v", kinds, want)
	}

	s.configure("after")
	s.must("POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"name":"hidden2"},"stringData":{"password":"open-sesame"}}`)
	s.must("DELETE", "/api/v1/namespaces/default/services/after", nil)
	changes := inbox.until("deletion", func(m message) bool { return m.event == "change" && strings.Contains(m.data, `"DELETED"`) })
	if i := slices.IndexFunc(changes, func(m message) bool {
		return m.event == "change" && strings.HasPrefix(m.data, `{"kind":"services","type":"ADDED"`) && strings.Contains(m.data, `"name":"after"`)
	}); i < 0 {
		t.Errorf("the new service is not among %v", changes)
	}
	for _, m := range append(all, changes...) {
		if strings.Contains(m.data, "hidden") || strings.Contains(m.data, "sesame") {
			t.Errorf("a Secret was sent: %s", m.data)
		}
	}
}

func TestResume(t *testing.T) {
	s := newSite(t)
	s.configure("before")
	inbox := s.follow("")
	inbox.until("snapshot", isSync)
	last := inbox.last
	_ = inbox.body.Close() // the link breaks
	s.configure("meanwhile")

	again := s.follow(last).until("changes", isSync)
	if slices.Contains(events(again), "reset") {
		t.Errorf("everything was sent again: %v", events(again))
	}
	if i := slices.IndexFunc(again, func(m message) bool { return strings.Contains(m.data, `"name":"meanwhile"`) }); i < 0 {
		t.Error("what changed meanwhile was not sent")
	}
	for _, foreign := range []string{"OTHERLIFE." + strings.SplitN(last, ".", 2)[1], strings.SplitN(last, ".", 2)[0] + ".99999999", "5", "nonsense"} {
		if got := s.follow(foreign).until("snapshot", isSync); !slices.Contains(events(got), "reset") {
			t.Errorf("a client with the id %q got no snapshot: %v", foreign, events(got))
		}
	}
}

// TestResumeTooOld: the client was away for longer than changes are kept.
func TestResumeTooOld(t *testing.T) {
	s := newSite(t, view.History(4))
	inbox := s.follow("")
	inbox.until("snapshot", isSync)
	_ = inbox.body.Close()
	for i := range 10 {
		s.configure(fmt.Sprintf("service-%d", i))
	}
	again := s.follow(inbox.last).until("snapshot", isSync)
	i := slices.IndexFunc(again, func(m message) bool { return m.event == "reset" && strings.HasPrefix(m.data, `{"kind":"services"`) })
	if i < 0 || strings.Count(again[i].data, `"service-`) < 10 {
		t.Errorf("no snapshot of the services: %v", events(again))
	}
}

// TestSlowReaderLosesNothing: a reader that falls behind what is kept gets a snapshot in between.
func TestSlowReaderLosesNothing(t *testing.T) {
	s := newSite(t, view.History(2))
	inbox := s.follow("")
	inbox.until("snapshot", isSync)
	for i := range 20 {
		s.configure(fmt.Sprintf("service-%02d", i))
	}
	seen := map[string]bool{}
	inbox.until("all services", func(m message) bool {
		for i := range 20 {
			name := fmt.Sprintf(`"name":"service-%02d"`, i)
			seen[name] = seen[name] || strings.Contains(m.data, name)
			if !seen[name] {
				return false
			}
		}
		return true
	})
}

func TestLoadIsSentWhenItChanges(t *testing.T) {
	s := newSite(t)
	inbox := s.follow("")
	inbox.until("first load", func(m message) bool { return m.event == "load" })
	s.loads.set("n1", messaging.Load{CPUMillis: 750, MemoryBytes: 1 << 30, MemoryTotalBytes: 2 << 30, Pods: 3})
	got := inbox.until("load", func(m message) bool { return m.event == "load" })
	var loads map[string]messaging.Load
	if err := json.Unmarshal([]byte(got[len(got)-1].data), &loads); err != nil || loads["n1"].CPUMillis != 750 || loads["n1"].Pods != 3 {
		t.Errorf("load is %v (%v)", got[len(got)-1].data, err)
	}
}

func TestTooManyPages(t *testing.T) {
	s := newSite(t)
	var open []reply
	for range 64 {
		open = append(open, s.do("GET", "/ui/events", adminToken, nil))
	}
	resp := s.do("GET", "/ui/events", adminToken, nil)
	if resp.code != http.StatusServiceUnavailable || resp.header.Get("Retry-After") == "" {
		t.Errorf("one page too many gets %d", resp.code)
	}
	_ = open[0].body.Close() // one leaves
	deadline := time.Now().Add(10 * time.Second)
	for s.do("GET", "/ui/events", adminToken, nil).code != http.StatusOK {
		if time.Now().After(deadline) {
			t.Fatal("the place of a page that left is not given to the next")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestStreamsEndWithTheServer: an open page must not hold up the coordinator's stop.
func TestStreamsEndWithTheServer(t *testing.T) {
	s := newSite(t)
	inbox := s.follow("")
	inbox.until("snapshot", isSync)
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the server waits for the page")
	}
	if _, err := io.ReadAll(inbox.lines); err != nil {
		t.Errorf("the stream was cut off rather than ended: %v", err)
	}
}
