package apiserver

import (
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// respondObject answers with an object fresh from a write.
func (s *Server) respondObject(c *call, code int, obj runtime.Object) error {
	e, err := s.encoder(c, offerOne)
	if err != nil {
		return err
	}
	body, err := e.fresh(obj)
	if err != nil {
		return err
	}
	c.respond(code, e.contentType(), body)
	return nil
}

// respondWritten answers with what a write made of an object: with the bytes that the view has of it, or will give others
// who ask, when the view has it at that revision.
func (s *Server) respondWritten(c *call, code int, obj runtime.Object, o objects.WriteOptions) error {
	item := s.written(obj)
	if o.DryRun || item == nil || item.Resource != c.resource {
		return s.respondObject(c, code, obj)
	}
	e, err := s.encoder(c, offerOne)
	if err != nil {
		return err
	}
	if e.as != asObject { // a shape of its own, which nobody shares
		return s.respondObject(c, code, obj)
	}
	body, err := e.one(item)
	if err != nil {
		return err
	}
	c.respond(code, e.contentType(), body)
	return nil
}

// written is the view's item of an object at the object's own revision; nil when it has another.
func (s *Server) written(obj runtime.Object) *view.Item {
	res := resource.ForObject(obj)
	m, err := meta.Accessor(obj)
	if res == nil || err != nil {
		return nil
	}
	item, ok := s.view.Get(res, m.GetNamespace(), m.GetName())
	if !ok || item.Meta.GetResourceVersion() != m.GetResourceVersion() || item.Meta.GetUID() != m.GetUID() {
		return nil
	}
	return item
}

// fresh encodes an object that is not in the view, or not yet. It goes by the object's own kind: a scale patch of a
// Deployment gives a Scale.
func (e *encoder) fresh(obj runtime.Object) ([]byte, error) {
	if resource.ForObject(obj) != e.resource {
		return form{media: e.media, pretty: e.pretty}.marshal(obj)
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, err
	}
	return e.one(&view.Item{Resource: e.resource, Object: obj, Meta: m})
}

func (s *Server) create(c *call) error {
	if _, err := s.encoder(c, offerOne); err != nil { // before anything is written
		return err
	}
	o, err := s.writing(c)
	if err != nil {
		return err
	}
	obj, err := c.object(c.resource, o.Validation)
	if err != nil {
		return err
	}
	m, err := c.place(obj)
	if err != nil {
		return err
	}
	out, err := s.objects.Create(c.r.Context(), obj, o)
	if err != nil {
		return err
	}
	if c.name = m.GetName(); c.name == "" {
		c.name = nameOf(out)
	}
	return s.respondWritten(c, http.StatusCreated, out, o)
}

func nameOf(obj runtime.Object) string {
	if m, err := meta.Accessor(obj); err == nil {
		return m.GetName()
	}
	return ""
}

// place makes the object's namespace and, if the path has one, its name those of the path, and refuses others.
func (c *call) place(obj runtime.Object) (metav1.Object, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return nil, badRequest("read metadata: %v", err)
	}
	if space := c.space(); m.GetNamespace() == "" {
		m.SetNamespace(space)
	} else if m.GetNamespace() != space && c.resource.Namespaced {
		return nil, badRequest("the namespace of the provided object does not match the namespace sent on the request")
	} else if !c.resource.Namespaced {
		m.SetNamespace("")
	}
	if c.name == "" {
		return m, nil
	}
	switch m.GetName() {
	case c.name:
	case "":
		m.SetName(c.name)
	default:
		return nil, badRequest("the name of the object (%s) does not match the name on the URL (%s)", m.GetName(), c.name)
	}
	return m, nil
}

func (s *Server) update(c *call) error {
	if _, err := s.encoder(c, offerOne); err != nil {
		return err
	}
	o, err := s.writing(c)
	if err != nil {
		return err
	}
	obj, err := c.object(c.resource, o.Validation)
	if err != nil {
		return err
	}
	if _, err := c.place(obj); err != nil {
		return err
	}
	out, code, err := s.replace(c, obj, o)
	if err != nil {
		return err
	}
	return s.respondWritten(c, code, out, o)
}

func (s *Server) replace(c *call, obj runtime.Object, o objects.WriteOptions) (runtime.Object, int, error) {
	ctx := c.r.Context()
	switch c.subresource {
	case resource.Status:
		out, err := s.objects.UpdateStatus(ctx, obj, o)
		return out, http.StatusOK, err
	case resource.Ephemeral:
		pod, ok := obj.(*corev1.Pod)
		if !ok {
			return nil, 0, errNoRoute(c.r)
		}
		out, err := s.objects.UpdateEphemeralContainers(ctx, pod, o)
		return out, http.StatusOK, err
	case "finalize":
		ns, ok := obj.(*corev1.Namespace)
		if !ok {
			return nil, 0, errNoRoute(c.r)
		}
		out, err := s.objects.Finalize(ctx, ns, o)
		return out, http.StatusOK, err
	}
	out, created, err := s.objects.Update(ctx, obj, o)
	if created {
		return out, http.StatusCreated, err
	}
	return out, http.StatusOK, err
}

// patchTypes are the patches that are understood.
var patchTypes = []string{string(types.JSONPatchType), string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyYAMLPatchType)}

func (s *Server) patch(c *call) error {
	if _, err := s.encoder(c, offerOne); err != nil {
		return err
	}
	how, err := c.patchType()
	if err != nil {
		return err
	}
	data, err := c.body()
	if err != nil {
		return err
	}
	o, err := c.patchOptions(how)
	if err != nil {
		return err
	}
	o.Admit = s.admit(c)
	if how == types.ApplyYAMLPatchType {
		return s.apply(c, data, o)
	}
	out, err := s.objects.Patch(c.r.Context(), c.resource, c.space(), c.name, how, data, c.subresource, o)
	if err != nil {
		return err
	}
	return s.respondWritten(c, http.StatusOK, out, o)
}

// apply answers a server-side apply.
func (s *Server) apply(c *call, manifest []byte, o objects.WriteOptions) error {
	out, created, err := s.objects.ServerSideApply(c.r.Context(), c.resource, c.space(), c.name, manifest, c.subresource, o)
	if err != nil {
		return err
	}
	if created {
		return s.respondObject(c, http.StatusCreated, out)
	}
	return s.respondObject(c, http.StatusOK, out)
}

func (c *call) patchType() (types.PatchType, error) {
	media, err := c.mediaType()
	if err != nil {
		return "", err
	}
	switch how := types.PatchType(media); how {
	case types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType:
		return how, nil
	case types.ApplyCBORPatchType:
	}
	return "", unsupportedMediaType(patchTypes...)
}
