package objects

import (
	"bytes"
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"

	"skerry.dev/skerry/coordinator/view"
)

// marks is a merge patch that only sets labels and annotations, the most frequent kind (kubectl label and annotate,
// controllers that leave notes). It is applied to the object itself, not to its JSON, to the same effect.
type marks struct {
	Metadata struct {
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// marksOf is nil when the patch, which may be of either merge type, does more: remove something, or direct how to merge.
func marksOf(patch []byte) *marks {
	m := &marks{}
	if bytes.Contains(patch, []byte("null")) {
		return nil
	}
	if strict, err := kjson.UnmarshalStrict(patch, m); err != nil || len(strict) > 0 {
		return nil
	}
	for _, set := range []map[string]string{m.Metadata.Labels, m.Metadata.Annotations} {
		for key := range set {
			if strings.HasPrefix(key, "$") {
				return nil
			}
		}
	}
	return m
}

// object is a copy of the item's object with the marks set.
func (m *marks) object(item *view.Item) runtime.Object {
	obj := item.Object.DeepCopyObject()
	meta := metaOf(obj)
	set(meta, meta.GetLabels(), m.Metadata.Labels, metav1.Object.SetLabels)
	set(meta, meta.GetAnnotations(), m.Metadata.Annotations, metav1.Object.SetAnnotations)
	return obj
}

func set(meta metav1.Object, have, more map[string]string, store func(metav1.Object, map[string]string)) {
	if len(more) == 0 {
		return
	}
	if have == nil {
		have = map[string]string{}
	}
	maps.Copy(have, more)
	store(meta, have)
}
