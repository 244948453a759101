package apiserver

import (
	"encoding/binary"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/view"
)

// Tags of the messages that a list in protobuf is made of. All Kubernetes lists have the same two fields, and no field
// here has a number above 15.
const (
	tagTypeMeta        = 1<<3 | 2 // of runtime.Unknown
	tagRaw             = 2<<3 | 2
	tagContentEncoding = 3<<3 | 2
	tagContentType     = 4<<3 | 2
	tagListMeta        = 1<<3 | 2 // of a list
	tagItem            = 2<<3 | 2
)

// message is what the generated code of every Kubernetes type can do.
type message interface {
	Size() int
	MarshalToSizedBuffer(data []byte) (int, error)
}

// protobufList writes the items one after another into one buffer of the right size. The generated code for lists would
// need them copied into a list, and measures each of them twice.
func (e *encoder) protobufList(items []*view.Item, list metav1.ListMeta) ([]byte, error) {
	messages, sizes := make([]message, len(items)), make([]int, len(items))
	raw := fieldSize(list.Size())
	for i, item := range items {
		m, ok := item.Object.(message)
		if !ok {
			return nil, fmt.Errorf("encode %T as protobuf: the kind has no protobuf form", item.Object)
		}
		messages[i], sizes[i] = m, m.Size()
		raw += fieldSize(sizes[i])
	}
	apiVersion, kind := e.resource.ListGVK().ToAPIVersionAndKind()
	typeMeta := runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}
	out := make([]byte, 0, len(protobufMagic)+fieldSize(typeMeta.Size())+fieldSize(raw)+2*fieldSize(0))
	out = append(out, protobufMagic...)
	out, err := appendMessage(out, tagTypeMeta, &typeMeta, typeMeta.Size())
	if err != nil {
		return nil, err
	}
	out = appendHead(out, tagRaw, raw)
	if out, err = appendMessage(out, tagListMeta, &list, list.Size()); err != nil {
		return nil, err
	}
	for i, m := range messages {
		if out, err = appendMessage(out, tagItem, m, sizes[i]); err != nil {
			return nil, err
		}
	}
	return appendHead(appendHead(out, tagContentEncoding, 0), tagContentType, 0), nil
}

// fieldSize is the size of a field that holds size bytes.
func fieldSize(size int) int {
	var head [1 + binary.MaxVarintLen64]byte
	return len(appendHead(head[:0], 0, size)) + size
}

func appendHead(out []byte, tag byte, size int) []byte {
	return binary.AppendUvarint(append(out, tag), uint64(size)) //nolint:gosec // a size is not negative
}

func appendMessage(out []byte, tag byte, m message, size int) ([]byte, error) {
	out = appendHead(out, tag, size)
	from := len(out)
	out = append(out, make([]byte, size)...)
	if _, err := m.MarshalToSizedBuffer(out[from:]); err != nil {
		return nil, fmt.Errorf("encode %T as protobuf: %w", m, err)
	}
	return out, nil
}
