package objects_test

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

func placed(t testing.TB, e *env, name string) *corev1.Pod {
	t.Helper()
	pod := parse[corev1.Pod](t, podYAML)
	pod.Name, pod.Spec.NodeName = name, "n1"
	return create(t, e, pod)
}

func remove(t testing.TB, e *env, like runtime.Object, name string, o metav1.DeleteOptions) bool {
	t.Helper()
	_, deleted, err := e.Delete(t.Context(), resource.ForObject(like), "default", name, o)
	if err != nil {
		t.Fatal(err)
	}
	return deleted
}

func grace(seconds int64) metav1.DeleteOptions {
	return metav1.DeleteOptions{GracePeriodSeconds: &seconds}
}

func TestDeletePod(t *testing.T) {
	e := newEnv(t)
	pod := parse[corev1.Pod](t, podYAML)
	create(t, e, pod)
	if !remove(t, e, pod, "web", metav1.DeleteOptions{}) {
		t.Error("a pod that runs nowhere was only marked")
	}
	gone(t, e, pod, "default", "web")

	live := placed(t, e, "live")
	if remove(t, e, pod, "live", metav1.DeleteOptions{}) {
		t.Error("a placed pod went without its node's word")
	}
	marked := get(t, e, pod, "default", "live")
	if marked.DeletionTimestamp == nil || *marked.DeletionGracePeriodSeconds != 30 || marked.Generation != live.Generation+1 {
		t.Fatalf("marked: %+v", marked.ObjectMeta)
	}
	before := e.view.Revision()
	if remove(t, e, pod, "live", metav1.DeleteOptions{}) || remove(t, e, pod, "live", grace(60)) {
		t.Error("a second deletion ended it")
	}
	if e.view.Revision() != before {
		t.Error("a second deletion that changes nothing made a revision")
	}
	if remove(t, e, pod, "live", grace(5)) {
		t.Error("a shorter grace ended it")
	}
	if s := get(t, e, pod, "default", "live"); *s.DeletionGracePeriodSeconds != 5 || !s.DeletionTimestamp.Before(marked.DeletionTimestamp) {
		t.Errorf("shortened: %v at %v", *s.DeletionGracePeriodSeconds, s.DeletionTimestamp)
	}
	if !remove(t, e, pod, "live", grace(0)) {
		t.Error("force did not end it")
	}
	gone(t, e, pod, "default", "live")
	_, _, err := e.Delete(t.Context(), podsOf(t), "default", "live", metav1.DeleteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, `pods "live" not found`)
}

func TestFinishPod(t *testing.T) {
	e := newEnv(t)
	pod := placed(t, e, "a")
	finish := func(uid types.UID, force bool) {
		t.Helper()
		if err := e.FinishPod(t.Context(), "default", "a", uid, force); err != nil {
			t.Fatal(err)
		}
	}
	finish(pod.UID, false)
	get(t, e, pod, "default", "a") // nobody asked for its deletion
	remove(t, e, pod, "a", metav1.DeleteOptions{})
	finish("another", false)
	get(t, e, pod, "default", "a") // another pod of that name is gone, not this one
	finish(pod.UID, false)
	gone(t, e, pod, "default", "a")
	finish(pod.UID, false) // reported again

	held := placed(t, e, "a")
	held.Finalizers = []string{"example.com/hold"}
	held = update(t, e, held)
	finish(held.UID, true)
	if h := get(t, e, pod, "default", "a"); h.DeletionTimestamp == nil || *h.DeletionGracePeriodSeconds != 0 {
		t.Errorf("held: %+v", h.ObjectMeta)
	}
	held = get(t, e, pod, "default", "a")
	held.Finalizers = nil
	update(t, e, held)
	gone(t, e, pod, "default", "a")
}

func TestFinalizersHoldObjects(t *testing.T) {
	e := newEnv(t)
	cm := configMap("held", nil)
	cm.Finalizers = []string{"example.com/a"}
	create(t, e, cm)
	if remove(t, e, cm, "held", metav1.DeleteOptions{}) {
		t.Error("a finalizer did not hold it")
	}
	held := get(t, e, cm, "default", "held")
	if held.DeletionTimestamp == nil || *held.DeletionGracePeriodSeconds != 0 {
		t.Errorf("held: %+v", held.ObjectMeta)
	}
	more := held.DeepCopy()
	more.Finalizers = append(more.Finalizers, "example.com/b")
	_, _, err := e.Update(t.Context(), more, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "no new finalizers can be added if the object is being deleted")
	must(t, held)(e.Patch(t.Context(), configMapsOf(t), "default", "held", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers"}]`), "", objects.WriteOptions{}))
	gone(t, e, cm, "default", "held")
}

func TestPropagation(t *testing.T) {
	e := newEnv(t)
	policy := func(p metav1.DeletionPropagation) metav1.DeleteOptions {
		return metav1.DeleteOptions{PropagationPolicy: &p}
	}
	orphan := true
	for name, test := range map[string]struct {
		o          metav1.DeleteOptions
		finalizers string
	}{
		"default":    {metav1.DeleteOptions{}, ""},
		"background": {policy(metav1.DeletePropagationBackground), ""},
		"foreground": {policy(metav1.DeletePropagationForeground), "foregroundDeletion"},
		"orphan":     {policy(metav1.DeletePropagationOrphan), "orphan"},
		"old-orphan": {metav1.DeleteOptions{OrphanDependents: &orphan}, "orphan"}, //nolint:staticcheck // what old clients send
	} {
		t.Run(name, func(t *testing.T) {
			d := parse[appsv1.Deployment](t, deploymentYAML)
			d.Name = name
			create(t, e, d)
			deleted := remove(t, e, d, name, test.o)
			if deleted != (test.finalizers == "") {
				t.Fatalf("deleted: %t", deleted)
			}
			if deleted {
				return
			}
			d = get(t, e, d, "default", name)
			if got := strings.Join(d.Finalizers, " "); got != test.finalizers || d.DeletionTimestamp == nil || d.Generation != 2 {
				t.Errorf("finalizers %q, generation %d", got, d.Generation)
			}
		})
	}
	bad := policy("Sideways")
	_, _, err := e.Delete(t.Context(), deploymentsOf(t), "default", "any", bad)
	wantStatus(t, err, metav1.StatusReasonInvalid, `propagationPolicy: Unsupported value: "Sideways"`)
}

func TestDeletePreconditions(t *testing.T) {
	e := newEnv(t)
	cm := create(t, e, configMap("a", nil))
	uid, version := types.UID("other"), "1"
	_, _, err := e.Delete(t.Context(), configMapsOf(t), "default", "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	wantStatus(t, err, metav1.StatusReasonConflict, "the UID in the precondition (other) does not match the UID in record ("+string(cm.UID)+")")
	_, _, err = e.Delete(t.Context(), configMapsOf(t), "default", "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
	wantStatus(t, err, metav1.StatusReasonConflict, "the ResourceVersion in the precondition (1) does not match")
	if !remove(t, e, cm, "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &cm.UID, ResourceVersion: &cm.ResourceVersion}}) {
		t.Error("not deleted")
	}
}

func TestNamespaceLife(t *testing.T) {
	e := newEnv(t)
	ns := create(t, e, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	if ns.Labels[corev1.LabelMetadataName] != "team" || ns.Status.Phase != corev1.NamespaceActive || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("new namespace: %+v", ns)
	}
	content := configMap("a", nil)
	content.Namespace = "team"
	create(t, e, content)
	if _, deleted, err := e.Delete(t.Context(), resource.ForObject(ns), "", "team", metav1.DeleteOptions{}); err != nil || deleted {
		t.Fatalf("deleted %t, err %v", deleted, err)
	}
	ns = get(t, e, ns, "", "team")
	if ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil {
		t.Errorf("after delete: %+v", ns)
	}
	late := configMap("late", nil)
	late.Namespace = "team"
	_, err := e.Create(t.Context(), late, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonForbidden, `configmaps "late" is forbidden: unable to create new content in namespace team because it is being terminated`)

	kept := ns.DeepCopy()
	kept.Spec.Finalizers = nil // an update may not change them
	if kept = update(t, e, kept); len(kept.Spec.Finalizers) != 1 {
		t.Error("an update changed spec.finalizers")
	}
	ns = get(t, e, ns, "", "team")
	ns.Spec.Finalizers = nil
	if _, err := e.Finalize(t.Context(), ns, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone(t, e, ns, "", "team")

	for _, name := range []string{"default", "kube-system", "kube-public"} {
		_, _, err := e.Delete(t.Context(), resource.ForObject(ns), "", name, metav1.DeleteOptions{})
		wantStatus(t, err, metav1.StatusReasonForbidden, "this namespace may not be deleted")
	}
}

func TestDeleteCollection(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"a1", "a2", "a3", "b1"} {
		create(t, e, configMap(name, nil))
	}
	out, err := e.DeleteCollection(t.Context(), configMapsOf(t), "default", func(i *view.Item) bool { return strings.HasPrefix(i.Meta.GetName(), "a") }, metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range out {
		names = append(names, must(t, &corev1.ConfigMap{})(o, nil).Name)
	}
	if got := strings.Join(names, " "); got != "a1 a2 a3" {
		t.Errorf("deleted %q", got)
	}
	if left := e.view.Len(configMapsOf(t)); left != 1 {
		t.Errorf("%d left, want 1", left)
	}
}

func TestBinding(t *testing.T) {
	e := newEnv(t)
	pod := create(t, e, parse[corev1.Pod](t, podYAML))
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"why": "room"}}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}
	wrong := binding.DeepCopy()
	wrong.UID = "other"
	wantStatus(t, e.Bind(t.Context(), "default", wrong, objects.WriteOptions{}), metav1.StatusReasonConflict)
	wantStatus(t, e.Bind(t.Context(), "default", &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "web"}}, objects.WriteOptions{}), metav1.StatusReasonInvalid, "target.name: Required value")
	if err := e.Bind(t.Context(), "default", binding, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	pod = get(t, e, pod, "default", "web")
	if pod.Spec.NodeName != "n1" || pod.Annotations["why"] != "room" || pod.Generation != 1 || pod.Status.Conditions[0].Type != corev1.PodScheduled {
		t.Errorf("bound: %+v", pod)
	}
	binding.Target.Name = "n2"
	wantStatus(t, e.Bind(t.Context(), "default", binding, objects.WriteOptions{}), metav1.StatusReasonConflict, `pod web is already assigned to node "n1"`)

	other := parse[corev1.Pod](t, podYAML)
	other.Name = "planned"
	other = create(t, e, other)
	plan := other.DeepCopy()
	plan.Spec.NodeName = "n3"
	plan.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, Reason: "Fits"}}
	bound, err := e.BindPod(t.Context(), plan)
	if err != nil || bound.Spec.NodeName != "n3" || bound.Status.Conditions[0].Reason != "Fits" {
		t.Errorf("bound %+v, err %v", bound, err)
	}
	plan.Spec.NodeName = "n4"
	_, err = e.BindPod(t.Context(), plan)
	wantStatus(t, err, metav1.StatusReasonConflict, "the object has been modified")
	remove(t, e, pod, "planned", metav1.DeleteOptions{})
	plan.ResourceVersion = ""
	_, err = e.BindPod(t.Context(), plan)
	wantStatus(t, err, metav1.StatusReasonConflict, "pod planned is being deleted, cannot be assigned to a host")
}

func TestEvict(t *testing.T) {
	e := newEnv(t)
	placed(t, e, "a")
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}}
	if err := e.Evict(t.Context(), eviction, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if get(t, e, &corev1.Pod{}, "default", "a").DeletionTimestamp == nil {
		t.Error("not evicted")
	}
	eviction.Name = "missing"
	wantStatus(t, e.Evict(t.Context(), eviction, objects.WriteOptions{}), metav1.StatusReasonNotFound)
}
