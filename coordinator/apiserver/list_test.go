package apiserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/resource"
)

const configMaps = "/api/v1/namespaces/default/configmaps"

func names(list corev1.ConfigMapList) []string {
	out := []string{}
	for _, i := range list.Items {
		out = append(out, i.Name)
	}
	return out
}

func TestListInChunksIsOneList(t *testing.T) {
	c := start(t)
	for i := range 5 {
		c.configMap(fmt.Sprintf("m%d", i), "v")
	}
	var first, second, last corev1.ConfigMapList
	c.get(configMaps+"?limit=2").into(t, &first)
	if first.Continue == "" || first.RemainingItemCount == nil || *first.RemainingItemCount != 3 {
		t.Fatalf("first chunk: %+v", first.ListMeta)
	}
	// What happens in between must not show, nor shift what comes next.
	c.must("DELETE", configMaps+"/m3", "")
	c.configMap("m1a", "late")
	c.get(configMaps+"?limit=2&continue="+first.Continue).into(t, &second)
	c.get(configMaps+"?limit=2&continue="+second.Continue).into(t, &last)
	got := slices.Concat(names(first), names(second), names(last))
	if want := []string{"m0", "m1", "m2", "m3", "m4"}; !slices.Equal(got, want) {
		t.Errorf("chunks give %v, want %v", got, want)
	}
	if second.ResourceVersion != first.ResourceVersion || last.ResourceVersion != first.ResourceVersion {
		t.Errorf("revisions %s, %s, %s: want one", first.ResourceVersion, second.ResourceVersion, last.ResourceVersion)
	}
	if last.Continue != "" || last.RemainingItemCount != nil {
		t.Errorf("last chunk goes on: %+v", last.ListMeta)
	}
}

// A client that comes back for the rest too late is told so, and may go on in the present list.
func TestListInChunksExpires(t *testing.T) {
	var later atomic.Int64
	c := start(t, func(c *apiserver.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	for i := range 5 {
		c.configMap(fmt.Sprintf("m%d", i), "v")
	}
	var first, second, last corev1.ConfigMapList
	c.get(configMaps+"?limit=2").into(t, &first)
	c.configMap("m2a", "late")
	rest := configMaps + "?limit=2&continue="
	later.Store(int64(4 * time.Minute))
	c.get(rest+first.Continue).into(t, &second)
	later.Store(int64(6 * time.Minute)) // being used does not keep it
	s := c.get(rest + first.Continue).status(t)
	if s.Code != 410 || s.Reason != metav1.StatusReasonExpired || s.Continue == "" || !strings.HasPrefix(s.Message, "The provided continue parameter is too old to display a consistent list result.") {
		t.Fatalf("too late: %+v", s)
	}
	c.get(rest+s.Continue).into(t, &second)
	c.get(rest+second.Continue).into(t, &last)
	if got, want := slices.Concat(names(second), names(last)), []string{"m2", "m2a", "m3", "m4"}; !slices.Equal(got, want) {
		t.Errorf("the rest is %v, want %v", got, want)
	}
	if second.ResourceVersion == first.ResourceVersion || last.ResourceVersion != second.ResourceVersion || *second.RemainingItemCount != 2 {
		t.Errorf("revisions %s, then %s and %s", first.ResourceVersion, second.ResourceVersion, last.ResourceVersion)
	}
}

func TestListSelects(t *testing.T) {
	c := start(t)
	c.configMap("a", "red")
	c.configMap("b", "blue")
	c.must("POST", "/api/v1/namespaces/kube-system/configmaps", `{"metadata":{"name":"c","labels":{"app":"red"}}}`)
	tests := map[string][]string{
		configMaps:                              {"a", "b"},
		configMaps + "?labelSelector=app%3Dred": {"a"},
		configMaps + "?labelSelector=app+in+(red,blue),app!%3Dred":                {"b"},
		configMaps + "?fieldSelector=metadata.name%3Db":                           {"b"},
		configMaps + "?fieldSelector=metadata.name!%3Db":                          {"a"},
		"/api/v1/configmaps?labelSelector=app%3Dred":                              {"a", "c"},
		"/api/v1/configmaps?fieldSelector=metadata.namespace%3Dkube-system":       {"c"},
		configMaps + "?limit=1&labelSelector=" + url.QueryEscape("app in (blue)"): {"b"},
		configMaps + "?resourceVersion=0":                                         {"a", "b"},
		configMaps + "?resourceVersion=1&resourceVersionMatch=NotOlderThan":       {"a", "b"},
	}
	for path, want := range tests {
		var list corev1.ConfigMapList
		if c.get(path).into(t, &list); !slices.Equal(names(list), want) {
			t.Errorf("%s: got %v, want %v", path, names(list), want)
		}
	}
}

func TestListAtRevision(t *testing.T) {
	c := start(t)
	c.configMap("a", "1")
	var now corev1.ConfigMapList
	c.get(configMaps).into(t, &now)
	exact := configMaps + "?resourceVersionMatch=Exact&resourceVersion="
	if a := c.get(exact + now.ResourceVersion); a.code != 200 {
		t.Errorf("exact present revision: %d %s", a.code, a)
	}
	c.configMap("b", "1")
	if s := c.get(exact + now.ResourceVersion).status(t); s.Code != 410 || s.Reason != metav1.StatusReasonExpired {
		t.Errorf("exact old revision: %+v", s)
	}
	s := c.get(configMaps + "?resourceVersion=1000000").status(t)
	if s.Code != 504 || s.Details == nil || len(s.Details.Causes) != 1 || s.Details.Causes[0].Type != metav1.CauseTypeResourceVersionTooLarge {
		t.Errorf("revision of the future: %+v", s)
	}
}

// Every served kind must be listed in every form that clients ask for, empty and with an object.
func TestEveryKindInEveryForm(t *testing.T) {
	c := start(t)
	forms := []string{
		"application/json", "application/yaml", "application/vnd.kubernetes.protobuf,application/json",
		"application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
		"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
	}
	for _, r := range resource.All() {
		for _, accept := range forms {
			a := c.get(listPath(r), header{"Accept": accept})
			if a.code != 200 || len(a.body) == 0 {
				t.Errorf("%s as %s: %d %s", r.GroupResource(), accept, a.code, a)
			}
		}
	}
}

func listPath(r *resource.Resource) string {
	if r.GVK.Group == "" {
		return "/api/v1/" + r.Plural
	}
	return "/apis/" + r.GVK.GroupVersion().String() + "/" + r.Plural
}

func TestTableOfListAndIncludeObject(t *testing.T) {
	c := start(t)
	c.configMap("a", "x")
	accept := header{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"}
	kinds := map[string]string{"": "PartialObjectMetadata", "&includeObject=Metadata": "PartialObjectMetadata", "&includeObject=Object": "ConfigMap", "&includeObject=None": ""}
	for query, want := range kinds {
		var table metav1.Table
		c.get(configMaps+"?limit=500"+query, accept).into(t, &table)
		var object metav1.TypeMeta
		if raw := table.Rows[0].Object.Raw; len(raw) > 0 {
			if err := json.Unmarshal(raw, &object); err != nil {
				t.Fatal(err)
			}
		}
		if object.Kind != want || table.Rows[0].Cells[0] != "a" || len(table.ColumnDefinitions) != 3 || table.ResourceVersion == "" {
			t.Errorf("%q: object %q in %+v", query, object.Kind, table)
		}
	}
	if a := c.get(configMaps+"?includeObject=Half", accept); a.code != 400 {
		t.Errorf("unknown includeObject: %d", a.code)
	}
}

func TestProtobufBothWays(t *testing.T) {
	c := start(t)
	var body bytes.Buffer
	serializer := protobufSerializer(t)
	in := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: "pb"}, Data: map[string]string{"a": "b"},
	}
	if err := serializer.Encode(in, &body); err != nil {
		t.Fatal(err)
	}
	pb := header{"Content-Type": "application/vnd.kubernetes.protobuf", "Accept": "application/vnd.kubernetes.protobuf"}
	a := c.must("POST", configMaps, body.String(), pb)
	if got := a.header.Get("Content-Type"); got != "application/vnd.kubernetes.protobuf" {
		t.Errorf("content type %q", got)
	}
	var out corev1.ConfigMap
	decode(t, serializer, a.body, &out)
	if out.Data["a"] != "b" || out.UID == "" {
		t.Errorf("created %+v", out)
	}
	var list corev1.ConfigMapList
	decode(t, serializer, c.get(configMaps, pb).body, &list)
	if len(list.Items) != 1 || list.Items[0].Name != "pb" || list.ResourceVersion == "" {
		t.Errorf("list %+v", list)
	}
	var status metav1.Status
	decode(t, serializer, c.get(configMaps+"/none", pb).body, &status)
	if status.Reason != metav1.StatusReasonNotFound {
		t.Errorf("status %+v", status)
	}
	var options bytes.Buffer
	if err := serializer.Encode(&metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}, DryRun: []string{"All"}}, &options); err != nil {
		t.Fatal(err)
	}
	c.must("DELETE", configMaps+"/pb", options.String(), pb)
	if a := c.get(configMaps + "/pb"); a.code != 200 {
		t.Errorf("a dry run deleted it: %d", a.code)
	}
}

func protobufSerializer(t *testing.T) runtime.Serializer {
	t.Helper()
	info, ok := runtime.SerializerInfoForMediaType(resource.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		t.Fatal("no protobuf serializer")
	}
	return info.Serializer
}

func decode(t *testing.T, s runtime.Decoder, data []byte, into runtime.Object) {
	t.Helper()
	if _, _, err := s.Decode(data, nil, into); err != nil {
		t.Fatalf("decode %T: %v: %q", into, err, data)
	}
}

func TestPartialMetadataInProtobuf(t *testing.T) {
	c := start(t)
	c.configMap("a", "x")
	a := c.get(configMaps, header{"Accept": "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"})
	var unknown runtime.Unknown
	if err := unknown.Unmarshal(bytes.TrimPrefix(a.body, []byte("k8s\x00"))); err != nil {
		t.Fatal(err)
	}
	var list metav1.PartialObjectMetadataList
	if err := list.Unmarshal(unknown.Raw); err != nil {
		t.Fatal(err)
	}
	if unknown.Kind != "PartialObjectMetadataList" || len(list.Items) != 1 || list.Items[0].Name != "a" || list.Items[0].Labels["app"] != "x" {
		t.Errorf("got %s %+v", unknown.Kind, list)
	}
}

func TestWriteIsReadAtOnce(t *testing.T) {
	c := start(t)
	for i := range 50 {
		name := "m" + strconv.Itoa(i)
		c.configMap(name, "v")
		if a := c.get(configMaps + "/" + name); a.code != 200 {
			t.Fatalf("own write not read: %d", a.code)
		}
	}
}
