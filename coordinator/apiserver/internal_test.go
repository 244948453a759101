package apiserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/apiserver/table"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

func TestNegotiate(t *testing.T) {
	const protobuf, tableV1 = "application/vnd.kubernetes.protobuf", "application/json;as=Table;v=v1;g=meta.k8s.io"
	tests := []struct {
		accept    string
		protobuf  bool
		media, as string // empty media: 406
	}{
		{"", true, typeJSON, ""},
		{"*/*", true, typeJSON, ""},
		{"application/json, */*", true, typeJSON, ""},
		{"application/yaml", true, typeYAML, ""},
		{protobuf, true, typeProtobuf, ""},
		{protobuf, false, "", ""},
		{protobuf + ",application/json", false, typeJSON, ""},
		{"application/json;q=0.5," + protobuf, true, typeProtobuf, ""},
		{tableV1 + ",application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", true, typeJSON, "Table"},
		{"application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", true, typeJSON, ""},
		{"application/json;as=Table;v=v1beta1;g=meta.k8s.io", true, "", ""},
		{protobuf + ";as=PartialObjectMetadata;v=v1;g=meta.k8s.io", true, typeProtobuf, "PartialObjectMetadata"},
		{"application/json;as=Nonsense;v=v1;g=meta.k8s.io", true, "", ""},
		{"text/csv", true, "", ""},
		{"text/csv;q=1, application/json;q=0", true, "", ""},
		{";;;,application/json", true, typeJSON, ""},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tt.accept != "" {
			r.Header.Set("Accept", tt.accept)
		}
		f, err := negotiate(r, offer{protobuf: tt.protobuf, shapes: offerOne})
		if f.media != tt.media || f.as != tt.as || (err != nil) != (tt.media == "") {
			t.Errorf("%q: got %+v, %v", tt.accept, f, err)
		}
	}
}

func TestPretty(t *testing.T) {
	tests := []struct {
		url, agent, accept string
		want               bool
	}{
		{"/", "Go-http-client/1.1", "", false},
		{"/", "curl/8.0", "", true},
		{"/?pretty=false", "curl/8.0", "", false},
		{"/?pretty=1", "x", "", true},
		{"/", "x", "application/json;pretty=1", true},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, tt.url, nil)
		r.Header.Set("User-Agent", tt.agent)
		r.Header.Set("Accept", tt.accept)
		if f, err := negotiate(r, offer{}); err != nil || f.pretty != tt.want {
			t.Errorf("%+v: pretty %v, %v", tt, f.pretty, err)
		}
	}
}

func TestParseTarget(t *testing.T) {
	tests := map[string]target{
		"/api/v1/pods":                                       {version: "v1", plural: "pods"},
		"/api/v1/namespaces":                                 {version: "v1", plural: "namespaces"},
		"/api/v1/namespaces/x":                               {version: "v1", plural: "namespaces", namespace: "x", name: "x"},
		"/api/v1/namespaces/x/status":                        {version: "v1", plural: "namespaces", namespace: "x", name: "x", subresource: "status"},
		"/api/v1/namespaces/x/finalize":                      {version: "v1", plural: "namespaces", namespace: "x", name: "x", subresource: "finalize"},
		"/api/v1/namespaces/x/pods":                          {version: "v1", plural: "pods", namespace: "x"},
		"/api/v1/namespaces/x/pods/p":                        {version: "v1", plural: "pods", namespace: "x", name: "p"},
		"/api/v1/namespaces/x/pods/p/log":                    {version: "v1", plural: "pods", namespace: "x", name: "p", subresource: "log"},
		"/apis/apps/v1/deployments":                          {group: "apps", version: "v1", plural: "deployments"},
		"/apis/apps/v1/namespaces/x/deployments/d/scale":     {group: "apps", version: "v1", plural: "deployments", namespace: "x", name: "d", subresource: "scale"},
		"/apis/fleet.skerry.dev/v1alpha1/nodeinventories/n1": {group: "fleet.skerry.dev", version: "v1alpha1", plural: "nodeinventories", name: "n1"},
	}
	for path, want := range tests {
		if got, ok := parseTarget(path); !ok || got != want {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"", "/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz", "/api/v1/namespaces/x/pods/p/log/more", "/api/v1//pods", "/apis/apps/v1/namespaces/x"} {
		if got, ok := parseTarget(path); ok {
			t.Errorf("%q is taken for %+v", path, got)
		}
	}
}

// No path makes a target that names an object outside the namespace its URL says.
func FuzzParseTarget(f *testing.F) {
	f.Add("/api/v1/namespaces/x/pods/p/log")
	f.Add("/apis/a/b/namespaces/x")
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := parseTarget(path)
		if !ok {
			return
		}
		for _, part := range []string{got.group, got.version, got.plural, got.namespace, got.name, got.subresource} {
			if strings.Contains(part, "/") || !strings.Contains(path, part) {
				t.Fatalf("%q gives %+v", path, got)
			}
		}
		if got.plural == "" || got.subresource != "" && got.name == "" {
			t.Fatalf("%q gives %+v", path, got)
		}
	})
}

func FuzzWishes(f *testing.F) {
	f.Add("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.3")
	f.Fuzz(func(t *testing.T, accept string) {
		last := 1e300
		for _, w := range wishes([]string{accept}) {
			if w.q <= 0 || w.q > last {
				t.Fatalf("%q: wishes out of order or unwanted: %+v", accept, w)
			}
			last = w.q
		}
	})
}

func FuzzContinueToken(f *testing.F) {
	token, err := place{placeVersion, 7, "default", "a"}.token()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Fuzz(func(t *testing.T, token string) {
		p, err := parsePlace(token)
		if err != nil {
			if status, internal := statusOf(err); internal || status.Code != http.StatusBadRequest {
				t.Fatalf("%q: %v", token, err)
			}
			return
		}
		again, err := p.token()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := parsePlace(again); err != nil || q != p {
			t.Fatalf("%+v is read back as %+v, %v", p, q, err)
		}
	})
}

func FuzzDecodeOptions(f *testing.F) {
	f.Add(typeJSON, []byte(`{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":3}`))
	f.Add(typeYAML, []byte("gracePeriodSeconds: 3"))
	f.Add(typeProtobuf, []byte("k8s\x00\x0a\x00"))
	kind := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	f.Fuzz(func(t *testing.T, media string, data []byte) {
		var o metav1.DeleteOptions
		if err := decodeAs(media, data, &o, kind); err != nil {
			if _, internal := statusOf(err); internal {
				t.Fatalf("a client's mistake reads as ours: %v", err)
			}
		} else if o.Kind != "DeleteOptions" {
			t.Fatalf("decoded a %q", o.Kind)
		}
	})
}

// Selectors and the other parameters of lists: what is read selects without a fault, what is not is the client's mistake.
func FuzzListOptions(f *testing.F) {
	for _, q := range []string{
		"labelSelector=a%3Db,c!%3Dd,e+in+(f,g),!h&fieldSelector=spec.nodeName%3Dn,metadata.name!%3Dx", "limit=5&continue=x&resourceVersion=7",
		"watch=1&timeoutSeconds=3&allowWatchBookmarks=true", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&watch=1", "fieldSelector=a%5C%3Db%3Dc",
	} {
		f.Add(q)
	}
	pods := resource.Lookup("", "v1", "pods")
	item, err := view.NewItem(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", Labels: map[string]string{"a": "b"}}}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		query, err := url.ParseQuery(text)
		if err != nil {
			return // net/http refuses it
		}
		c := &call{target: target{version: "v1", plural: "pods"}, verb: "list", resource: pods, query: query}
		o, err := c.listOptions()
		var sel selection
		if err == nil {
			sel, err = newSelection(pods, o)
		}
		if err == nil {
			_, err = parseRevision(o.ResourceVersion)
		}
		if err != nil {
			if status, internal := statusOf(err); internal || status.Code < 400 || status.Code > 499 {
				t.Fatalf("%q: %+v", text, status)
			}
			return
		}
		if n := len(sel.choose([]*view.Item{item})); n == 1 != sel.matches(item) {
			t.Fatalf("%q chooses %d", text, n)
		}
	})
}

// Every kind has as many cells as columns, and kinds of the table have columns of their own where people look at them.
func TestEveryKindHasARow(t *testing.T) {
	for _, r := range resource.All() {
		if r.Stored != nil {
			continue
		}
		layout := table.For(r.GVK.GroupKind())
		row := layout.Row(r.New(), metav1.Now().Time)
		if len(row.Cells) != len(layout.Columns()) {
			t.Errorf("%s: %d cells for %d columns", r.GVK.Kind, len(row.Cells), len(layout.Columns()))
		}
		if plain := layout.Columns(); len(plain) == 2 && plain[1].Name == "Age" && r.GVK.Kind != "ServiceAccount" {
			t.Errorf("%s has no columns of its own", r.GVK.Kind)
		}
	}
}
