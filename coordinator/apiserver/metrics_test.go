package apiserver_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
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

const autoscalerV1 = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"

// One object shows in both versions, and discovery puts the newer first.
func TestAutoscalersHaveTwoVersions(t *testing.T) {
	c := start(t)
	c.must("POST", autoscalerV1, `{"metadata":{"name":"web"},"spec":{"maxReplicas":3,"targetCPUUtilizationPercentage":60,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}`)
	var v2 autoscalingv2.HorizontalPodAutoscaler
	c.get(strings.Replace(autoscalerV1, "v1", "v2", 1)+"/web").into(t, &v2)
	if v2.APIVersion != "autoscaling/v2" || *v2.Spec.MinReplicas != 1 || *v2.Spec.Metrics[0].Resource.Target.AverageUtilization != 60 {
		t.Errorf("version 2: %+v", v2.Spec)
	}
	c.must("PATCH", autoscalerV1+"/web", `{"spec":{"targetCPUUtilizationPercentage":70}}`)
	var v1 autoscalingv1.HorizontalPodAutoscaler
	c.get(autoscalerV1+"/web").into(t, &v1)
	if v1.APIVersion != "autoscaling/v1" || *v1.Spec.TargetCPUUtilizationPercentage != 70 || v1.Generation != 2 {
		t.Errorf("version 1: %+v", v1)
	}
	var group metav1.APIGroup
	c.get("/apis/autoscaling").into(t, &group)
	if len(group.Versions) != 2 || group.PreferredVersion.Version != "v2" || group.Versions[1].Version != "v1" {
		t.Errorf("group %+v", group)
	}
	var groups metav1.APIGroupList
	c.get("/apis").into(t, &groups)
	seen := map[string]bool{}
	for _, g := range groups.Groups {
		if seen[g.Name] {
			t.Errorf("group %s is listed twice", g.Name)
		}
		seen[g.Name] = true
	}
}
