package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/coordinator/apiserver/table"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// envelope writes objects in Kubernetes' protobuf envelope.
var envelope = protobuf.NewSerializer(resource.Scheme, resource.Scheme)

// contentType names a form in the answer's header.
func (f form) contentType() string {
	if f.as == asTable || f.as == asMetadata || f.as == asMetadataList {
		return f.media + ";as=" + f.as + ";g=meta.k8s.io;v=v1"
	}
	return f.media
}

// marshal writes an object, which must have kind and apiVersion set, as a whole body.
func (f form) marshal(obj runtime.Object) ([]byte, error) {
	if f.media == typeProtobuf {
		return encodeProtobuf(obj)
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return f.finish(data)
}

// finish makes a body of JSON, which it takes over: indented, as YAML, or as it is; with a line end.
func (f form) finish(data []byte) ([]byte, error) {
	if f.media == typeYAML {
		out, err := yaml.JSONToYAML(data)
		if err != nil {
			return nil, fmt.Errorf("convert to YAML: %w", err)
		}
		return out, nil
	}
	if !f.pretty {
		return append(data, '\n'), nil
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, data, "", "  "); err != nil {
		return nil, fmt.Errorf("indent: %w", err)
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}

func encodeProtobuf(obj runtime.Object) ([]byte, error) {
	var buf bytes.Buffer
	if err := envelope.Encode(obj, &buf); err != nil {
		return nil, fmt.Errorf("encode %T as protobuf: %w", obj, err)
	}
	return buf.Bytes(), nil
}

// encoder writes items of one kind in the form that a client asked for.
type encoder struct {
	form
	resource *resource.Resource
	include  metav1.IncludeObjectPolicy // Table only
	now      time.Time
}

// one is the body of a single object.
func (e *encoder) one(item *view.Item) ([]byte, error) {
	switch {
	case e.as == asTable:
		return e.marshal(e.table([]*view.Item{item}, metav1.ListMeta{ResourceVersion: item.Meta.GetResourceVersion()}, true))
	case e.as == asMetadata:
		return e.marshal(metadataOf(item.Meta))
	case e.media == typeProtobuf:
		return protobufObject(item)
	}
	data, err := item.JSON()
	if err != nil {
		return nil, err
	}
	return e.finish(append(make([]byte, 0, len(data)+1), data...))
}

// table makes a Table of items. The columns may be left out of all but the first of a watch's Tables.
func (e *encoder) table(items []*view.Item, list metav1.ListMeta, columns bool) *metav1.Table {
	kind := e.resource.GVK.GroupKind()
	if e.resource.Stored != nil {
		kind = e.resource.Stored.GVK.GroupKind()
	}
	layout := table.For(kind)
	t := &metav1.Table{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"}, ListMeta: list, Rows: make([]metav1.TableRow, 0, len(items))}
	if columns {
		t.ColumnDefinitions = layout.Columns()
	}
	for _, item := range items {
		row := layout.Row(e.stored(item), e.now)
		row.Object = e.rowObject(item)
		t.Rows = append(t.Rows, row)
	}
	return t
}

// stored is what a row's cells are made from: an alias shows the columns of the kind that keeps it.
func (e *encoder) stored(item *view.Item) runtime.Object {
	if e.resource.Stored == nil {
		return item.Object
	}
	obj, err := e.resource.ToStored(item.Object)
	if err != nil {
		return item.Object
	}
	return obj
}

func (e *encoder) rowObject(item *view.Item) runtime.RawExtension {
	switch e.include {
	case metav1.IncludeNone:
		return runtime.RawExtension{}
	case metav1.IncludeObject:
		return runtime.RawExtension{Object: item.Object}
	case metav1.IncludeMetadata:
	}
	return runtime.RawExtension{Object: metadataOf(item.Meta)}
}

// metadataOf cuts an object down to its metadata. The copy shares maps and slices with the object and is only read.
func metadataOf(m metav1.Object) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: asMetadata, APIVersion: "meta.k8s.io/v1"}}
	if from, ok := m.(metav1.ObjectMetaAccessor); ok {
		if om, ok := from.GetObjectMeta().(*metav1.ObjectMeta); ok {
			p.ObjectMeta = *om
		}
	}
	return p
}

// respond writes an answer's body and remembers its code for the audit line.
func (c *call) respond(code int, contentType string, body []byte) {
	c.code = code
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("Cache-Control", "no-cache, private")
	writeBody(c.w, code, body)
}

// writeBody sends a whole body. A failed write means that the client is gone, which nobody can be told.
func writeBody(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}
