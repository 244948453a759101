package automation_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"skerry.dev/skerry/coordinator/apiserver/authn"
	"skerry.dev/skerry/coordinator/automation"
	"skerry.dev/skerry/messaging"
	"skerry.dev/skerry/messaging/natstest"
)

type reference struct {
	Ref string `json:"$ref"`
}

// description is what the tests read of an AsyncAPI document.
type description struct {
	AsyncAPI string `json:"asyncapi"`
	Channels map[string]struct {
		Address  string
		Messages map[string]struct {
			Payload struct {
				Required   []string
				Properties map[string]any
			}
		}
		Parameters map[string]struct{ Enum []string }
	}
	Operations map[string]struct {
		Action  string
		Channel reference
		Reply   struct{ Channel reference }
		RBAC    struct {
			APIGroup, Resource string
			Verbs              []string
		} `json:"x-skerry-rbac"`
	}
}

func (d *description) address(channel reference) string {
	return d.Channels[strings.TrimPrefix(channel.Ref, "#/channels/")].Address
}

func describe(t *testing.T, data []byte) *description {
	t.Helper()
	d := &description{}
	if err := json.Unmarshal(data, d); err != nil {
		t.Fatal(err)
	}
	if d.AsyncAPI != "3.0.0" {
		t.Fatalf("asyncapi is %q", d.AsyncAPI)
	}
	return d
}

// TestDocumentIsWhatIsServed: every operation of the document is answered, and every subject that the service has is an
// operation of it.
func TestDocumentIsWhatIsServed(t *testing.T) {
	c := start(t)
	nc := c.endpoints()
	d := describe(t, request(t, nc, "asyncapi", "").Data)
	described := map[string]bool{}
	for name, o := range d.Operations {
		if o.Action != "receive" {
			continue
		}
		address := d.address(o.Channel)
		described[address] = true
		msg, err := nc.Request(address, []byte(`{"name":"nope"}`), patience)
		if err != nil {
			t.Errorf("operation %s at %q: %v", name, address, err)
			continue
		}
		verb := address[strings.LastIndex(address, ".")+1:]
		want := map[string]string{"get": "404", "delete": "404", "apply": "400"}[verb] // none for lists and the document
		if code := msg.Header.Get(micro.ErrorCodeHeader); code != want {
			t.Errorf("%s answers %q (%s), want %q", address, code, msg.Header.Get(micro.ErrorHeader), want)
		}
	}
	msg, err := nc.Request("$SRV.INFO."+automation.ServiceName, nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		t.Fatal(err)
	}
	for _, e := range info.Endpoints {
		if !described[e.Subject] {
			t.Errorf("subject %s is served and not described", e.Subject)
		}
	}
	if len(info.Endpoints) != len(described) || len(described) < 4*20 {
		t.Errorf("%d subjects served, %d described", len(info.Endpoints), len(described))
	}
}

// TestDocumentSaysWhatIsNeeded: every subject but the document's own refuses whoever has not the right that the document
// names.
func TestDocumentSaysWhatIsNeeded(t *testing.T) {
	c := start(t)
	c.endpoints()
	c.people[natstest.UserID("nobody")] = authn.User{Name: "nobody", Groups: []string{authn.GroupAuthenticated}}
	nobody := c.net.UserConn("nobody")
	for name, o := range describe(t, request(t, nobody, "asyncapi", "").Data).Operations {
		if o.Action != "receive" || name == "asyncapi" {
			continue
		}
		msg := request(t, nobody, strings.ReplaceAll(name, "-", "."), `{"name":"nope"}`)
		want := fmt.Sprintf("User \"nobody\" cannot %s resource %q in API group %q", o.RBAC.Verbs[0], o.RBAC.Resource, o.RBAC.APIGroup)
		if said := msg.Header.Get(micro.ErrorHeader); answered(msg) != 403 || !strings.Contains(said, want) {
			t.Errorf("%s: %d %s, want %s", name, answered(msg), said, want)
		}
	}
}

// TestDocumentIsWhatIsTold: changes have the subject and the fields that the document says.
func TestDocumentIsWhatIsTold(t *testing.T) {
	c := start(t)
	c.events()
	data, err := automation.Document("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	changes := describe(t, data).Channels["changes"]
	pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(changes.Address), `([^.]+)`) + "$")
	payload := changes.Messages["change"].Payload
	c.apply(configMap("a", "1"))
	var stream jetstream.Stream
	waitFor(t, "the stream is there", func() bool {
		stream, err = c.js.Stream(t.Context(), messaging.StreamEvents)
		return err == nil
	})
	var last *jetstream.RawStreamMsg
	told := func(verb string) {
		waitFor(t, "a change is told as "+verb, func() bool {
			last, err = stream.GetLastMsgForSubject(t.Context(), messaging.EventSubject("default", "configmaps", "a", verb))
			return err == nil
		})
	}
	told("added") // what existed before is told as one change
	c.apply(configMap("a", "2"))
	told("modified")
	match := pattern.FindStringSubmatch(last.Subject)
	if match == nil || !slices.Contains(changes.Parameters["kind"].Enum, match[2]) || !slices.Contains(changes.Parameters["verb"].Enum, match[4]) {
		t.Errorf("subject %s is not one of %s", last.Subject, changes.Address)
	}
	var fields map[string]any
	if err := json.Unmarshal(last.Data, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range payload.Required {
		if fields[name] == nil {
			t.Errorf("the change lacks %s: %s", name, last.Data)
		}
	}
	for name := range fields {
		if payload.Properties[name] == nil {
			t.Errorf("the change has %s, which is not described", name)
		}
	}
}

// TestDocumentRefersToItself: no reference leads nowhere.
func TestDocumentRefersToItself(t *testing.T) {
	data, err := automation.Document("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	references := regexp.MustCompile(`"\$ref":"#/([^"]+)"`).FindAllSubmatch(data, -1)
	if len(references) < 100 {
		t.Errorf("%d references", len(references))
	}
	for _, r := range references {
		at := root
		for part := range strings.SplitSeq(string(r[1]), "/") {
			node, _ := at.(map[string]any)
			at = node[part]
		}
		if at == nil {
			t.Errorf("#/%s leads nowhere", r[1])
		}
	}
}

func TestDocumentOverHTTP(t *testing.T) {
	h, err := automation.NewDocumentHandler("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path string
		code         int
	}{
		{"GET", automation.DocumentPath, 200},
		{"HEAD", automation.DocumentPath, 200},
		{"POST", automation.DocumentPath, 405},
		{"GET", "/asyncapi/v2", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.code {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.code)
		}
		if tt.method == http.MethodGet && tt.code == http.StatusOK {
			body, err := io.ReadAll(w.Body)
			if err != nil || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("content type %q: %v", w.Header().Get("Content-Type"), err)
			}
			describe(t, body)
		}
	}
}
