package objects_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

const quotaYAML = `
metadata: {namespace: default, name: q}
spec: {hard: {pods: "7", requests.cpu: 600m, limits.memory: 1Gi, count/deployments.apps: "1", services.nodeports: "1", configmaps: "2"}}
`

func limitedPod(t *testing.T, name, cpu string) *corev1.Pod {
	t.Helper()
	pod := parse[corev1.Pod](t, strings.ReplaceAll(podYAML, "requests: {cpu: 100m, memory: 16Mi}", "requests: {cpu: "+cpu+"}, limits: {memory: 16Mi}"))
	pod.Name = name
	return pod
}

// TestQuotaAtOnce: forty pods created at once are exactly as many as fit, and one that goes makes room for one.
func TestQuotaAtOnce(t *testing.T) {
	e := newEnv(t)
	create(t, e, parse[corev1.ResourceQuota](t, quotaYAML))
	var made, refused atomic.Int32
	var group sync.WaitGroup
	for i := range 40 {
		pod := limitedPod(t, fmt.Sprintf("p%d", i), "100m")
		group.Go(func() {
			switch _, err := e.Create(t.Context(), pod, objects.WriteOptions{}); {
			case err == nil:
				made.Add(1)
			case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=600m, limited: requests.cpu=600m"):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	items, _ := e.view.List(resource.ForObject((*corev1.Pod)(nil)), "default")
	if made.Load() != 6 || refused.Load() != 34 || len(items) != 6 {
		t.Fatalf("%d made, %d refused, %d there; want 6, 34, 6", made.Load(), refused.Load(), len(items))
	}
	if _, _, err := e.Delete(t.Context(), resource.ForObject((*corev1.Pod)(nil)), "default", items[0].Meta.GetName(), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	create(t, e, limitedPod(t, "again", "100m"))
	_, err := e.Create(t.Context(), limitedPod(t, "more", "1m"), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, `pods "more" is forbidden: exceeded quota: q, requested: requests.cpu=1m, used: requests.cpu=600m, limited: requests.cpu=600m`)
}

func TestQuotaWords(t *testing.T) {
	e := newEnv(t)
	create(t, e, parse[corev1.ResourceQuota](t, quotaYAML))
	silent := limitedPod(t, "silent", "100m")
	silent.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	_, err := e.Create(t.Context(), silent, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, "failed quota: q: must specify limits.memory for: main; requests.cpu for: main")
	create(t, e, configMap("a", nil))
	for range 3 { // a dry run takes nothing
		if _, err := e.Create(t.Context(), configMap("b", nil), objects.WriteOptions{DryRun: true}); err != nil {
			t.Fatal(err)
		}
	}
	create(t, e, configMap("b", nil))
	_, err = e.Create(t.Context(), configMap("b", nil), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonAlreadyExists)
	_, err = e.Create(t.Context(), configMap("c", nil), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, `configmaps "c" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2`)
	create(t, e, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "elsewhere"}})
}

func TestQuotaScopes(t *testing.T) {
	for scope, test := range map[string]struct {
		inside func(*corev1.Pod)
		spec   string
	}{
		"BestEffort":  {func(p *corev1.Pod) { p.Spec.Containers[0].Resources = corev1.ResourceRequirements{} }, "scopes: [BestEffort]"},
		"Terminating": {func(p *corev1.Pod) { seconds := int64(5); p.Spec.ActiveDeadlineSeconds = &seconds }, "scopes: [Terminating]"},
		"PriorityClass": {
			func(p *corev1.Pod) { p.Spec.PriorityClassName = "system-node-critical" },
			"scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [system-node-critical]}]}",
		},
	} {
		t.Run(scope, func(t *testing.T) {
			e := newEnv(t)
			create(t, e, parse[corev1.ResourceQuota](t, `
metadata: {namespace: default, name: q}
spec: {hard: {pods: "1"}, `+test.spec+`}
`))
			for i := range 2 {
				create(t, e, limitedPod(t, fmt.Sprintf("outside%d", i), "1m"))
			}
			first, second := limitedPod(t, "first", "1m"), limitedPod(t, "second", "1m")
			test.inside(first)
			test.inside(second)
			create(t, e, first)
			_, err := e.Create(t.Context(), second, objects.WriteOptions{})
			wantStatus(t, err, metav1.StatusReasonForbidden, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1")
		})
	}
}

const limitsYAML = `
metadata: {namespace: default, name: l}
spec:
  limits:
  - type: Container
    defaultRequest: {cpu: 50m}
    default: {cpu: 100m, memory: 64Mi}
    min: {cpu: 10m}
    max: {cpu: 200m}
    maxLimitRequestRatio: {cpu: "4"}
  - {type: Pod, max: {memory: 100Mi}}
`

func TestLimitRange(t *testing.T) {
	e := newEnv(t)
	create(t, e, parse[corev1.LimitRange](t, limitsYAML))
	plain := limitedPod(t, "plain", "100m")
	plain.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	got := create(t, e, plain)
	r := got.Spec.Containers[0].Resources
	if r.Requests.Cpu().String() != "50m" || r.Limits.Cpu().String() != "100m" || r.Limits.Memory().String() != "64Mi" || r.Requests.Memory().String() != "64Mi" {
		t.Errorf("resources %+v", r)
	}
	if got.Annotations["kubernetes.io/limit-ranger"] != "LimitRanger plugin set: cpu, memory request for container main; cpu, memory limit for container main" {
		t.Errorf("annotations %v", got.Annotations)
	}
	if got.Status.QOSClass != corev1.PodQOSBurstable {
		t.Errorf("class %s", got.Status.QOSClass)
	}
	for name, test := range map[string]struct{ resources, words string }{
		"small": {"requests: {cpu: 5m}, limits: {cpu: 20m}", "minimum cpu usage per Container is 10m, but request is 5m"},
		"large": {"requests: {cpu: 100m}, limits: {cpu: 300m}", "maximum cpu usage per Container is 200m, but limit is 300m"},
		"wide":  {"requests: {cpu: 20m}, limits: {cpu: 100m}", "cpu max limit to request ratio per Container is 4, but provided ratio is 5.000000"},
		"heavy": {"requests: {cpu: 50m}, limits: {memory: 200Mi}", "maximum memory usage per Pod is 100Mi, but limit is 200Mi"},
		"both":  {"requests: {cpu: 5m}, limits: {cpu: 300m}", "[minimum cpu usage per Container is 10m, but request is 5m, maximum cpu usage per Container is 200m, but limit is 300m, cpu max limit to request ratio per Container is 4, but provided ratio is 60.000000]"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := parse[corev1.Pod](t, strings.ReplaceAll(podYAML, "requests: {cpu: 100m, memory: 16Mi}", test.resources))
			_, err := e.Create(t.Context(), pod, objects.WriteOptions{})
			wantStatus(t, err, metav1.StatusReasonForbidden, `pods "web" is forbidden: `+test.words)
		})
	}
	_, err := e.Create(t.Context(), parse[corev1.LimitRange](t, strings.Replace(limitsYAML, "max: {cpu: 200m}", "max: {cpu: 5m}", 1)), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "spec.limits[0].min[cpu]", "min value 10m is greater than max value 5m")
}
