package objects

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Patches of labels and annotations take a short way, others do not, and the short way leads to the same object.
func TestMarks(t *testing.T) {
	for patch, short := range map[string]bool{
		`{}`:              true,
		`{"metadata":{}}`: true,
		`{"metadata":{"labels":{"a":"2","c":"3"}}}`:                        true,
		`{"metadata":{"annotations":{"x":"y"},"labels":{"b":""}}}`:         true,
		`{"metadata":{"annotations":{}}}`:                                  true,
		`{"metadata":{"labels":{"a":null}}}`:                               false,
		`{"metadata":{"labels":null}}`:                                     false,
		`{"metadata":{"labels":{"$patch":"replace","c":"3"}}}`:             false,
		`{"metadata":{"labels":{"c":3}}}`:                                  false,
		`{"metadata":{"Labels":{"c":"3"}}}`:                                false,
		`{"metadata":{"labels":{"c":"3"},"labels":{"d":"4"}}}`:             false,
		`{"metadata":{"labels":{"c":"3"},"finalizers":["example.com/f"]}}`: false,
		`{"metadata":{"resourceVersion":"7","labels":{"c":"3"}}}`:          false,
		`{"data":{"k":"v"}}`:                                               false,
		`[{"metadata":{}}]`:                                                false,
	} {
		m := marksOf([]byte(patch))
		if (m != nil) != short {
			t.Errorf("%s: short way %t", patch, m != nil)
		}
		if m == nil {
			continue
		}
		for _, how := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
			for _, labels := range []map[string]string{nil, {"a": "1", "b": "1"}} {
				sameAsLongWay(t, m, how, patch, labels)
			}
		}
	}
}

func sameAsLongWay(t *testing.T, m *marks, how types.PatchType, patch string, labels map[string]string) {
	t.Helper()
	obj := &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: "default", Labels: labels},
	}
	before := obj.DeepCopy()
	item, err := view.NewItem(resource.ForObject(obj), obj, 7)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPatcher(how, []byte(patch), WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.marks = nil
	long, err := p.object(item)
	if err != nil {
		t.Fatal(err)
	}
	if short := m.object(item); !equality.Semantic.DeepEqual(short, long) {
		t.Errorf("%s as %s: %v, not %v", patch, how, short, long)
	}
	if before.ResourceVersion = "7"; !equality.Semantic.DeepEqual(runtime.Object(before), item.Object) {
		t.Errorf("%s changed the shared object", patch)
	}
}
