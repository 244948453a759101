package apiserver

import (
	"bytes"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// A list written item by item is, byte for byte, what upstream's serializer makes of the whole.
func TestProtobufListIsUpstreams(t *testing.T) {
	res := resource.ForObject(&corev1.ConfigMap{})
	rest := int64(7)
	for _, count := range []int{0, 1, 3, 200} {
		meta := metav1.ListMeta{ResourceVersion: "12", Continue: "more", RemainingItemCount: &rest}
		list := &corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"}, ListMeta: meta}
		var items []*view.Item
		for n := range count {
			obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m" + strconv.Itoa(n)}, Data: map[string]string{"k": string(bytes.Repeat([]byte("x"), n*n))}}
			item, err := view.NewItem(res, obj, uint64(n))
			if err != nil {
				t.Fatal(err)
			}
			items, list.Items = append(items, item), append(list.Items, *obj)
		}
		got, err := (&encoder{resource: res}).protobufList(items, meta)
		if err != nil {
			t.Fatal(err)
		}
		want, err := encodeProtobuf(list)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d items:\n%x\nnot\n%x", count, got, want)
		}
		if cap(got) != len(got) {
			t.Errorf("%d items: %d bytes in a buffer of %d", count, len(got), cap(got))
		}
	}
}

func TestProtobufListOfAKindWithoutProtobuf(t *testing.T) {
	res := resource.ForObject(&api.MovePlan{})
	item, err := view.NewItem(res, runtime.Object(&api.MovePlan{}), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&encoder{resource: res}).protobufList([]*view.Item{item}, metav1.ListMeta{}); err == nil {
		t.Error("it was encoded")
	}
}
