package apiserver

import (
	"bytes"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	internalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/view"
)

// deleteOptions reads the options from the body or, when there is none, from the query. The body's apiVersion may be
// v1, meta.k8s.io/v1, the resource's own, or missing.
func (c *call) deleteOptions() (metav1.DeleteOptions, error) {
	var o metav1.DeleteOptions
	data, err := c.body()
	if err != nil {
		return o, err
	}
	kind := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	if len(bytes.TrimSpace(data)) > 0 {
		media, err := c.inputType()
		if err != nil {
			return o, err
		}
		if err := decodeAs(media, data, &o, kind); err != nil {
			return o, err
		}
	} else if err := internalscheme.ParameterCodec.DecodeParameters(c.query, paramVersion, &o); err != nil {
		return o, badRequest("%v", err)
	}
	if errs := validation.ValidateDeleteOptions(&o); len(errs) > 0 {
		return o, apierrors.NewInvalid(schema.GroupKind{Group: metav1.GroupName, Kind: "DeleteOptions"}, "", errs)
	}
	return o, nil
}

func (s *Server) delete(c *call) error {
	if _, err := s.encoder(c, offerOne); err != nil {
		return err
	}
	o, err := c.deleteOptions()
	if err != nil {
		return err
	}
	out, deleted, err := s.objects.Delete(c.r.Context(), c.resource, c.space(), c.name, o)
	if err != nil {
		return err
	}
	if deleted && !returnsDeleted(c) {
		return s.respondObject(c, http.StatusOK, c.deletedStatus(out))
	}
	return s.respondObject(c, http.StatusOK, out)
}

// returnsDeleted names the kinds whose last state is the answer to a completed deletion, as upstream's strategies say;
// the others answer with a Status.
func returnsDeleted(c *call) bool {
	if c.resource.GVK.Group != "" {
		return false
	}
	switch c.resource.Plural {
	case "pods", "services", "serviceaccounts":
		return true
	}
	return false
}

func (c *call) deletedStatus(out runtime.Object) *metav1.Status {
	details := &metav1.StatusDetails{Name: c.name, Group: c.resource.GVK.Group, Kind: c.resource.Plural}
	if m, err := meta.Accessor(out); err == nil {
		details.UID = m.GetUID()
	}
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Details: details}
}

func (s *Server) deleteCollection(c *call) error {
	e, err := s.encoder(c, offerMany)
	if err != nil {
		return err
	}
	lo, err := c.listOptions()
	if err != nil {
		return err
	}
	sel, err := newSelection(c.resource, lo)
	if err != nil {
		return err
	}
	o, err := c.deleteOptions()
	if err != nil {
		return err
	}
	gone, err := s.objects.DeleteCollection(c.r.Context(), c.resource, c.space(), sel.matches, o)
	if err != nil {
		return err
	}
	return c.respondGone(e, gone)
}

func (c *call) respondGone(e *encoder, gone []runtime.Object) error {
	items := make([]*view.Item, len(gone))
	for i, obj := range gone {
		m, err := meta.Accessor(obj)
		if err != nil {
			return fmt.Errorf("read metadata of %T: %w", obj, err)
		}
		items[i] = &view.Item{Resource: c.resource, Object: obj, Meta: m}
	}
	body, err := e.list(items, metav1.ListMeta{})
	if err != nil {
		return err
	}
	c.respond(http.StatusOK, e.contentType(), body)
	return nil
}
