package automation

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/access"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// verb is one endpoint of every kind.
type verb struct {
	name     string
	right    string // the verb that RBAC knows
	writes   bool
	run      func(ctx context.Context, e *Endpoints, res *resource.Resource, req request, a access.Attributes) ([]byte, error)
	request  string // JSON schema
	response func(res *resource.Resource) string
}

var verbs = []verb{
	{name: "get", right: "get", run: get, request: named(""), response: objectSchema},
	{name: "list", right: "list", run: list, request: listRequest, response: listSchema},
	{name: "apply", right: "patch", writes: true, run: apply, request: applyRequest, response: objectSchema},
	{name: "delete", right: "delete", writes: true, run: remove, request: named(deleteFields), response: objectSchema},
}

func get(_ context.Context, e *Endpoints, res *resource.Resource, req request, _ access.Attributes) ([]byte, error) {
	if err := req.needName(); err != nil {
		return nil, err
	}
	item, ok := e.View.Get(res, req.space(res), req.Name)
	if !ok {
		return nil, apierrors.NewNotFound(res.GroupResource(), req.Name)
	}
	return item.JSON()
}

// list answers with a Kubernetes list. Parts of a list that changed meanwhile go on behind the last object given out;
// the revision says of when each part is.
func list(_ context.Context, e *Endpoints, res *resource.Resource, req request, _ access.Attributes) ([]byte, error) {
	selector, err := labels.Parse(req.LabelSelector)
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("labelSelector: %v", err))
	}
	items, revision := e.View.List(res, req.listed(res))
	if items, err = after(items, req.Continue); err != nil {
		return nil, err
	}
	m := metav1.ListMeta{ResourceVersion: strconv.FormatUint(revision, 10)}
	var chosen []*view.Item
	for _, item := range items {
		if !selector.Matches(labels.Set(item.Meta.GetLabels())) {
			continue
		}
		if req.Limit > 0 && len(chosen) == req.Limit {
			m.Continue = token(chosen[len(chosen)-1])
			break
		}
		chosen = append(chosen, item)
	}
	return encodeList(res, m, chosen)
}

func encodeList(res *resource.Resource, m metav1.ListMeta, items []*view.Item) ([]byte, error) {
	head, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode list metadata: %w", err)
	}
	var buf bytes.Buffer
	fmt.Fprintf(&buf, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, res.ListGVK().Kind, res.GVK.GroupVersion().String(), head)
	for i, item := range items {
		if i > 0 {
			buf.WriteByte(',')
		}
		data, err := item.JSON()
		if err != nil {
			return nil, err
		}
		buf.Write(data)
	}
	buf.WriteString("]}")
	return buf.Bytes(), nil
}

func token(last *view.Item) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.Meta.GetNamespace() + "/" + last.Meta.GetName()))
}

func after(items []*view.Item, continued string) ([]*view.Item, error) {
	if continued == "" {
		return items, nil
	}
	data, err := base64.RawURLEncoding.DecodeString(continued)
	namespace, name, ok := strings.Cut(string(data), "/")
	if err != nil || !ok {
		return nil, apierrors.NewBadRequest("continue: not a value that this service gave")
	}
	at := sort.Search(len(items), func(i int) bool {
		m := items[i].Meta
		return m.GetNamespace() > namespace || m.GetNamespace() == namespace && m.GetName() > name
	})
	return items[at:], nil
}

func apply(ctx context.Context, e *Endpoints, res *resource.Resource, req request, a access.Attributes) ([]byte, error) {
	if len(req.Object) == 0 {
		return nil, apierrors.NewBadRequest(`the request must have an object to apply, or be one: {"apiVersion": ..., "kind": ..., "metadata": {"name": ...}}`)
	}
	o := e.writing(a, res)
	o.DryRun, o.Validation = req.DryRun, metav1.FieldValidationStrict
	out, _, err := e.Objects.Apply(ctx, req.Object, o)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

func remove(ctx context.Context, e *Endpoints, res *resource.Resource, req request, _ access.Attributes) ([]byte, error) {
	if err := req.needName(); err != nil {
		return nil, err
	}
	o := metav1.DeleteOptions{GracePeriodSeconds: req.GracePeriodSeconds}
	if req.DryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	if req.PropagationPolicy != "" {
		policy := metav1.DeletionPropagation(req.PropagationPolicy)
		o.PropagationPolicy = &policy
	}
	if err := checkPropagation(req.PropagationPolicy); err != nil {
		return nil, err
	}
	out, deleted, err := e.Objects.Delete(ctx, res, req.space(res), req.Name, o)
	if err != nil {
		return nil, err
	}
	return deletion(res, req.Name, out, deleted)
}

func checkPropagation(policy string) error {
	switch metav1.DeletionPropagation(policy) {
	case "", metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan:
		return nil
	}
	return apierrors.NewBadRequest("propagationPolicy: must be Background, Foreground or Orphan")
}

// deletion says that the object is gone, or shows it as it is while its deletion goes on.
func deletion(res *resource.Resource, name string, out runtime.Object, deleted bool) ([]byte, error) {
	if !deleted {
		return json.Marshal(out)
	}
	details := &metav1.StatusDetails{Name: name, Group: res.GVK.Group, Kind: res.Plural}
	if m, err := meta.Accessor(out); err == nil {
		details.UID = m.GetUID()
	}
	return json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Details: details,
	})
}
