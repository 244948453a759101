package apiserver_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/view"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

type watchEvent struct {
	Type   string
	Object struct {
		metav1.TypeMeta `json:",inline"`
		Metadata        metav1.ObjectMeta              `json:"metadata"`
		Reason          string                         `json:"reason"`
		Code            int                            `json:"code"`
		Columns         []metav1.TableColumnDefinition `json:"columnDefinitions"`
		Rows            []metav1.TableRow              `json:"rows"`
	}
}

func (e watchEvent) String() string { return e.Type + " " + e.Object.Metadata.Name }

// watcher reads a watch in JSON.
type watcher struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Scanner
}

func (c *cluster) watch(t *testing.T, path string, headers ...header) *watcher {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	resp := c.open(ctx, "GET", path, "", headers...)
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("watch %s: %d %s", path, resp.StatusCode, body)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 4<<20)
	return &watcher{t, resp, in}
}

func (w *watcher) next() (e watchEvent, ok bool) {
	w.t.Helper()
	if !w.in.Scan() {
		return e, false
	}
	if err := json.Unmarshal(w.in.Bytes(), &e); err != nil {
		w.t.Fatalf("decode event: %v: %s", err, w.in.Bytes())
	}
	return e, true
}

func (w *watcher) want(events ...string) (last watchEvent) {
	w.t.Helper()
	for _, want := range events {
		e, ok := w.next()
		if !ok {
			w.t.Fatalf("watch ended (%v), want %s", w.in.Err(), want)
		}
		if e.String() != want {
			w.t.Fatalf("got %s, want %s", e, want)
		}
		last = e
	}
	return last
}

func revision(c *cluster) string {
	var list corev1.ConfigMapList
	c.get(configMaps).into(c.t, &list)
	return list.ResourceVersion
}

func TestWatchFromPresentState(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	w := c.watch(t, configMaps+"?watch=true")
	w.want("ADDED a")
	c.configMap("b", "1")
	c.must("PATCH", configMaps+"/a", `{"data":{"x":"y"}}`)
	c.must("DELETE", configMaps+"/a", "")
	w.want("ADDED b", "MODIFIED a", "DELETED a")
}

func TestWatchFromRevision(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	rv := revision(c)
	c.configMap("b", "1")
	c.must("DELETE", configMaps+"/b", "")
	c.watch(t, configMaps+"?watch=1&resourceVersion="+rv).want("ADDED b", "DELETED b")
}

func TestWatchAllNamespacesAndOneName(t *testing.T) {
	c := start(t)
	all := c.watch(t, "/api/v1/configmaps?watch=1&resourceVersion="+revision(c))
	one := c.watch(t, configMaps+"?watch=1&fieldSelector=metadata.name%3Db")
	c.must("POST", "/api/v1/namespaces/kube-system/configmaps", `{"metadata":{"name":"s"}}`)
	c.configMap("a", "1")
	c.configMap("b", "1")
	all.want("ADDED s", "ADDED a", "ADDED b")
	one.want("ADDED b")
}

// An object that starts or stops to match appears or disappears for this client.
func TestWatchWithSelector(t *testing.T) {
	c := start(t)
	c.configMap("a", "red")
	c.configMap("b", "blue")
	w := c.watch(t, configMaps+"?watch=1&labelSelector=app%3Dred")
	w.want("ADDED a")
	c.must("PATCH", configMaps+"/a", `{"data":{"x":"y"}}`)
	c.must("PATCH", configMaps+"/b", `{"metadata":{"labels":{"app":"red"}}}`)
	var patched corev1.ConfigMap
	c.must("PATCH", configMaps+"/a", `{"metadata":{"labels":{"app":"blue"}}}`).into(t, &patched)
	c.must("DELETE", configMaps+"/a", "")
	c.must("DELETE", configMaps+"/b", "")
	w.want("MODIFIED a", "ADDED b")
	gone := w.want("DELETED a")
	if gone.Object.Metadata.Labels["app"] != "red" || gone.Object.Metadata.ResourceVersion != patched.ResourceVersion {
		t.Errorf("deleted shows %+v, want the last state that matched at revision %s", gone.Object.Metadata, patched.ResourceVersion)
	}
	w.want("DELETED b")
}

func TestStreamingList(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	c.configMap("b", "1")
	w := c.watch(t, configMaps+"?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion="+revision(c))
	w.want("ADDED a", "ADDED b")
	mark := w.want("BOOKMARK ")
	if mark.Object.Metadata.Annotations["k8s.io/initial-events-end"] != "true" || mark.Object.Kind != "ConfigMap" {
		t.Errorf("bookmark %+v", mark.Object)
	}
	if rv := revision(c); mark.Object.Metadata.ResourceVersion != rv {
		t.Errorf("bookmark at %s, want %s", mark.Object.Metadata.ResourceVersion, rv)
	}
	c.configMap("c", "1")
	w.want("ADDED c")
}

func TestWatchTimesOutWithBookmark(t *testing.T) {
	c := start(t)
	w := c.watch(t, configMaps+"?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion="+revision(c))
	c.must("POST", "/api/v1/namespaces/default/secrets", `{"metadata":{"name":"elsewhere"}}`)
	mark := w.want("BOOKMARK ")
	if mark.Object.Metadata.ResourceVersion != revision(c) {
		t.Errorf("bookmark at %s, want the store's revision, which other kinds move too", mark.Object.Metadata.ResourceVersion)
	}
	if e, ok := w.next(); ok {
		t.Errorf("watch goes on after its timeout: %s", e)
	}
}

func TestWatchFromForgottenRevision(t *testing.T) {
	c := startWith(t, []view.Option{view.History(4)})
	c.configMap("a", "1")
	rv := revision(c)
	for i := range 10 {
		c.configMap(fmt.Sprintf("m%d", i), "1")
	}
	w := c.watch(t, configMaps+"?watch=1&resourceVersion="+rv)
	e := w.want("ERROR ")
	if e.Object.Kind != "Status" || e.Object.Code != 410 || e.Object.Reason != "Expired" {
		t.Errorf("got %+v, want 410 Expired", e.Object)
	}
	if _, ok := w.next(); ok {
		t.Error("watch goes on after its error")
	}
}

func TestWatchAsTable(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	w := c.watch(t, configMaps+"?watch=1", header{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"})
	c.configMap("b", "1")
	first, second := w.want("ADDED "), w.want("ADDED ")
	if len(first.Object.Columns) == 0 || len(second.Object.Columns) != 0 {
		t.Errorf("columns in the events: %d and %d, want them in the first only", len(first.Object.Columns), len(second.Object.Columns))
	}
	if len(second.Object.Rows) != 1 || second.Object.Rows[0].Cells[0] != "b" {
		t.Errorf("second table: %+v", second.Object)
	}
}

func TestWatchAsMetadata(t *testing.T) {
	c := start(t)
	w := c.watch(t, configMaps+"?watch=1", header{"Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"})
	c.configMap("a", "1")
	if e := w.want("ADDED a"); e.Object.Kind != "PartialObjectMetadata" {
		t.Errorf("kind %s", e.Object.Kind)
	}
}

func TestWatchInProtobuf(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	resp := c.open(ctx, "GET", configMaps+"?watch=1", "", header{"Accept": "application/vnd.kubernetes.protobuf;stream=watch"})
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "application/vnd.kubernetes.protobuf;stream=watch" {
		t.Errorf("content type %q", got)
	}
	var length uint32
	if err := binary.Read(resp.Body, binary.BigEndian, &length); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(resp.Body, frame); err != nil {
		t.Fatal(err)
	}
	var event metav1.WatchEvent
	if err := event.Unmarshal(frame); err != nil {
		t.Fatal(err)
	}
	var got corev1.ConfigMap
	decode(t, protobufSerializer(t), event.Object.Raw, &got)
	if event.Type != "ADDED" || got.Name != "a" || got.Data["key"] != "1" {
		t.Errorf("%s %+v", event.Type, got)
	}
}

func TestWatchInYAMLIsRefused(t *testing.T) {
	c := start(t)
	if a := c.get(configMaps+"?watch=1", header{"Accept": "application/yaml"}); a.code != http.StatusNotAcceptable {
		t.Errorf("code %d", a.code)
	}
}

// The events alias shows the same objects under its own kind.
func TestWatchAliasOfEvents(t *testing.T) {
	c := start(t)
	w := c.watch(t, "/apis/events.k8s.io/v1/namespaces/default/events?watch=1")
	c.must("POST", "/api/v1/namespaces/default/events", `{"metadata":{"name":"e1"},"involvedObject":{"kind":"Pod","name":"p","namespace":"default"},"reason":"Why","message":"m","type":"Normal"}`)
	if e := w.want("ADDED e1"); e.Object.APIVersion != "events.k8s.io/v1" {
		t.Errorf("apiVersion %s", e.Object.APIVersion)
	}
	a := c.get("/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.name%3Dp", header{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
	if !strings.Contains(a.String(), `"pod/p"`) {
		t.Errorf("table of the alias: %s", a)
	}
}

// A stopping server ends its watches at once instead of waiting for them.
func TestWatchEndsWhenServerStops(t *testing.T) {
	done := make(chan struct{})
	t.Run("server", func(t *testing.T) {
		c := start(t)
		w := c.watch(t, configMaps+"?watch=1")
		c.configMap("a", "1")
		w.want("ADDED a")
		go func() {
			defer close(done)
			w.in.Scan()
		}()
	})
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the watch outlived its server")
	}
}

// A client that does not read is dropped instead of holding the server's memory; one that is merely idle is not.
func TestSlowWatcherIsDroppedIdleOneIsNot(t *testing.T) {
	const limit = 500 * time.Millisecond
	c := start(t, func(c *apiserver.Config) { c.StreamLimit = limit })
	idle := c.watch(t, configMaps+"?watch=1&labelSelector=app%3Didle&resourceVersion="+revision(c))
	slow, err := tls.Dial("tcp", strings.TrimPrefix(c.url, "https://"), &tls.Config{RootCAs: c.ca.pool, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprintf(slow, "GET %s?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", configMaps, adminToken)
	big := strings.Repeat("x", 900<<10)
	c.configMap("big", "0")
	dropped := func() bool { return strings.Contains(c.log.String(), "watch client dropped") }
	for end, i := time.Now().Add(patience), 0; !dropped(); i++ {
		if time.Now().After(end) {
			t.Fatal("the client that does not read is still served")
		}
		c.must("PATCH", configMaps+"/big", fmt.Sprintf(`{"data":{"key":"%d%s"}}`, i, big))
	}
	c.configMap("a", "idle") // more than the limit after the idle watch began
	idle.want("ADDED a")
}
