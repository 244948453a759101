package objects_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/objects"
)

func TestCreateCompletesObjects(t *testing.T) {
	e := newEnv(t)
	given := parse[corev1.Pod](t, podYAML)
	given.UID, given.Status.Phase = "chosen-by-client", corev1.PodRunning
	pod := create(t, e, given)
	if given.ResourceVersion != "" || given.Spec.RestartPolicy != "" {
		t.Error("create changed the caller's object")
	}
	switch {
	case pod.UID == "" || pod.UID == "chosen-by-client":
		t.Errorf("uid %q", pod.UID)
	case pod.CreationTimestamp.IsZero(), pod.ResourceVersion == "", pod.Generation != 1:
		t.Errorf("metadata %+v", pod.ObjectMeta)
	case pod.Kind != "Pod" || pod.APIVersion != "v1":
		t.Errorf("type %+v", pod.TypeMeta)
	case pod.Status.Phase != corev1.PodPending || pod.Status.QOSClass != corev1.PodQOSBurstable:
		t.Errorf("status %+v", pod.Status)
	case pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || *pod.Spec.TerminationGracePeriodSeconds != 30:
		t.Errorf("spec lacks defaults: %+v", pod.Spec)
	case pod.Spec.ServiceAccountName != "default" || *pod.Spec.Priority != 0:
		t.Errorf("spec lacks what admission sets: %+v", pod.Spec)
	}
	seconds := map[string]int64{}
	for _, tol := range pod.Spec.Tolerations {
		seconds[tol.Key] = *tol.TolerationSeconds
	}
	if seconds[corev1.TaintNodeNotReady] != 300 || seconds[corev1.TaintNodeUnreachable] != 300 {
		t.Errorf("tolerations %v", pod.Spec.Tolerations)
	}
	if have := get(t, e, pod, "default", "web"); have.UID != pod.UID || have.ResourceVersion != pod.ResourceVersion {
		t.Errorf("view has %s at %s, create returned %s at %s", have.UID, have.ResourceVersion, pod.UID, pod.ResourceVersion)
	}
}

func TestCreateKeepsOwnTolerations(t *testing.T) {
	e := newEnv(t)
	pod := parse[corev1.Pod](t, podYAML)
	short := int64(5)
	pod.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &short},
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists},
	}
	if out := create(t, e, pod); len(out.Spec.Tolerations) != 2 || *out.Spec.Tolerations[0].TolerationSeconds != 5 {
		t.Errorf("tolerations %v", out.Spec.Tolerations)
	}
}

func TestCreatePlacedPodKeepsItsCondition(t *testing.T) {
	e := newEnv(t)
	pod := parse[corev1.Pod](t, podYAML)
	pod.Spec.NodeName = "n1"
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	out := create(t, e, pod)
	if c := out.Status.Conditions; len(c) != 1 || c[0].Type != corev1.PodScheduled {
		t.Errorf("conditions %v, want PodScheduled only", c)
	}
}

func TestCreateRefuses(t *testing.T) {
	e := newEnv(t)
	create(t, e, configMap("taken", nil))
	pod := func(change func(*corev1.Pod)) runtime.Object {
		p := parse[corev1.Pod](t, podYAML)
		change(p)
		return p
	}
	deployment := func(change func(*appsv1.Deployment)) runtime.Object {
		d := parse[appsv1.Deployment](t, deploymentYAML)
		change(d)
		return d
	}
	for _, test := range []struct {
		name   string
		obj    runtime.Object
		reason metav1.StatusReason
		words  string
	}{
		{"a taken name", configMap("taken", nil), metav1.StatusReasonAlreadyExists, `configmaps "taken" already exists`},
		{"a missing namespace", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "nowhere", Name: "x"}}, metav1.StatusReasonNotFound, `namespaces "nowhere" not found`},
		{"no namespace", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.StatusReasonBadRequest, "an empty namespace may not be set during creation"},
		{"no name", configMap("", nil), metav1.StatusReasonInvalid, "metadata.name: Required value: name or generateName is required"},
		{"a bad name", configMap("Not_A_Name", nil), metav1.StatusReasonInvalid, `metadata.name: Invalid value: "Not_A_Name"`},
		{"a resourceVersion", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "x", ResourceVersion: "7"}}, metav1.StatusReasonBadRequest, "resourceVersion should not be set on objects to be created"},
		{"a bad key", configMap("x", map[string]string{"a/b": ""}), metav1.StatusReasonInvalid, `data[a/b]: Invalid value: "a/b"`},
		{"no containers", pod(func(p *corev1.Pod) { p.Spec.Containers = nil }), metav1.StatusReasonInvalid, `Pod "web" is invalid: spec.containers: Required value`},
		{"an unknown priority class", pod(func(p *corev1.Pod) { p.Spec.PriorityClassName = "urgent" }), metav1.StatusReasonForbidden, `pods "web" is forbidden: no PriorityClass with name urgent was found`},
		{"a small limit", pod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Limits: limits("3Mi")}
		}), metav1.StatusReasonInvalid, `spec.containers[0].resources.limits[memory]: Invalid value: "3Mi": must be at least 4Mi (4194304 bytes)`},
		{"a small limit in a template", deployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Limits = limits("1Ki")
		}), metav1.StatusReasonInvalid, `spec.template.spec.containers[0].resources.limits[memory]: Invalid value: "1Ki": must be at least 4Mi`},
		{"a selector that misses", deployment(func(d *appsv1.Deployment) { d.Spec.Selector.MatchLabels["app"] = "other" }), metav1.StatusReasonInvalid, "`selector` does not match template `labels`"},
		{"a negative count", deployment(func(d *appsv1.Deployment) { n := int32(-1); d.Spec.Replicas = &n }), metav1.StatusReasonInvalid, "spec.replicas: Invalid value: -1"},
		{"too much", configMap("big", map[string]string{"a": strings.Repeat("x", 900<<10), "b": strings.Repeat("y", 900<<10)}), metav1.StatusReasonInvalid, "Too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := e.Create(t.Context(), test.obj, objects.WriteOptions{})
			wantStatus(t, err, test.reason, test.words)
		})
	}
	if e.view.Len(podsOf(t)) != 0 {
		t.Error("a refused pod was stored")
	}
}

func TestCreateTooLarge(t *testing.T) {
	e := newEnv(t)
	d := parse[appsv1.Deployment](t, deploymentYAML)
	for range 40 {
		d.Spec.Template.Spec.Containers[0].Args = append(d.Spec.Template.Spec.Containers[0].Args, strings.Repeat("x", 40<<10))
	}
	_, err := e.Create(t.Context(), d, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonRequestEntityTooLarge, `deployments.apps "web" takes`, "the limit is 1572864")
}

func TestGenerateName(t *testing.T) {
	e := newEnv(t)
	seen := map[string]bool{}
	for range 20 {
		cm := configMap("", nil)
		cm.GenerateName = "batch-"
		seen[create(t, e, cm).Name] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d names for 20 objects", len(seen))
	}
	for name := range seen {
		if len(name) != len("batch-")+5 {
			t.Errorf("name %q", name)
		}
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	e := newEnv(t)
	before := e.view.Revision()
	dry := objects.WriteOptions{DryRun: true}
	out := must(t, (*corev1.Service)(nil))(e.Create(t.Context(), clusterService("a", ""), dry))
	if out.Spec.ClusterIP == "" || out.UID == "" {
		t.Errorf("dry run shows less than the write: %+v", out)
	}
	svc := create(t, e, clusterService("b", out.Spec.ClusterIP)) // the dry run's address is free
	svc.Labels = map[string]string{"x": "y"}
	if _, _, err := e.Update(t.Context(), svc, dry); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Delete(t.Context(), servicesOf(t), "default", "b", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Fatal(err)
	}
	if e.view.Revision() != before+1 {
		t.Errorf("revision went from %d to %d, want one write", before, e.view.Revision())
	}
	if _, err := e.Create(t.Context(), clusterService("b", ""), dry); err == nil {
		t.Error("dry run of a taken name succeeded")
	}
}

func TestEventsUnderBothNames(t *testing.T) {
	e := newEnv(t)
	core := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "web.1"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"},
		Reason:         "Started", Message: "started", Type: corev1.EventTypeNormal,
	}
	create(t, e, core)
	item, ok := e.view.Get(eventsV1(t), "default", "web.1")
	if !ok {
		t.Fatal("not there as events.k8s.io/v1")
	}
	body, err := item.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"apiVersion":"events.k8s.io/v1"`, `"note":"started"`, `"regarding":{"kind":"Pod"`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("%s lacks %s", body, want)
		}
	}
	out := must(t, (*corev1.Event)(nil))(e.Patch(t.Context(), eventsCore(t), "default", "web.1", "application/merge-patch+json", []byte(`{"count":2}`), "", objects.WriteOptions{}))
	if out.Count != 2 || out.Message != "started" {
		t.Errorf("after patch: %+v", out)
	}
	for _, patch := range []string{`{"series":{"count":3,"lastObservedTime":"2026-01-02T03:04:05.000000Z"}}`, `{"metadata":{"labels":{"a":"b"}}}`} {
		alias := must(t, (*eventsv1.Event)(nil))(e.Patch(t.Context(), eventsV1(t), "default", "web.1", types.StrategicMergePatchType, []byte(patch), "", objects.WriteOptions{}))
		if alias.Series == nil || alias.Series.Count != 3 || alias.Note != "started" {
			t.Errorf("after a patch through the alias: %+v", alias)
		}
	}
	if kept := get(t, e, core, "default", "web.1"); kept.Labels["a"] != "b" || kept.Series == nil || kept.Count != 2 {
		t.Errorf("kept after patches through the alias: %+v", kept)
	}
	if _, _, err := e.Delete(t.Context(), eventsV1(t), "default", "web.1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone(t, e, core, "default", "web.1")
}
