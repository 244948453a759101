package resource_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/resource"
)

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range resource.All() {
		t.Run(r.GroupResource().String(), func(t *testing.T) {
			checkEntry(t, r)
			if r.Stored == nil && seen[r.StoreKind()] {
				t.Errorf("store kind %s twice", r.StoreKind())
			}
			seen[r.StoreKind()] = true
		})
	}
	if len(seen) < 15 {
		t.Errorf("%d kinds", len(seen))
	}
}

func checkEntry(t *testing.T, r *resource.Resource) {
	t.Helper()
	if resource.Lookup(r.GVK.Group, r.GVK.Version, r.Plural) != r || resource.ForKind(r.GVK) != r || resource.ForObject(r.New()) != r {
		t.Error("not found by path, kind or type")
	}
	if !slices.IsSorted(r.Verbs) || !slices.IsSortedFunc(r.Subresources, func(a, b resource.Subresource) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("verbs or subresources are not sorted")
	}
	if r.Singular == "" || r.Plural == r.Singular && r.Plural != "endpoints" {
		t.Errorf("singular %q", r.Singular)
	}
	if gvks, _, err := resource.Scheme.ObjectKinds(r.New()); err != nil || gvks[0] != r.GVK {
		t.Errorf("scheme says %v, %v", gvks, err)
	}
	if gvks, _, err := resource.Scheme.ObjectKinds(r.NewList()); err != nil || gvks[0] != r.ListGVK() {
		t.Errorf("scheme says %v, %v", gvks, err)
	}
	for _, s := range r.Subresources {
		if s.GVK.Kind != r.GVK.Kind && !resource.Scheme.Recognizes(s.GVK) {
			t.Errorf("body of %s is not on the scheme", s.Name)
		}
	}
}

func TestNames(t *testing.T) {
	for word, kind := range map[string]string{
		"po": "Pod", "Pods": "Pod", "pod": "Pod", "deploy": "Deployment", "deployments.apps": "Deployment", "ReplicaSet": "ReplicaSet",
		"ev": "Event", "move": "MovePlan", "nodeinventories.fleet.skerry.dev": "NodeInventory", "endpoints": "Endpoints",
	} {
		if r := resource.ForName(word); r == nil || r.GVK.Kind != kind {
			t.Errorf("%s: got %v, want %s", word, r, kind)
		}
	}
	if r := resource.ForName("gadgets"); r != nil {
		t.Errorf("gadgets: got %v", r.GVK)
	}
	if r := resource.ForObject(&metav1.Status{}); r != nil {
		t.Errorf("Status: got %v", r.GVK)
	}
	if got := resource.Lookup("apps", "v1", "deployments").StoreKind(); got != "deployments.apps" {
		t.Errorf("store kind %q", got)
	}
	if got := resource.Lookup("events.k8s.io", "v1", "events").StoreKind(); got != "events" {
		t.Errorf("store kind of the alias %q", got)
	}
	if r := resource.ForStoreKind("events"); r == nil || r.GVK.Group != "" {
		t.Errorf("events are kept as %v", r)
	}
}

// The golden files of k8s.io/api hold one object of every kind with every field set: what we store of it must be what
// upstream stores, to the byte.
func TestUpstreamGoldenFiles(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/api").Output()
	if err != nil {
		t.Fatalf("find module k8s.io/api: %v", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "testdata", "HEAD")
	for _, r := range resource.All() {
		if r.GVK.Group == api.Group {
			continue
		}
		group := r.GVK.Group
		if group == "" {
			group = "core"
		}
		t.Run(r.GroupResource().String(), func(t *testing.T) {
			checkGolden(t, r, filepath.Join(dir, group+"."+r.GVK.Version+"."+r.GVK.Kind))
		})
	}
}

func checkGolden(t *testing.T, r *resource.Resource, base string) {
	t.Helper()
	stored := read(t, base+".pb")
	var text bytes.Buffer // without blanks: a ControllerRevision keeps its data as it was sent
	if err := json.Compact(&text, read(t, base+".json")); err != nil {
		t.Fatal(err)
	}
	obj, err := resource.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if obj.GetObjectKind().GroupVersionKind() != r.GVK {
		t.Errorf("decoded as %v", obj.GetObjectKind().GroupVersionKind())
	}
	again, err := resource.Encode(obj)
	if err != nil || !bytes.Equal(again, stored) {
		t.Errorf("encoded anew: %d bytes, upstream's are %d; err %v", len(again), len(stored), err)
	}
	fromText, err := resource.Decode(text.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromText, obj); diff != "" {
		t.Errorf("JSON and protobuf differ: %s", diff)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file) //nolint:gosec // in the module cache
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOwnKindsAreStoredAsJSON(t *testing.T) {
	move := &api.MovePlan{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Spec: api.MovePlanSpec{From: "n1", To: "n2", Gain: 0.25}}
	value, err := resource.Encode(move)
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(value) || !bytes.Contains(value, []byte(`"apiVersion":"fleet.skerry.dev/v1alpha1"`)) {
		t.Errorf("stored %s", value)
	}
	if move.Kind != "" {
		t.Error("encode changed the object")
	}
	obj, err := resource.Decode(value)
	if err != nil {
		t.Fatal(err)
	}
	move.SetGroupVersionKind(api.SchemeGroupVersion.WithKind("MovePlan"))
	if diff := cmp.Diff(runtime.Object(move), obj); diff != "" {
		t.Error(diff)
	}
}

func TestEventConversionLosesNothing(t *testing.T) {
	alias := resource.Lookup("events.k8s.io", "v1", "events")
	now := metav1.Unix(1700000000, 0)
	event := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "e", Labels: map[string]string{"a": "b"}},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p"}, Related: &corev1.ObjectReference{Kind: "Node", Name: "n"},
		Reason: "R", Message: "m", Type: "Normal", Action: "Act", Count: 3, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "c", Host: "h"}, EventTime: metav1.NewMicroTime(now.Time),
		Series: &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(now.Time)}, ReportingController: "rc", ReportingInstance: "ri",
	}
	shown, err := alias.FromStored(event)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := shown.(*eventsv1.Event); !ok || e.Note != "m" || e.APIVersion != "events.k8s.io/v1" {
		t.Errorf("shown %+v", shown)
	}
	back, err := alias.ToStored(shown)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(runtime.Object(event), back); diff != "" {
		t.Error(diff)
	}
	if _, err := alias.ToStored(&corev1.Pod{}); err == nil {
		t.Error("converted a pod")
	}
}

func TestDecodeRefuses(t *testing.T) {
	foreign := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Gadget"}
	unknown, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: foreign.GroupVersion().String(), Kind: foreign.Kind}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ data, words string }{
		"nothing":          {"", "neither protobuf nor JSON"},
		"text":             {"hello", "neither protobuf nor JSON"},
		"a cut envelope":   {"k8s\x00\x0a\xff", "envelope"},
		"a foreign kind":   {"k8s\x00" + string(unknown), "example.com/v1, Kind=Gadget is not a served kind"},
		"a foreign object": {`{"apiVersion":"v1","kind":"Gadget"}`, "v1, Kind=Gadget is not a served kind"},
		"a bad version":    {`{"apiVersion":"a/b/c","kind":"Pod"}`, "unexpected GroupVersion string"},
	} {
		t.Run(name, func(t *testing.T) {
			obj, err := resource.Decode([]byte(test.data))
			if err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("got %v, %v; want an error with %q", obj, err, test.words)
			}
		})
	}
	if _, err := resource.Encode(&metav1.Status{}); err == nil {
		t.Error("encoded a Status")
	}
}

func FuzzDecode(f *testing.F) {
	pod, err := resource.Encode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pod)
	f.Add([]byte(`{"apiVersion":"fleet.skerry.dev/v1alpha1","kind":"MovePlan","spec":{"gain":1e400}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, err := resource.Decode(data)
		if err != nil {
			return
		}
		again, err := resource.Encode(obj)
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		if _, err := resource.Decode(again); err != nil {
			t.Fatalf("encoded but not decoded: %v", err)
		}
	})
}

func BenchmarkDecodePod(b *testing.B) {
	data, err := resource.Encode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := resource.Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
