package objects_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/objects"
)

func (e *env) patch(t testing.TB, name string, how types.PatchType, body, subresource string, o objects.WriteOptions) (runtime.Object, error) {
	t.Helper()
	return e.Patch(t.Context(), deploymentsOf(t), "default", name, how, []byte(body), subresource, o)
}

func TestPatch(t *testing.T) {
	for _, test := range []struct {
		name        string
		how         types.PatchType
		body        string
		subresource string
		holds       func(d *appsv1.Deployment) bool
	}{
		{"strategic merges containers by name", types.StrategicMergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"registry.skerry/web:2"}]}}}}`, "", func(d *appsv1.Deployment) bool {
			c := d.Spec.Template.Spec.Containers
			return len(c) == 1 && c[0].Image == "registry.skerry/web:2" && c[0].Ports[0].ContainerPort == 80 && d.Generation == 2
		}},
		{"merge replaces lists", types.MergePatchType, `{"spec":{"template":{"spec":{"containers":[{"name":"other","image":"x"}]}}},"metadata":{"labels":{"app":null}}}`, "", func(d *appsv1.Deployment) bool {
			c := d.Spec.Template.Spec.Containers
			return len(c) == 1 && c[0].Name == "other" && len(c[0].Ports) == 0 && len(d.Labels) == 0
		}},
		{"json", types.JSONPatchType, `[{"op":"test","path":"/spec/replicas","value":2},{"op":"replace","path":"/spec/replicas","value":5}]`, "", func(d *appsv1.Deployment) bool {
			return *d.Spec.Replicas == 5
		}},
		{"of status leaves the spec", types.MergePatchType, `{"spec":{"replicas":7},"status":{"readyReplicas":1,"replicas":1}}`, "status", func(d *appsv1.Deployment) bool {
			return *d.Spec.Replicas == 2 && d.Status.ReadyReplicas == 1 && d.Generation == 1
		}},
		{"of the spec leaves status", types.MergePatchType, `{"spec":{"replicas":7},"status":{"readyReplicas":1,"replicas":1}}`, "", func(d *appsv1.Deployment) bool {
			return *d.Spec.Replicas == 7 && d.Status.ReadyReplicas == 0
		}},
		{"that changes nothing", types.StrategicMergePatchType, `{"spec":{"replicas":2}}`, "", func(d *appsv1.Deployment) bool { return d.Generation == 1 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEnv(t)
			create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
			out, err := e.patch(t, "web", test.how, test.body, test.subresource, objects.WriteOptions{})
			d := must(t, &appsv1.Deployment{})(out, err)
			if !test.holds(d) {
				t.Errorf("after the patch: %+v", d)
			}
			if have := get(t, e, d, "default", "web"); have.ResourceVersion != d.ResourceVersion || !test.holds(have) {
				t.Errorf("stored: %+v", have)
			}
		})
	}
}

func TestPatchRefuses(t *testing.T) {
	e := newEnv(t)
	create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	for _, test := range []struct {
		name, object string
		how          types.PatchType
		body         string
		subresource  string
		validation   string
		reason       metav1.StatusReason
		words        string
	}{
		{"no JSON", "web", types.MergePatchType, `{`, "", "", metav1.StatusReasonBadRequest, "invalid JSON patch"},
		{"no object", "web", types.MergePatchType, `[]`, "", "", metav1.StatusReasonBadRequest, "error decoding patch"},
		{"no operations", "web", types.JSONPatchType, `{}`, "", "", metav1.StatusReasonBadRequest, "error decoding patch"},
		{"an operation without its value", "web", types.JSONPatchType, `[{"op":"replace","path":""}]`, "", "", metav1.StatusReasonBadRequest, `operation 0: replace lacks "value"`},
		{"an unknown operation", "web", types.JSONPatchType, `[{"op":"shuffle","path":""}]`, "", "", metav1.StatusReasonBadRequest, `op "shuffle" is unknown`},
		{"a failed test", "web", types.JSONPatchType, `[{"op":"test","path":"/spec/replicas","value":9}]`, "", "", metav1.StatusReasonInvalid, "testing value /spec/replicas failed"},
		{"a missing path", "web", types.JSONPatchType, `[{"op":"remove","path":"/spec/nothing"}]`, "", "", metav1.StatusReasonInvalid, "nothing"},
		{"an unknown field", "web", types.MergePatchType, `{"spec":{"replica":3}}`, "", metav1.FieldValidationStrict, metav1.StatusReasonInvalid, `strict decoding error: unknown field "spec.replica"`},
		{"a wrong type", "web", types.MergePatchType, `{"spec":{"replicas":"three"}}`, "", "", metav1.StatusReasonInvalid, "replicas"},
		{"another name", "web", types.MergePatchType, `{"metadata":{"name":"other"}}`, "", "", metav1.StatusReasonBadRequest, "the name of the object (other) does not match the name on the URL (web)"},
		{"another kind", "web", types.MergePatchType, `{"kind":"Pod"}`, "", "", metav1.StatusReasonInvalid, ""},
		{"an old resourceVersion", "web", types.MergePatchType, `{"metadata":{"resourceVersion":"1"},"spec":{"replicas":3}}`, "", "", metav1.StatusReasonConflict, "the object has been modified"},
		{"a missing object", "missing", types.MergePatchType, `{}`, "", "", metav1.StatusReasonNotFound, `deployments.apps "missing" not found`},
		{"another subresource", "web", types.MergePatchType, `{}`, "log", "", metav1.StatusReasonMethodNotAllowed, "not supported"},
		{"another type", "web", "text/plain", `{}`, "", "", metav1.StatusReasonUnsupportedMediaType, "accepted media types include"},
		{"a bad directive", "web", types.StrategicMergePatchType, `{"spec":{"template":{"$patch":"sideways"}}}`, "", "", metav1.StatusReasonInvalid, ""},
		{"an invalid result", "web", types.MergePatchType, `{"spec":{"replicas":-1}}`, "", "", metav1.StatusReasonInvalid, "spec.replicas: Invalid value: -1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := e.patch(t, test.object, test.how, test.body, test.subresource, objects.WriteOptions{Validation: test.validation})
			wantStatus(t, err, test.reason, test.words)
		})
	}
	var warnings []string
	o := objects.WriteOptions{Validation: metav1.FieldValidationWarn, Warn: func(w string) { warnings = append(warnings, w) }}
	if _, err := e.patch(t, "web", types.MergePatchType, `{"spec":{"replica":3}}`, "", o); err != nil {
		t.Fatal(err)
	}
	if len(warnings) != 1 || warnings[0] != `unknown field "spec.replica"` {
		t.Errorf("warnings %q", warnings)
	}
}

// A patch may ask for a document that doubles with each operation.
func TestPatchBomb(t *testing.T) {
	e := newEnv(t)
	create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	var ops []string
	for n := range 40 {
		ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"/spec","path":"/spec/x%d"}`, n))
	}
	_, err := e.patch(t, "web", types.JSONPatchType, "["+strings.Join(ops, ",")+"]", "", objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "the patch does not fit the object")
}

func TestConcurrentPatchesAllCount(t *testing.T) {
	e := newEnv(t)
	create(t, e, configMap("a", nil))
	var all sync.WaitGroup
	for key := range strings.SplitSeq("a b c d e f g h", " ") {
		all.Go(func() {
			for range 10 {
				if _, err := e.Patch(t.Context(), configMapsOf(t), "default", "a", types.MergePatchType, []byte(`{"data":{"`+key+`":"x"}}`), "", objects.WriteOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if cm := get(t, e, &corev1.ConfigMap{}, "default", "a"); len(cm.Data) != 8 {
		t.Errorf("data %v", cm.Data)
	}
}

func TestScale(t *testing.T) {
	e := newEnv(t)
	d := create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	scale, err := e.GetScale(deploymentsOf(t), "default", "web")
	if err != nil {
		t.Fatal(err)
	}
	if scale.Spec.Replicas != 2 || scale.Status.Selector != "app=web" || scale.UID != d.UID || scale.ResourceVersion != d.ResourceVersion || scale.Kind != "Scale" {
		t.Errorf("scale %+v", scale)
	}
	scale.Spec.Replicas = 4
	next, err := e.UpdateScale(t.Context(), deploymentsOf(t), "default", scale, objects.WriteOptions{})
	if err != nil || next.Spec.Replicas != 4 || next.ResourceVersion == scale.ResourceVersion {
		t.Fatalf("scale %+v, err %v", next, err)
	}
	_, err = e.UpdateScale(t.Context(), deploymentsOf(t), "default", scale, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonConflict, `deployments.apps "web": the object has been modified`)
	next.Spec.Replicas = -1
	_, err = e.UpdateScale(t.Context(), deploymentsOf(t), "default", next, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, `Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0`)
	out, err := e.patch(t, "web", types.MergePatchType, `{"spec":{"replicas":6}}`, "scale", objects.WriteOptions{})
	if patched := must(t, &autoscalingv1.Scale{})(out, err); patched.Spec.Replicas != 6 {
		t.Errorf("patched scale %+v", patched)
	}
	if d = get(t, e, d, "default", "web"); *d.Spec.Replicas != 6 || d.Generation != 3 {
		t.Errorf("deployment has %d replicas at generation %d", *d.Spec.Replicas, d.Generation)
	}
	_, err = e.GetScale(deploymentsOf(t), "default", "missing")
	wantStatus(t, err, metav1.StatusReasonNotFound, `deployments/scale.apps "missing" not found`)
}

const appliedYAML = `
apiVersion: v1
kind: ConfigMap
metadata: {name: app}
data: {a: "1", b: "2"}
`

func TestApply(t *testing.T) {
	e := newEnv(t)
	apply := func(manifest string) (*corev1.ConfigMap, bool) {
		t.Helper()
		out, changed, err := e.Apply(t.Context(), []byte(manifest), objects.WriteOptions{})
		return must(t, &corev1.ConfigMap{})(out, err), changed
	}
	cm, changed := apply(appliedYAML)
	if !changed || cm.Namespace != "default" || cm.Data["b"] != "2" {
		t.Fatalf("first: changed %t, %+v", changed, cm)
	}
	if got := cm.Annotations[corev1.LastAppliedConfigAnnotation]; strings.Contains(got, "status") || !strings.Contains(got, `"data":{"a":"1","b":"2"}`) {
		t.Errorf("annotation %s", got)
	}
	if again, changed := apply(appliedYAML); changed || again.ResourceVersion != cm.ResourceVersion {
		t.Errorf("second: changed %t", changed)
	}
	cm.Data["theirs"] = "kept"
	update(t, e, cm)
	cm, changed = apply(strings.Replace(appliedYAML, `, b: "2"`, `, c: "3"`, 1))
	if want := map[string]string{"a": "1", "c": "3", "theirs": "kept"}; !changed || len(cm.Data) != 3 || cm.Data["theirs"] != "kept" || cm.Data["c"] != "3" {
		t.Errorf("third: changed %t, data %v, want %v", changed, cm.Data, want)
	}
	remove(t, e, cm, "app", metav1.DeleteOptions{})
	if _, changed := apply(appliedYAML); !changed {
		t.Error("not created again")
	}
}

func TestApplyRefuses(t *testing.T) {
	e := newEnv(t)
	for _, test := range []struct{ name, manifest, words string }{
		{"no YAML", "a: [", "manifest is not YAML or JSON"},
		{"two of one key", "kind: A\nkind: B", `key "kind" already set`},
		{"no kind", "a: b", "manifest is no object"},
		{"an unknown kind", "kind: Gadget\napiVersion: v1\nmetadata: {name: x}", `no matches for kind "Gadget" in version "v1"`},
		{"no name", "kind: ConfigMap\napiVersion: v1", "metadata.name: required"},
		{"an unknown field", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\ndatum: {}", `unknown field "datum"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := e.Apply(t.Context(), []byte(test.manifest), objects.WriteOptions{})
			wantStatus(t, err, metav1.StatusReasonBadRequest, test.words)
		})
	}
}

func FuzzPatch(f *testing.F) {
	e := newMemoryEnv(f)
	create(f, e, parse[appsv1.Deployment](f, deploymentYAML))
	kinds := []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType}
	f.Add(0, []byte(`[{"op":"replace","path":"/spec/replicas","value":5}]`))
	f.Add(1, []byte(`{"spec":{"replicas":3}}`))
	f.Add(2, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"main","$patch":"delete"}]}}}}`))
	f.Add(2, []byte(`{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"main"}],"containers":[{"name":"main"}]}}}}`))
	f.Fuzz(func(t *testing.T, how int, body []byte) {
		kind := kinds[uint(how)%uint(len(kinds))] //nolint:gosec // any number will do
		out, err := e.Patch(t.Context(), deploymentsOf(t), "default", "web", kind, body, "", objects.WriteOptions{DryRun: true})
		if err == nil && out == nil {
			t.Error("neither object nor error")
		}
		if _, is := err.(interface{ Status() metav1.Status }); err != nil && !is {
			t.Errorf("error %v is a %T", err, err)
		}
	})
}
