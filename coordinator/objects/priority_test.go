package objects_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/objects"
)

func priorityClass(name string, value int32, change ...func(*schedulingv1.PriorityClass)) *schedulingv1.PriorityClass {
	c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	for _, f := range change {
		f(c)
	}
	return c
}

func isDefault(c *schedulingv1.PriorityClass) { c.GlobalDefault = true }

func never(c *schedulingv1.PriorityClass) {
	policy := corev1.PreemptNever
	c.PreemptionPolicy = &policy
}

// TestPriorityAdmission: a pod has the priority and the preemption policy of its class, and keeps them.
func TestPriorityAdmission(t *testing.T) {
	e := newEnv(t)
	create(t, e, priorityClass("urgent", 1000))
	create(t, e, priorityClass("polite", 500, never))
	pod := func(name, class string) *corev1.Pod {
		p := parse[corev1.Pod](t, podYAML)
		p.Name, p.Spec.PriorityClassName = name, class
		return create(t, e, p)
	}
	check := func(p *corev1.Pod, class string, value int32, policy corev1.PreemptionPolicy) {
		t.Helper()
		if p.Spec.PriorityClassName != class || p.Spec.Priority == nil || *p.Spec.Priority != value || p.Spec.PreemptionPolicy == nil || *p.Spec.PreemptionPolicy != policy {
			t.Errorf("pod %s: class %q, priority %v, policy %v; want %s, %d, %s", p.Name, p.Spec.PriorityClassName, p.Spec.Priority, p.Spec.PreemptionPolicy, class, value, policy)
		}
	}
	check(pod("a", "urgent"), "urgent", 1000, corev1.PreemptLowerPriority)
	check(pod("b", "polite"), "polite", 500, corev1.PreemptNever)
	check(pod("c", ""), "", 0, corev1.PreemptLowerPriority)
	check(pod("d", "system-node-critical"), "system-node-critical", 2000001000, corev1.PreemptLowerPriority)
	create(t, e, priorityClass("usual", 7, isDefault))
	check(pod("e", ""), "usual", 7, corev1.PreemptLowerPriority)

	again := get(t, e, &corev1.Pod{}, "default", "a")
	again.Spec.Priority, again.Spec.PreemptionPolicy = nil, nil
	check(update(t, e, again), "urgent", 1000, corev1.PreemptLowerPriority)
}

func TestPriorityRefusals(t *testing.T) {
	e := newEnv(t)
	create(t, e, priorityClass("polite", 500, never))
	create(t, e, priorityClass("usual", 7, isDefault))
	pod := func(change func(*corev1.Pod)) runtime.Object {
		p := parse[corev1.Pod](t, podYAML)
		change(p)
		return p
	}
	lower := corev1.PreemptLowerPriority
	for _, test := range []struct {
		obj   runtime.Object
		words string
	}{
		{pod(func(p *corev1.Pod) { p.Spec.PriorityClassName = "nope" }), "no PriorityClass with name nope was found"},
		{pod(func(p *corev1.Pod) { n := int32(9); p.Spec.Priority = &n }), "the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"},
		{pod(func(p *corev1.Pod) { p.Spec.PriorityClassName, p.Spec.PreemptionPolicy = "polite", &lower }), "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"},
		{priorityClass("second", 1, isDefault), `priorityclasses.scheduling.k8s.io "second" is forbidden: PriorityClass usual is already marked as default. Only one default can exist`},
		{priorityClass("high", 1000000001), "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"},
		{priorityClass("system-mine", 1), "priority class names with 'system-' prefix are reserved for system use only"},
	} {
		_, err := e.Create(t.Context(), test.obj, objects.WriteOptions{})
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("got %v, want %s", err, test.words)
		}
	}
	changed := get(t, e, &schedulingv1.PriorityClass{}, "", "polite")
	changed.Value = 501
	if _, _, err := e.Update(t.Context(), changed, objects.WriteOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "may not be changed in an update") {
		t.Errorf("a changed value gives %v", err)
	}
	changed = get(t, e, &schedulingv1.PriorityClass{}, "", "polite")
	changed.GlobalDefault = true
	if _, _, err := e.Update(t.Context(), changed, objects.WriteOptions{}); err == nil || !strings.Contains(err.Error(), "PriorityClass usual is already marked as default") {
		t.Errorf("a second default by update gives %v", err)
	}
}
