package apiserver

import (
	"context"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// Metrics says what pods and nodes use now. Those that nobody has measured lately are left out.
type Metrics interface {
	Pods(ctx context.Context, pods []*corev1.Pod) []metricsv1beta1.PodMetrics
	Nodes(nodes []*corev1.Node, now time.Time) []metricsv1beta1.NodeMetrics
}

// measured are the kinds that are measured when they are asked for, not kept. What they measure has the same name in the
// core group.
var measured = []*resource.Resource{
	measure("NodeMetrics", "nodes", false),
	measure("PodMetrics", "pods", true),
}

func measure(kind, plural string, namespaced bool) *resource.Resource {
	return &resource.Resource{
		GVK: metricsv1beta1.SchemeGroupVersion.WithKind(kind), Plural: plural, Namespaced: namespaced, Verbs: []string{"get", "list"},
	}
}

// metrics answers for the pods or nodes that the call names or selects.
func (s *Server) metrics(c *call) error {
	if s.Metrics == nil {
		return apierrors.NewServiceUnavailable("nothing is measured here")
	}
	f, err := negotiate(c.r, offer{protobuf: true})
	if err != nil {
		return err
	}
	items, err := s.toMeasure(c)
	if err != nil {
		return err
	}
	out, err := s.measure(c, items)
	if err != nil {
		return err
	}
	body, err := f.marshal(out)
	if err != nil {
		return err
	}
	c.respond(http.StatusOK, f.contentType(), body)
	return nil
}

// toMeasure finds the pods or nodes themselves.
func (s *Server) toMeasure(c *call) ([]*view.Item, error) {
	of := resource.Lookup("", "v1", c.plural)
	if c.name != "" {
		item, ok := s.view.Get(of, c.space(), c.name)
		if !ok {
			return nil, c.notFound()
		}
		return []*view.Item{item}, nil
	}
	o, err := c.listOptions()
	if err != nil {
		return nil, err
	}
	sel, err := newSelection(of, o)
	if err != nil {
		return nil, err
	}
	items, _ := s.view.List(of, c.space())
	return sel.choose(items), nil
}

func (s *Server) measure(c *call, items []*view.Item) (runtime.Object, error) {
	meta := metav1.TypeMeta{Kind: c.resource.ListGVK().Kind, APIVersion: metricsv1beta1.SchemeGroupVersion.String()}
	if c.plural == "nodes" {
		list := s.Metrics.Nodes(objectsOf[*corev1.Node](items), s.now())
		if c.name == "" {
			return &metricsv1beta1.NodeMetricsList{TypeMeta: meta, Items: list}, nil
		}
		if len(list) == 1 {
			return &list[0], nil
		}
		return nil, c.notFound()
	}
	list := s.Metrics.Pods(c.r.Context(), objectsOf[*corev1.Pod](items))
	if c.name == "" {
		return &metricsv1beta1.PodMetricsList{TypeMeta: meta, Items: list}, nil
	}
	if len(list) == 1 {
		return &list[0], nil
	}
	return nil, c.notFound()
}

func objectsOf[T runtime.Object](items []*view.Item) []T {
	out := make([]T, 0, len(items))
	for _, i := range items {
		if o, ok := i.Object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}
