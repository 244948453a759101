package objects_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

// What the write path itself costs, without the store and without HTTP.

func benchmarkCreate(b *testing.B, make func(name string) runtime.Object) {
	e := newMemoryEnv(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, err := e.Create(b.Context(), make(fmt.Sprintf("o%d", n)), objects.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreateConfigMap(b *testing.B) {
	benchmarkCreate(b, func(name string) runtime.Object { return configMap(name, map[string]string{"a": "1"}) })
}

func BenchmarkCreatePod(b *testing.B) {
	pod := parse[corev1.Pod](b, podYAML)
	benchmarkCreate(b, func(name string) runtime.Object {
		p := pod.DeepCopy()
		p.Name = name
		return p
	})
}

func BenchmarkCreateService(b *testing.B) {
	benchmarkCreate(b, func(name string) runtime.Object { return clusterService(name, "") })
}

func BenchmarkStrategicPatchPodStatus(b *testing.B) {
	e := newMemoryEnv(b)
	create(b, e, parse[corev1.Pod](b, podYAML))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		patch := fmt.Sprintf(`{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True","message":"%d"}]}}`, n)
		if _, err := e.Patch(b.Context(), podsOf(b), "default", "web", types.StrategicMergePatchType, []byte(patch), resource.Status, objects.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMergePatchConfigMap(b *testing.B) {
	e := newMemoryEnv(b)
	create(b, e, configMap("a", nil))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		if _, err := e.Patch(b.Context(), configMapsOf(b), "default", "a", types.MergePatchType, fmt.Appendf(nil, `{"data":{"a":"%d"}}`, n), "", objects.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMutatePodStatus(b *testing.B) {
	e := newMemoryEnv(b)
	create(b, e, parse[corev1.Pod](b, podYAML))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		_, err := e.MutateStatus(b.Context(), podsOf(b), "default", "web", func(o runtime.Object) bool {
			if p, ok := o.(*corev1.Pod); ok {
				p.Status.Message = fmt.Sprint(n)
			}
			return true
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetJSON(b *testing.B) {
	e := newMemoryEnv(b)
	create(b, e, parse[corev1.Pod](b, podYAML))
	b.ReportAllocs()
	for b.Loop() {
		item, ok := e.view.Get(podsOf(b), "default", "web")
		if !ok {
			b.Fatal("not there")
		}
		if _, err := item.JSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList(b *testing.B) {
	e := newMemoryEnv(b)
	for n := range 2000 {
		create(b, e, configMap(fmt.Sprintf("o%d", n), nil))
	}
	b.ReportAllocs()
	for b.Loop() {
		if items, _ := e.view.List(configMapsOf(b), "default"); len(items) != 2000 {
			b.Fatal(len(items))
		}
	}
}
