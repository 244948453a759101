package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/view"
)

func (s *Server) get(c *call) error {
	e, err := s.encoder(c, offerOne)
	if err != nil {
		return err
	}
	revision, err := parseRevision(c.query.Get("resourceVersion"))
	if err != nil {
		return err
	}
	if err := s.fresh(c.r.Context(), revision); err != nil {
		return err
	}
	item, ok := s.view.Get(c.resource, c.space(), c.name)
	if !ok {
		return c.notFound()
	}
	return c.respondItem(e, http.StatusOK, item)
}

func (c *call) respondItem(e *encoder, code int, item *view.Item) error {
	body, err := e.one(item)
	if err != nil {
		return err
	}
	c.respond(code, e.contentType(), body)
	return nil
}

func (s *Server) list(c *call) error {
	e, err := s.encoder(c, offerMany)
	if err != nil {
		return err
	}
	o, err := c.listOptions()
	if err != nil {
		return err
	}
	sel, err := newSelection(c.resource, o)
	if err != nil {
		return err
	}
	p, err := s.page(c, o, sel)
	if err != nil {
		return err
	}
	body, err := e.list(p.items, p.meta)
	if err != nil {
		return err
	}
	c.respond(http.StatusOK, e.contentType(), body)
	return nil
}

// list is the body of a list.
func (e *encoder) list(items []*view.Item, list metav1.ListMeta) ([]byte, error) {
	switch {
	case e.as == asTable:
		return e.marshal(e.table(items, list, true))
	case e.as == asMetadataList:
		return e.marshal(metadataList(items, list))
	case e.media == typeProtobuf:
		return e.protobufList(items, list)
	default:
		return e.jsonList(items, list)
	}
}

func metadataList(items []*view.Item, list metav1.ListMeta) *metav1.PartialObjectMetadataList {
	out := &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{Kind: asMetadataList, APIVersion: "meta.k8s.io/v1"}, ListMeta: list,
		Items: make([]metav1.PartialObjectMetadata, len(items)),
	}
	for i, item := range items {
		out.Items[i] = *metadataOf(item.Meta)
	}
	return out
}

// jsonList splices the items' JSON, each of which is made once per revision, into a list.
func (e *encoder) jsonList(items []*view.Item, list metav1.ListMeta) ([]byte, error) {
	size := 256
	parts := make([][]byte, len(items))
	for i, item := range items {
		part, err := item.JSON()
		if err != nil {
			return nil, err
		}
		parts[i] = part
		size += len(part) + 1
	}
	head, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode list metadata: %w", err)
	}
	buf := bytes.NewBuffer(make([]byte, 0, size))
	fmt.Fprintf(buf, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, e.resource.ListGVK().Kind, e.resource.GVK.GroupVersion().String(), head)
	for i, part := range parts {
		if i > 0 {
			buf.WriteByte(',')
		}
		buf.Write(part)
	}
	buf.WriteString("]}")
	return e.finish(buf.Bytes())
}
