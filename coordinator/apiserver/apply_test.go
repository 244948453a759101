package apiserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const deployments = "/apis/apps/v1/namespaces/default/deployments"

var applyPatch = header{"Content-Type": "application/apply-patch+yaml"}

// applied is a Deployment as one manager wants it.
func applied(fields string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n" + fields
}

const webSpec = `
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "registry.skerry/web:1"}]}
`

func (c *cluster) apply(path, query, manifest string) answer {
	c.t.Helper()
	return c.do("PATCH", path+"?"+query, manifest, applyPatch)
}

// managers lists an object's managers as "name operation subresource".
func managers(m metav1.ObjectMeta) string {
	var out []string
	for _, e := range m.ManagedFields {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Manager, e.Operation, e.Subresource)))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestServerSideApply(t *testing.T) {
	c := start(t)
	var d appsv1.Deployment
	a := c.apply(deployments+"/web", "fieldManager=one", applied(webSpec))
	if a.into(t, &d); a.code != 201 || managers(d.ObjectMeta) != "one Apply" || d.Generation != 1 {
		t.Fatalf("%d, %s, generation %d", a.code, managers(d.ObjectMeta), d.Generation)
	}
	if !strings.Contains(string(d.ManagedFields[0].FieldsV1.Raw), `"k:{\"name\":\"web\"}"`) { //nolint:staticcheck // what clients see
		t.Errorf("fields: %s", d.ManagedFields[0].FieldsV1)
	}
	created := d
	t.Run("again changes nothing", func(t *testing.T) {
		a := c.apply(deployments+"/web", "fieldManager=one", applied(webSpec))
		if a.into(t, &d); a.code != 200 || d.ResourceVersion != created.ResourceVersion {
			t.Errorf("%d, revision %s after %s", a.code, d.ResourceVersion, created.ResourceVersion)
		}
	})
	t.Run("conflict names the manager and the field", func(t *testing.T) {
		s := c.apply(deployments+"/web", "fieldManager=two", applied("  replicas: 3\n")).status(t)
		want := `Apply failed with 1 conflict: conflict with "one": .spec.replicas`
		if s.Code != 409 || s.Reason != metav1.StatusReasonConflict || s.Message != want {
			t.Errorf("%d %s: %s", s.Code, s.Reason, s.Message)
		}
		if len(s.Details.Causes) != 1 || s.Details.Causes[0] != (metav1.StatusCause{Type: "FieldManagerConflict", Message: `conflict with "one"`, Field: ".spec.replicas"}) {
			t.Errorf("causes %+v", s.Details.Causes)
		}
	})
	t.Run("the same value is shared", func(t *testing.T) {
		c.apply(deployments+"/web", "fieldManager=two", applied("  replicas: 2\n")).into(t, &d)
		if managers(d.ObjectMeta) != "one Apply, two Apply" {
			t.Error(managers(d.ObjectMeta))
		}
	})
	t.Run("force takes over, dry run does not", func(t *testing.T) {
		c.apply(deployments+"/web", "fieldManager=two&force=true&dryRun=All", applied("  replicas: 3\n")).into(t, &d)
		if *d.Spec.Replicas != 3 {
			t.Errorf("dry run shows %d replicas", *d.Spec.Replicas)
		}
		c.get(deployments+"/web").into(t, &d)
		if *d.Spec.Replicas != 2 {
			t.Errorf("dry run was stored")
		}
		c.apply(deployments+"/web", "fieldManager=two&force=true", applied("  replicas: 3\n")).into(t, &d)
		if *d.Spec.Replicas != 3 || d.Generation != 2 {
			t.Errorf("%d replicas, generation %d", *d.Spec.Replicas, d.Generation)
		}
	})
	t.Run("what is left out is removed, if nobody else has it", func(t *testing.T) {
		c.apply(deployments+"/web", "fieldManager=two", applied("  replicas: 3\n  minReadySeconds: 7\n")).into(t, &d)
		if d.Spec.MinReadySeconds != 7 {
			t.Fatal("not applied")
		}
		d = appsv1.Deployment{}
		c.apply(deployments+"/web", "fieldManager=two", applied("  replicas: 3\n")).into(t, &d)
		if d.Spec.MinReadySeconds != 0 || *d.Spec.Replicas != 3 {
			t.Errorf("%d seconds, %d replicas", d.Spec.MinReadySeconds, *d.Spec.Replicas)
		}
	})
	t.Run("an update takes what it changes", func(t *testing.T) {
		c.must("PATCH", deployments+"/web?fieldManager=scaler", `{"spec":{"replicas":5}}`)
		s := c.apply(deployments+"/web", "fieldManager=two", applied("  replicas: 3\n")).status(t)
		if s.Code != 409 || !strings.HasPrefix(s.Message, `Apply failed with 1 conflict: conflict with "scaler" using apps/v1`) {
			t.Errorf("%d: %s", s.Code, s.Message)
		}
	})
	t.Run("status is another's", func(t *testing.T) {
		status := "apiVersion: apps/v1\nkind: Deployment\nstatus: {replicas: 1, observedGeneration: 1}\nspec: {replicas: 99}\n"
		c.apply(deployments+"/web/status", "fieldManager=kubelet", status).into(t, &d)
		if d.Status.Replicas != 1 || *d.Spec.Replicas != 5 || !strings.Contains(managers(d.ObjectMeta), "kubelet Apply status") {
			t.Errorf("status %d, spec %d, %s", d.Status.Replicas, *d.Spec.Replicas, managers(d.ObjectMeta))
		}
	})
	t.Run("scaling counts", func(t *testing.T) {
		c.must("PATCH", deployments+"/web/scale?fieldManager=hand", `{"spec":{"replicas":6}}`)
		c.get(deployments+"/web").into(t, &d)
		if *d.Spec.Replicas != 6 || !strings.Contains(managers(d.ObjectMeta), "hand Update scale") {
			t.Errorf("%d replicas, %s", *d.Spec.Replicas, managers(d.ObjectMeta))
		}
	})
	t.Run("fields can be let go", func(t *testing.T) {
		c.must("PATCH", deployments+"/web", `{"metadata":{"managedFields":[{}]}}`)
		d = appsv1.Deployment{}
		if c.get(deployments+"/web").into(t, &d); len(d.ManagedFields) != 0 {
			t.Error(managers(d.ObjectMeta))
		}
	})
}

// TestUntracked: an object that nobody applies has no managed fields, unless its creator asks for them by giving a name.
func TestUntracked(t *testing.T) {
	c := start(t)
	var m corev1.ConfigMap
	c.configMap("plain", "1").into(t, &m)
	if len(m.ManagedFields) != 0 {
		t.Error(managers(m.ObjectMeta))
	}
	c.must("PATCH", configMaps+"/plain?fieldManager=x", `{"data":{"key":"2"}}`).into(t, &m)
	if len(m.ManagedFields) != 0 {
		t.Error(managers(m.ObjectMeta))
	}
	manifest := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"plain"},"data":{"key":"3"}}`
	s := c.apply(configMaps+"/plain", "fieldManager=y", manifest).status(t)
	if s.Code != 409 || !strings.HasPrefix(s.Message, `Apply failed with 1 conflict: conflict with "before-first-apply" using v1`) {
		t.Errorf("%d: %s", s.Code, s.Message)
	}
	c.apply(configMaps+"/plain", "fieldManager=y&force=true", manifest).into(t, &m)
	if got := managers(m.ObjectMeta); got != "before-first-apply Update, y Apply" {
		t.Error(got)
	}
	c.must("POST", configMaps+"?fieldManager=maker", `{"metadata":{"name":"named"},"data":{"a":"b"}}`).into(t, &m)
	if got := managers(m.ObjectMeta); got != "maker Update" {
		t.Error(got)
	}
}

func TestApplyThroughAlias(t *testing.T) {
	c := start(t)
	path := "/apis/events.k8s.io/v1/namespaces/default/events/e"
	a := c.apply(path, "fieldManager=m", `
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: e}
eventTime: "2026-01-01T00:00:00.000000Z"
reportingController: x.io/y
reportingInstance: z
action: a
reason: r
type: Normal
regarding: {kind: Pod, namespace: default, name: p}
note: first
`)
	if a.code != 201 {
		t.Fatalf("%d: %s", a.code, a.body)
	}
	var e corev1.Event
	c.get("/api/v1/namespaces/default/events/e").into(t, &e)
	if e.Message != "first" || managers(e.ObjectMeta) != "m Apply" {
		t.Errorf("%q, %s", e.Message, managers(e.ObjectMeta))
	}
}

var badApplies = []struct {
	name, path, query, manifest string
	code                        int
	want                        string
}{
	{"no manager", configMaps + "/a", "", "{apiVersion: v1, kind: ConfigMap}", 422, "fieldManager: Required value: is required for apply patch"},
	{"no YAML", configMaps + "/a", "fieldManager=m", "{", 400, "error decoding patch"},
	{"other kind", configMaps + "/a", "fieldManager=m", "{apiVersion: v1, kind: Secret}", 400, "invalid object type: /v1, Kind=Secret"},
	{"unknown field", configMaps + "/a", "fieldManager=m", "{apiVersion: v1, kind: ConfigMap, dat: {}}", 500, ".dat: field not declared in schema"},
	{"other name", configMaps + "/a", "fieldManager=m", "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}", 400, "the name of the object (b) does not match the name on the URL (a)"},
	{"managed fields", configMaps + "/a", "fieldManager=m", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: [{manager: x}]}}", 400, "metadata.managedFields must be nil"},
	{"missing, with a uid", configMaps + "/a", "fieldManager=m", "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: u}}", 409, "uid mismatch: the provided object specified uid u, and no existing object was found"},
	{"status of what is missing", deployments + "/a/status", "fieldManager=m", "{apiVersion: apps/v1, kind: Deployment}", 404, "not found"},
	{"a field twice", configMaps + "/a", "fieldManager=m&fieldValidation=Strict", "{apiVersion: v1, kind: ConfigMap, data: {a: b, a: c}}", 400, "error strict decoding patch"},
	{"duplicate key", deployments + "/a", "fieldManager=m", applied(strings.Replace(webSpec, "image:", `env: [{name: A, value: b}, {name: A, value: c}], image:`, 1)), 500, `.spec.template.spec.containers[name="web"].env: duplicate entries for key [name="A"]`},
	{"invalid", deployments + "/web", "fieldManager=m", applied("  replicas: -1\n"), 422, "spec.replicas: Invalid value: -1"},
	{"force without apply", configMaps + "/a", "force=true", "", 422, "force: Forbidden: may not be specified for non-apply patch"},
}

func TestBadApplies(t *testing.T) {
	c := start(t)
	for _, b := range badApplies {
		t.Run(b.name, func(t *testing.T) {
			how := applyPatch
			if b.manifest == "" {
				b.manifest, how = "{}", header{"Content-Type": "application/merge-patch+json"}
			}
			s := c.do("PATCH", b.path+"?"+b.query, b.manifest, how).status(t)
			if int(s.Code) != b.code || !strings.Contains(s.Message, b.want) {
				t.Errorf("%d: %s", s.Code, s.Message)
			}
		})
	}
}
