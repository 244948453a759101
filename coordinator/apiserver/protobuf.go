package apiserver

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/view"
)

// Fields of Kubernetes' protobuf messages. All lists have the same two.
const (
	unknownTypeMeta        protowire.Number = 1 // of runtime.Unknown, the envelope
	unknownRaw             protowire.Number = 2
	unknownContentEncoding protowire.Number = 3
	unknownContentType     protowire.Number = 4
	listMetadata           protowire.Number = 1
	listItems              protowire.Number = 2
)

// protobufObject is the item in an envelope: what encodeProtobuf makes of its object, from the bytes that the store had.
func protobufObject(item *view.Item) ([]byte, error) {
	body, err := item.Protobuf()
	if err != nil {
		return nil, err
	}
	out, err := openEnvelope(item.Resource.GVK, len(body))
	if err != nil {
		return nil, err
	}
	return closeEnvelope(append(out, body...)), nil
}

// protobufList is the items as a list in an envelope, in one buffer of the right size.
func (e *encoder) protobufList(items []*view.Item, list metav1.ListMeta) ([]byte, error) {
	bodies := make([][]byte, len(items))
	head, err := list.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode list metadata: %w", err)
	}
	size := fieldSize(listMetadata, len(head))
	for i, item := range items {
		if bodies[i], err = item.Protobuf(); err != nil {
			return nil, err
		}
		size += fieldSize(listItems, len(bodies[i]))
	}
	out, err := openEnvelope(e.resource.ListGVK(), size)
	if err != nil {
		return nil, err
	}
	out = appendField(out, listMetadata, head)
	for _, body := range bodies {
		out = appendField(out, listItems, body)
	}
	return closeEnvelope(out), nil
}

// openEnvelope writes all that comes before an object of size bytes, with room for it and what comes behind it.
func openEnvelope(gvk schema.GroupVersionKind, size int) ([]byte, error) {
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	typeMeta, err := (&runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}).Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode kind: %w", err)
	}
	whole := len(protobufMagic) + fieldSize(unknownTypeMeta, len(typeMeta)) + fieldSize(unknownRaw, size) +
		fieldSize(unknownContentEncoding, 0) + fieldSize(unknownContentType, 0)
	out := append(make([]byte, 0, whole), protobufMagic...)
	out = appendField(out, unknownTypeMeta, typeMeta)
	out = protowire.AppendTag(out, unknownRaw, protowire.BytesType)
	return protowire.AppendVarint(out, uint64(size)), nil //nolint:gosec // a size is not negative
}

// closeEnvelope writes the empty fields that upstream writes.
func closeEnvelope(out []byte) []byte {
	return appendField(appendField(out, unknownContentEncoding, nil), unknownContentType, nil)
}

func fieldSize(number protowire.Number, size int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(size)
}

func appendField(out []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), value)
}
