package resource

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of Kubernetes' objects in protobuf: every kind's metadata, and the resourceVersion in that.
const (
	fieldMetadata        protowire.Number = 1
	fieldResourceVersion protowire.Number = 6
)

// WithRevision returns a copy of an object's protobuf form that has revision as its resourceVersion: byte for byte what
// encoding the object anew would give, for the price of a copy. Bytes that do not start with metadata give an error.
func WithRevision(body []byte, revision string) ([]byte, error) {
	number, kind, n := protowire.ConsumeTag(body)
	if n < 0 || number != fieldMetadata || kind != protowire.BytesType {
		return nil, errors.New("set revision: the object does not start with its metadata")
	}
	meta, m := protowire.ConsumeBytes(body[n:])
	if m < 0 {
		return nil, fmt.Errorf("set revision: %w", protowire.ParseError(m))
	}
	from, to, err := findField(meta, fieldResourceVersion)
	if err != nil {
		return nil, fmt.Errorf("set revision: %w", err)
	}
	size := len(meta) - (to - from) + protowire.SizeTag(fieldResourceVersion) + protowire.SizeBytes(len(revision))
	out := make([]byte, 0, n+protowire.SizeBytes(size)+len(body)-n-m)
	out = protowire.AppendVarint(protowire.AppendTag(out, fieldMetadata, protowire.BytesType), uint64(size))
	out = append(out, meta[:from]...)
	out = protowire.AppendString(protowire.AppendTag(out, fieldResourceVersion, protowire.BytesType), revision)
	out = append(out, meta[to:]...)
	return append(out, body[n+m:]...), nil
}

// findField finds where a field of a message begins and ends, or both times where it belongs: before the first field with
// a higher number.
func findField(message []byte, field protowire.Number) (from, to int, err error) {
	for at := 0; at < len(message); {
		number, _, n := protowire.ConsumeField(message[at:])
		switch {
		case n < 0:
			return 0, 0, protowire.ParseError(n)
		case number == field:
			return at, at + n, nil
		case number > field:
			return at, at, nil
		}
		at += n
	}
	return len(message), len(message), nil
}
