package ownership_test

import (
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/objects/ownership"
	"skerry.dev/skerry/coordinator/objects/ownership/schema"
	"skerry.dev/skerry/coordinator/resource"
)

func newTracker() *ownership.Tracker {
	return ownership.New(ownership.Rules{
		Default: func(apiruntime.Object) {}, Reset: func(ownership.Target) *fieldpath.Set { return nil },
	})
}

func empty(r *resource.Resource) apiruntime.Object {
	obj := r.New()
	obj.GetObjectKind().SetGroupVersionKind(r.GVK)
	return obj
}

// TestEveryKind: each kind that is served can be applied. A kind without a schema here needs `go generate` in
// coordinator/apiserver/openapi.
func TestEveryKind(t *testing.T) {
	tracker := newTracker()
	for _, r := range resource.All() {
		patch := &unstructured.Unstructured{}
		patch.SetGroupVersionKind(r.GVK)
		patch.SetName("x")
		patch.SetLabels(map[string]string{"a": "b"})
		out, err := tracker.Apply(ownership.Target{Resource: r}, empty(r), patch, "m", false)
		if err != nil {
			t.Errorf("%s: %v", r.GVK, err)
			continue
		}
		if err := tracker.Update(ownership.Target{Resource: r}, out, out.DeepCopyObject(), "n"); err != nil {
			t.Errorf("%s: %v", r.GVK, err)
		}
	}
}

func TestTidy(t *testing.T) {
	tracker := newTracker()
	pods := resource.ForObject(&corev1.Pod{})
	if tracker.Loaded() {
		t.Fatal("loaded before anybody applies")
	}
	if err := tracker.Update(ownership.Target{Resource: pods}, empty(pods), empty(pods), "m"); err != nil {
		t.Fatal(err)
	}
	if tracker.Tidy(time.Now()); !tracker.Loaded() {
		t.Error("dropped while in use")
	}
	if tracker.Tidy(time.Now().Add(time.Hour)); tracker.Loaded() {
		t.Error("kept though idle")
	}
}

// TestSize bounds what the types take: it comes on top of an idle coordinator's memory.
func TestSize(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first one leaves what sync.Pools hold
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) //nolint:gosec // far below the limit
	}
	before := heap()
	types, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	size := heap() - before
	runtime.KeepAlive(types)
	if t.Logf("%d kinds take %d KiB", len(types), size>>10); size > 4<<20 {
		t.Errorf("%d bytes of heap", size)
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte("{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {x: y}}}"), "m", false)
	f.Add([]byte("{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: b, ports: [{containerPort: 1}]}]}}"), "", true)
	f.Add([]byte("{apiVersion: v1, kind: Pod, spec: {containers: [{name: a}, {name: a}]}}"), "m", true)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"managedFields":[{}]},"spec":null}`), "m", false)
	tracker, pods := newTracker(), resource.ForObject(&corev1.Pod{})
	to := ownership.Target{Resource: pods}
	f.Fuzz(func(t *testing.T, manifest []byte, manager string, force bool) {
		patch := &unstructured.Unstructured{Object: map[string]any{}}
		if yaml.Unmarshal(manifest, &patch.Object) != nil {
			return
		}
		out, err := tracker.Apply(to, empty(pods), patch.DeepCopy(), manager, force)
		if err != nil {
			return
		}
		if _, err := tracker.Apply(to, out, patch, manager, force); err != nil {
			t.Errorf("the same manifest again: %v", err)
		}
	})
}
