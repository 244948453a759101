package apiserver_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/view"
)

const (
	jsonPatch      = "application/json-patch+json"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// Each is answered with a Status of upstream's code and reason, and changes nothing. Where upstream says of a patch only
// that it was rejected, the words are ours.
func TestBadInput(t *testing.T) {
	c := start(t)
	c.configMap("a", "x")
	before := c.get(configMaps + "/a").String()
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	operations := "[" + strings.Repeat(`{"op":"add","path":"/data/x","value":"y"},`, 10_000) + `{"op":"add","path":"/data/x","value":"y"}]`
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	must(t, errors.Join(func() error { _, err := z.Write(make([]byte, 64<<20)); return err }(), z.Close()))
	for name, x := range map[string]struct {
		method, path, body, media string
		code                      int
		want                      string
	}{
		"body too large":            {"POST", "", strings.Repeat(" ", 3<<20+1), "application/json", 413, "Request entity too large: limit is 3145728"},
		"patch too large":           {"PATCH", "/a", strings.Repeat(" ", 3<<20+1), mergePatch, 413, "Request entity too large: limit is 3145728"},
		"too many operations":       {"PATCH", "/a", operations, jsonPatch, 413, "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"},
		"JSON patch does not apply": {"PATCH", "/a", `[{"op":"test","path":"/data/key","value":"other"}]`, jsonPatch, 422, "the patch does not fit the object: "},
		"JSON patch of nothing":     {"PATCH", "/a", `[{"op":"remove","path":"/data/nope"}]`, jsonPatch, 422, "the patch does not fit the object: "},
		"JSON patch is none":        {"PATCH", "/a", `{"data":{}}`, jsonPatch, 400, "error decoding patch"},
		"merge patch is none":       {"PATCH", "/a", `[1]`, mergePatch, 400, "cannot unmarshal array"},
		"merge patch of a type":     {"PATCH", "/a", `{"data":7}`, mergePatch, 422, "cannot unmarshal number into Go struct field ConfigMap.data"},
		"strategic patch is none":   {"PATCH", "/a", `[1]`, strategicPatch, 400, "cannot unmarshal array"},
		"strategic directive":       {"PATCH", "/a", `{"metadata":{"$patch":"nonsense"}}`, strategicPatch, 422, "unknown patch type: nonsense"},
		"apply without a manager":   {"PATCH", "/a", `{"apiVersion":"v1","kind":"ConfigMap"}`, applyPatch["Content-Type"], 422, "fieldManager: Required value"},
		"apply of another kind":     {"PATCH", "/a?fieldManager=m", `{"apiVersion":"v1","kind":"Secret"}`, applyPatch["Content-Type"], 400, ""},
		"deep JSON":                 {"POST", "", deep, "application/json", 400, ""},
		"deep YAML":                 {"POST", "", strings.Repeat("[", 100_000), "application/yaml", 400, ""},
		"deep merge patch":          {"PATCH", "/a", deep, mergePatch, 400, ""},
		"deep strategic patch":      {"PATCH", "/a", deep, strategicPatch, 400, ""},
		"deep apply":                {"PATCH", "/a?fieldManager=m", deep, applyPatch["Content-Type"], 400, ""},
		"YAML bomb":                 {"POST", "", yamlBomb(), "application/yaml", 400, ""},
		"gzip bomb":                 {"POST", "", bomb.String(), "application/json", 400, ""},
		"name is no DNS name":       {"POST", "", `{"metadata":{"name":"Not_DNS"}}`, "application/json", 422, `ConfigMap "Not_DNS" is invalid: metadata.name: Invalid value: "Not_DNS": a lowercase RFC 1123 subdomain must consist of`},
		"data too long":             {"POST", "", fmt.Sprintf(`{"metadata":{"name":"b"},"data":{"k":%q}}`, strings.Repeat("x", 1<<20+1)), "application/json", 422, `ConfigMap "b" is invalid: []: Too long: may not be more than 1048576 bytes`},
		"more than can be stored":   {"POST", "", fmt.Sprintf(`{"metadata":{"name":"b","annotations":{"k":%q}}}`, strings.Repeat("x", 2<<20)), "application/json", 422, "metadata.annotations: Too long: may not be more than 262144 bytes"},
		"encoded slashes":           {"GET", "/..%2f..%2fsecrets%2fx", "", "", 404, "could not find the requested resource"},
		"revision of the future":    {"GET", "?resourceVersion=1000000", "", "", 504, "Too large resource version: 1000000, current:"},
		"revision beyond numbers":   {"GET", "?resourceVersion=18446744073709551616", "", "", 400, "invalid resource version"},
		"watch of the future":       {"GET", "?watch=1&resourceVersion=1000000", "", "", 504, "Too large resource version: 1000000, current:"},
		"limit beyond numbers":      {"GET", "?limit=99999999999999999999", "", "", 400, ""},
		"continue is nonsense":      {"GET", "?limit=1&continue=%00%ff", "", "", 400, "continue key is not valid"},
		"selector is nonsense":      {"GET", "?labelSelector=" + strings.Repeat("(", 10_000), "", "", 400, ""},
		"time out is nonsense":      {"GET", "?watch=1&timeoutSeconds=soon", "", "", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.do(x.method, configMaps+x.path, x.body, header{"Content-Type": x.media}).status(t)
			if int(s.Code) != x.code || !strings.Contains(s.Message, x.want) {
				t.Errorf("got %d %s: %.300s\nwant %d %s", s.Code, s.Reason, s.Message, x.code, x.want)
			}
			if x.code == 504 && (s.Reason != metav1.StatusReasonTimeout || s.Details == nil || s.Details.RetryAfterSeconds != 1 || len(s.Details.Causes) != 1 || s.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge) {
				t.Errorf("details %+v", s.Details)
			}
		})
	}
	if after := c.get(configMaps + "/a").String(); after != before {
		t.Errorf("the object has changed: %s", after)
	}
	if load := c.server.Load(); load.Requests != 0 || load.Watches != 0 || load.BodyBytes != 0 {
		t.Errorf("something is left: %+v", load)
	}
}

// yamlBomb would be a billion strings.
func yamlBomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return b.String()
}

// Headers without end are answered with 431 by both protocols, and not kept.
func TestEndlessHeaders(t *testing.T) {
	c := start(t)
	conn := c.raw("http/1.1")
	go func() {
		fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n")
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(conn, "X-%d: %s\r\n", i, strings.Repeat("y", 1000)); err != nil {
				return
			}
		}
	}()
	code, _, err := answerOn(bufio.NewReader(conn))
	if err != nil || code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %d, %v", code, err)
	}
	f := c.frames()
	go io.Copy(io.Discard, f.conn)
	must(t, f.request(1, "/healthz"))
	for range 100_000 { // a frame after another, none of which is the last
		if err = f.WriteContinuation(1, false, bytes.Repeat([]byte{0}, 1000)); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("100 MB of headers were taken")
	}
}

// A body without end is cut at the limit, though no length was announced.
func TestEndlessBody(t *testing.T) {
	c := start(t)
	conn := c.raw("http/1.1")
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", configMaps, adminToken)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 64<<10, strings.Repeat(" ", 64<<10))
	go func() {
		for {
			if _, err := io.WriteString(conn, chunk); err != nil {
				return
			}
		}
	}()
	code, answer, err := answerOn(bufio.NewReader(conn))
	must(t, err)
	body, err := io.ReadAll(answer)
	if code != 413 || !strings.Contains(string(body), "Request entity too large: limit is 3145728") {
		t.Errorf("%d %s, %v", code, body, err)
	}
}

// The bodies of all requests together are bounded, however many come at once.
func TestManyLargeBodies(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.BodyLimit = 3 * time.Second })
	goroutines := runtime.NumGoroutine()
	body := `{"metadata":{"name":"b"},"data":{"k":"` + strings.Repeat("x", 3<<20-100)
	var group sync.WaitGroup
	for range 80 {
		group.Go(func() {
			r, w := io.Pipe()
			defer w.Close()
			go io.WriteString(w, body) // all but the end, until the pipe is closed
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", c.url+configMaps, r)
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+adminToken)
			if resp, err := c.client.Do(req); err == nil {
				if resp.StatusCode != 429 && resp.StatusCode != 400 {
					t.Errorf("code %d", resp.StatusCode)
				}
				resp.Body.Close()
			}
		})
	}
	most := int64(0)
	until(t, "bodies are still held", func() bool {
		load := c.server.Load()
		most = max(most, load.BodyBytes)
		return load.Requests == 0 && load.BodyBytes == 0 && most > 0
	})
	group.Wait()
	t.Logf("at most %d MiB at once", most>>20)
	if most > 96<<20+80*64<<10 {
		t.Errorf("%d bytes at once", most)
	}
	if a := c.get(configMaps); a.code != 200 {
		t.Errorf("afterwards: %s", a)
	}
	c.client.CloseIdleConnections()
	until(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines+10 })
}

// A client that asks for a large list and reads nothing of it is left.
func TestListThatNobodyReads(t *testing.T) {
	c := start(t, func(c *apiserver.Config) { c.AnswerLimit = 3 * time.Second })
	big := strings.Repeat("x", 900<<10)
	for i := range 8 {
		c.must("POST", configMaps, fmt.Sprintf(`{"metadata":{"name":"big-%d"},"data":{"k":%q}}`, i, big))
	}
	conn := c.raw("http/1.1")
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", configMaps, adminToken)
	c.client.CloseIdleConnections()
	until(t, "the list is never begun", func() bool { return c.server.Load().Requests > 0 })
	until(t, "the client is still served", func() bool { return c.server.Load().Requests == 0 })
}

// reflector follows ConfigMaps as client-go does: from the last revision that it has heard of, again and again.
type reflector struct {
	c        *cluster
	revision string
	seen     []string // the values of the object's key, in order
	relists  int
}

// read reads events until n are seen or the watch ends.
func (r *reflector) read(n int, stall func()) {
	conn := r.c.raw("http/1.1")
	defer conn.Close() // not the body, whose end that would wait for
	fmt.Fprintf(conn, "GET %s?watch=1&resourceVersion=%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", configMaps, r.revision, adminToken)
	_, body, err := answerOn(bufio.NewReaderSize(conn, 16))
	must(r.c.t, err)
	decoder := json.NewDecoder(body)
	for first := true; len(r.seen) < n; first = false {
		var e struct {
			Type   string
			Object struct {
				Metadata metav1.ObjectMeta
				Data     map[string]string
				Code     int
			}
		}
		if err := decoder.Decode(&e); err != nil {
			return // cut off, maybe in the middle of an event
		}
		if e.Type == "ERROR" {
			if e.Object.Code != 410 {
				r.c.t.Fatalf("error %+v", e)
			}
			r.list()
			return
		}
		r.revision = e.Object.Metadata.ResourceVersion
		number, _, _ := strings.Cut(e.Object.Data["key"], " ")
		r.seen = append(r.seen, number)
		if first {
			stall()
		}
	}
}

func (r *reflector) list() {
	r.relists++
	var list struct {
		Metadata metav1.ListMeta
		Items    []struct{ Data map[string]string }
	}
	r.c.get(configMaps).into(r.c.t, &list)
	r.revision = list.Metadata.ResourceVersion
	number, _, _ := strings.Cut(list.Items[0].Data["key"], " ")
	r.seen = append(r.seen, number)
}

// A watch client that stalls is dropped, comes back from where it was, and has in the end heard everything once.
func TestSlowWatcherResumesWithoutLossOrRepeat(t *testing.T) {
	const changes = 30
	c := start(t, func(c *apiserver.Config) { c.StreamLimit = 300 * time.Millisecond })
	c.configMap("a", "x")
	r := &reflector{c: c, revision: revision(c)}
	big := strings.Repeat("x", 700<<10)
	for i := range changes {
		c.must("PATCH", configMaps+"/a", fmt.Sprintf(`{"data":{"key":"%d %s"}}`, i, big))
	}
	drops := func() int { return strings.Count(c.log.String(), "watch client dropped") }
	for round := 0; len(r.seen) < changes; round++ {
		have := drops()
		r.read(changes, func() {
			if round == 0 {
				until(t, "a client that does not read is still served", func() bool { return drops() > have })
			}
		})
	}
	for i, n := range r.seen {
		if n != fmt.Sprint(i) {
			t.Fatalf("event %d has number %s: %v", i, n, r.seen)
		}
	}
	if drops() == 0 || r.relists > 0 {
		t.Errorf("%d drops, %d relists: nothing was tested", drops(), r.relists)
	}
}

// One that was away for longer than the history reaches is told 410 Expired, lists, and is up to date.
func TestWatcherBehindTheHistoryListsAgain(t *testing.T) {
	c := startWith(t, []view.Option{view.History(4)})
	c.configMap("a", "x")
	r := &reflector{c: c, revision: revision(c)}
	for i := range 20 {
		c.must("PATCH", configMaps+"/a", fmt.Sprintf(`{"data":{"key":"%d x"}}`, i))
	}
	r.read(1, func() {})
	if r.relists != 1 || len(r.seen) != 1 || r.seen[0] != "19" {
		t.Errorf("%+v", r)
	}
	c.must("PATCH", configMaps+"/a", `{"data":{"key":"20 x"}}`)
	if r.read(2, func() {}); len(r.seen) != 2 || r.seen[1] != "20" {
		t.Errorf("after the list: %+v", r)
	}
}
