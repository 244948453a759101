package apiserver_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"skerry.dev/skerry/coordinator/apiserver"
	"skerry.dev/skerry/coordinator/resource"
)

// gauge measures every pod and node but those called "unmeasured".
type gauge struct{}

func (gauge) Pods(_ context.Context, pods []*corev1.Pod) (out []metricsv1beta1.PodMetrics) {
	for _, p := range pods {
		if p.Name != "unmeasured" {
			out = append(out, metricsv1beta1.PodMetrics{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}})
		}
	}
	return out
}

func (gauge) Nodes(nodes []*corev1.Node, _ time.Time) (out []metricsv1beta1.NodeMetrics) {
	for _, n := range nodes {
		if n.Name != "unmeasured" {
			out = append(out, metricsv1beta1.NodeMetrics{ObjectMeta: metav1.ObjectMeta{Name: n.Name}})
		}
	}
	return out
}

func withMetrics(c *apiserver.Config) { c.Metrics = gauge{} }

const metricsRoot = "/apis/metrics.k8s.io/v1beta1"

func measuredCluster(t *testing.T) *cluster {
	c := start(t, withMetrics)
	for _, pod := range []string{"a", "b", "unmeasured"} {
		c.must("POST", "/api/v1/namespaces/default/pods",
			`{"metadata":{"name":"`+pod+`","labels":{"app":"`+pod+`"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	}
	for _, node := range []string{"n1", "unmeasured"} {
		c.must("POST", "/api/v1/nodes", `{"metadata":{"name":"`+node+`"}}`)
	}
	return c
}

func TestMetricsAreListedAndSelected(t *testing.T) {
	c := measuredCluster(t)
	for path, want := range map[string]string{
		"/pods":                                 "a b",
		"/namespaces/default/pods":              "a b",
		"/namespaces/kube-system/pods":          "",
		"/pods?labelSelector=app%3Db":           "b",
		"/pods?labelSelector=app%21%3Db":        "a",
		"/pods?fieldSelector=metadata.name%3Da": "a",
	} {
		var list metricsv1beta1.PodMetricsList
		c.get(metricsRoot+path).into(t, &list)
		var names []string
		for _, m := range list.Items {
			names = append(names, m.Name)
		}
		if got := strings.Join(names, " "); got != want || list.Kind != "PodMetricsList" {
			t.Errorf("%s: %s %q, want %q", path, list.Kind, got, want)
		}
	}
	var nodes metricsv1beta1.NodeMetricsList
	c.get(metricsRoot+"/nodes").into(t, &nodes)
	if len(nodes.Items) != 1 || nodes.Items[0].Name != "n1" || nodes.Kind != "NodeMetricsList" {
		t.Errorf("got %+v", nodes)
	}
}

func TestMetricsOfOne(t *testing.T) {
	c := measuredCluster(t)
	for path, code := range map[string]int{
		"/namespaces/default/pods/a": 200, "/nodes/n1": 200,
		"/namespaces/default/pods/unmeasured": 404, "/nodes/unmeasured": 404, "/namespaces/default/pods/none": 404,
	} {
		if a := c.get(metricsRoot + path); a.code != code {
			t.Errorf("%s: %d, want %d: %s", path, a.code, code, a)
		}
	}
	if a := c.do("DELETE", metricsRoot+"/nodes/n1", ""); a.code != http.StatusMethodNotAllowed {
		t.Errorf("delete: %d", a.code)
	}
	if a := c.do("GET", metricsRoot+"/nodes", "", header{"Authorization": "Bearer " + guestToken}); a.code != http.StatusForbidden {
		t.Errorf("a guest: %d", a.code)
	}
}

func TestMetricsSpeakProtobuf(t *testing.T) {
	c := measuredCluster(t)
	a := c.get(metricsRoot+"/nodes", header{"Accept": "application/vnd.kubernetes.protobuf"})
	obj, _, err := resource.Codecs.UniversalDeserializer().Decode([]byte(a.body), nil, nil)
	if list, ok := obj.(*metricsv1beta1.NodeMetricsList); err != nil || !ok || len(list.Items) != 1 {
		t.Errorf("got %v, %v", runtime.Object(obj), err)
	}
}

func TestNothingIsMeasuredWithoutMetrics(t *testing.T) {
	if a := start(t).get(metricsRoot + "/nodes"); a.code != http.StatusServiceUnavailable {
		t.Errorf("got %d", a.code)
	}
}
