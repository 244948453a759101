package objects_test

import (
	"encoding/json"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/objects"
)

func TestUpdateComparesAndSets(t *testing.T) {
	e := newEnv(t)
	first := create(t, e, configMap("a", map[string]string{"n": "1"}))
	second := first.DeepCopy()
	second.Data["n"] = "2"
	second = update(t, e, second)
	if second.ResourceVersion == first.ResourceVersion || second.UID != first.UID || !second.CreationTimestamp.Equal(&first.CreationTimestamp) {
		t.Errorf("update gave %+v after %+v", second.ObjectMeta, first.ObjectMeta)
	}
	stale := first.DeepCopy()
	stale.Data["n"] = "3"
	_, _, err := e.Update(t.Context(), stale, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonConflict, `Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`)

	stale.ResourceVersion = "" // the last writer wins
	if out := update(t, e, stale); out.Data["n"] != "3" {
		t.Errorf("unconditional update gave %v", out.Data)
	}
	other := stale.DeepCopy()
	other.UID = "of-another-life"
	_, _, err = e.Update(t.Context(), other, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: of-another-life, UID in object meta: "+string(first.UID))

	_, _, err = e.Update(t.Context(), configMap("missing", nil), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "missing" not found`)
}

func TestUpdateThatChangesNothingMakesNoRevision(t *testing.T) {
	e := newEnv(t)
	created := create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	before := e.view.Revision()
	bare := parse[appsv1.Deployment](t, deploymentYAML) // without the defaults
	if out := update(t, e, bare); out.ResourceVersion != created.ResourceVersion {
		t.Errorf("revision went from %s to %s", created.ResourceVersion, out.ResourceVersion)
	}
	status := created.DeepCopy()
	status.Spec.Paused = true // not part of a status write
	if out := must(t, created)(e.UpdateStatus(t.Context(), status, objects.WriteOptions{})); out.ResourceVersion != created.ResourceVersion {
		t.Errorf("status write made revision %s", out.ResourceVersion)
	}
	if e.view.Revision() != before {
		t.Errorf("store went from %d to %d", before, e.view.Revision())
	}
}

func TestSpecAndStatusAreApart(t *testing.T) {
	e := newEnv(t)
	d := create(t, e, parse[appsv1.Deployment](t, deploymentYAML))

	d.Status = appsv1.DeploymentStatus{Replicas: 2, ReadyReplicas: 1, ObservedGeneration: 1}
	d.Spec.Paused = true
	d = must(t, d)(e.UpdateStatus(t.Context(), d, objects.WriteOptions{}))
	if d.Spec.Paused || d.Status.ReadyReplicas != 1 || d.Generation != 1 {
		t.Errorf("status write: %+v", d)
	}
	d.Spec.Paused, d.Status.ReadyReplicas, d.Generation = true, 9, 40
	d = update(t, e, d)
	if !d.Spec.Paused || d.Status.ReadyReplicas != 1 || d.Generation != 2 {
		t.Errorf("update: %+v", d)
	}
	d.Labels["new"] = "label"
	if d = update(t, e, d); d.Generation != 2 {
		t.Errorf("generation %d after a label, want 2", d.Generation)
	}
	_, err := e.UpdateStatus(t.Context(), create(t, e, configMap("a", nil)), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonMethodNotAllowed, "update status is not supported on resources of kind \"configmaps\"")
}

func TestUpdateRefuses(t *testing.T) {
	e := newEnv(t)
	yes := true
	frozen := configMap("frozen", map[string]string{"a": "1"})
	frozen.Immutable = &yes
	frozen = create(t, e, frozen)
	frozen.Data["a"] = "2"
	secret := create(t, e, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "s"}, Immutable: &yes, Data: map[string][]byte{"a": []byte("1")}})
	secret.Data["a"] = []byte("2")
	pod := create(t, e, parse[corev1.Pod](t, podYAML))
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
	moved := get(t, e, pod, "default", "web")
	moved.Spec.NodeName = "n1"
	svc := create(t, e, clusterService("svc", ""))
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "10.43.9.9", []string{"10.43.9.9"}
	renamed := create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	renamed.Spec.Selector.MatchLabels["app"] = "other"
	renamed.Spec.Template.Labels["app"] = "other"
	lease := create(t, e, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "l"}})
	lease.ResourceVersion = ""
	dying := create(t, e, configMap("dying", nil))
	dying.Finalizers = []string{"example.com/a"}
	dying = update(t, e, dying)
	dying.DeletionTimestamp = &metav1.Time{Time: dying.CreationTimestamp.Add(1e9)}

	for _, test := range []struct {
		name  string
		obj   runtime.Object
		words string
	}{
		{"an immutable config map", frozen, "data: Forbidden: field is immutable when `immutable` is set"},
		{"an immutable secret", secret, "data: Forbidden: field is immutable when `immutable` is set"},
		{"a pod's resources", pod, "pod updates may not change fields other than `spec.containers[*].image`"},
		{"a pod's node", moved, "pod updates may not change fields other than `spec.containers[*].image`"},
		{"a service's address", svc, `spec.clusterIPs[0]: Invalid value: ["10.43.9.9"]: may not change once set`},
		{"a selector", renamed, "spec.selector: Invalid value"},
		{"a lease without resourceVersion", lease, "metadata.resourceVersion: Invalid value: \"\": must be specified for an update"},
		{"a deletion timestamp", dying, "metadata.deletionTimestamp: Invalid value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := e.Update(t.Context(), test.obj, objects.WriteOptions{})
			wantStatus(t, err, metav1.StatusReasonInvalid, test.words)
		})
	}
}

// A manifest that was created is replaced by itself: what admission filled in then is no change of the client's.
func TestReplaceAPodByItsManifest(t *testing.T) {
	e := newEnv(t)
	created := create(t, e, parse[corev1.Pod](t, podYAML))
	bare := parse[corev1.Pod](t, podYAML)
	bare.Spec.ServiceAccountName, bare.Spec.DeprecatedServiceAccount = created.Spec.ServiceAccountName, created.Spec.DeprecatedServiceAccount // upstream demands it too
	if out := update(t, e, bare); out.ResourceVersion != created.ResourceVersion {
		t.Errorf("revision went from %s to %s", created.ResourceVersion, out.ResourceVersion)
	}
	bare.Spec.Containers[0].Image = "other:2"
	if out := update(t, e, bare); out.Generation != 2 || *out.Spec.Priority != 0 || len(out.Spec.Tolerations) != len(created.Spec.Tolerations) {
		t.Errorf("update gave generation %d, %+v", out.Generation, out.Spec)
	}
}

func TestCreateByUpdate(t *testing.T) {
	e := newEnv(t)
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "leader"}}
	out, created, err := e.Update(t.Context(), lease, objects.WriteOptions{})
	if err != nil || !created {
		t.Fatalf("created %t, err %v", created, err)
	}
	must(t, lease)(out, err)
	_, created, err = e.Update(t.Context(), out, objects.WriteOptions{})
	if err != nil || created {
		t.Fatalf("second update: created %t, err %v", created, err)
	}
	lost := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "lost", UID: "was-there"}}
	_, _, err = e.Update(t.Context(), lost, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound)
}

func TestMutateStatus(t *testing.T) {
	e := newEnv(t)
	pod := create(t, e, parse[corev1.Pod](t, podYAML))
	running := func(o runtime.Object) bool {
		p, ok := o.(*corev1.Pod)
		if !ok || p.Status.Phase == corev1.PodRunning {
			return false
		}
		p.Status.Phase = corev1.PodRunning
		p.Spec.NodeName = "not here"
		return true
	}
	out := must(t, pod)(e.MutateStatus(t.Context(), podsOf(t), "default", "web", running))
	if out.Status.Phase != corev1.PodRunning || out.Spec.NodeName != "" {
		t.Errorf("got %+v", out)
	}
	again := must(t, pod)(e.MutateStatus(t.Context(), podsOf(t), "default", "web", running))
	if again.ResourceVersion != out.ResourceVersion {
		t.Error("a mutation that changes nothing made a revision")
	}
	_, err := e.MutateStatus(t.Context(), podsOf(t), "default", "missing", running)
	wantStatus(t, err, metav1.StatusReasonNotFound)
}

// Two coordinators write one object, which happens while leadership changes: nothing may be lost, and a write without a
// precondition must not fail.
func TestOvertakenWritesAreMadeAgain(t *testing.T) {
	e := newEnv(t)
	other := attach(t, e.state, objects.Options{})
	create(t, e, configMap("shared", nil))
	if err := other.view.Wait(t.Context(), e.view.Revision()); err != nil {
		t.Fatal(err)
	}
	const rounds = 20
	ended := make(chan error, 2)
	for name, who := range map[string]*env{"one": e, "two": other} {
		go func() {
			for range rounds {
				_, err := who.Mutate(t.Context(), configMapsOf(t), "default", "shared", func(o runtime.Object) bool {
					cm, ok := o.(*corev1.ConfigMap)
					if !ok {
						return false
					}
					if cm.Data == nil {
						cm.Data = map[string]string{}
					}
					cm.Data[name] += "x"
					return true
				})
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if err := e.view.Wait(t.Context(), other.view.Revision()); err != nil {
		t.Fatal(err)
	}
	cm := get(t, e, &corev1.ConfigMap{}, "default", "shared")
	if len(cm.Data["one"]) != rounds || len(cm.Data["two"]) != rounds {
		t.Errorf("got %d and %d writes, want %d each", len(cm.Data["one"]), len(cm.Data["two"]), rounds)
	}
}

// What a write returns shares nothing with what everybody reads.
func TestResultsAreTheCallersOwn(t *testing.T) {
	e := newEnv(t)
	d := create(t, e, parse[appsv1.Deployment](t, deploymentYAML))
	d.Finalizers = []string{"example.com/a"}
	d = update(t, e, d)
	remove(t, e, d, "web", metav1.DeleteOptions{})
	d = get(t, e, d, "default", "web")
	d.Status.Replicas, d.Status.ReadyReplicas = 1, 1
	d = must(t, d)(e.UpdateStatus(t.Context(), d, objects.WriteOptions{}))
	item, _ := e.view.Get(deploymentsOf(t), "default", "web")
	before, err := item.JSON()
	if err != nil {
		t.Fatal(err)
	}
	d.Labels["app"], d.DeletionTimestamp.Time, *d.DeletionGracePeriodSeconds = "spoilt", d.DeletionTimestamp.Add(1e12), 99
	d.Spec.Template.Spec.Containers[0].Image, d.Spec.Selector.MatchLabels["app"], *d.Spec.Replicas = "spoilt", "spoilt", 99
	after, err := json.Marshal(item.Object)
	if err != nil || string(after) != string(before) {
		t.Errorf("the view changed from\n%s to\n%s", before, after)
	}
}
