package objects_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/objects"
)

// guarded is a budget, and pods that it selects, in the namespace default.
func guarded(t *testing.T, e *env, allowed int32, pods ...string) *policyv1.PodDisruptionBudget {
	t.Helper()
	least := intstr.FromInt32(int32(len(pods)) - allowed)
	b := create(t, e, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	})
	for _, name := range pods {
		running(t, e, name, corev1.ConditionTrue)
	}
	b.Status = policyv1.PodDisruptionBudgetStatus{
		ObservedGeneration: b.Generation, DisruptionsAllowed: allowed, CurrentHealthy: int32(len(pods)), DesiredHealthy: least.IntVal, ExpectedPods: int32(len(pods)),
	}
	return status(t, e, b)
}

func status[T runtime.Object](t *testing.T, e *env, obj T) T {
	t.Helper()
	return must[T](t, obj)(e.UpdateStatus(t.Context(), obj, objects.WriteOptions{}))
}

// running makes a pod app=web that runs and is ready, or is not.
func running(t *testing.T, e *env, name string, ready corev1.ConditionStatus) *corev1.Pod {
	t.Helper()
	pod := parse[corev1.Pod](t, podYAML)
	pod.Name, pod.Labels, pod.Spec.NodeName = name, map[string]string{"app": "web"}, "n1"
	pod = create(t, e, pod)
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: ready})
	return status(t, e, pod)
}

func evict(t *testing.T, e *env, name string, options *metav1.DeleteOptions) error {
	t.Helper()
	return e.Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, DeleteOptions: options}, objects.WriteOptions{})
}

func wantEvicted(t *testing.T, e *env, name string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("evict %s: %v", name, err)
	}
	pod := get(t, e, &corev1.Pod{}, "default", name)
	told := false
	for _, c := range pod.Status.Conditions {
		told = told || c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == "EvictionByEvictionAPI" && c.Message == "Eviction API: evicting"
	}
	if pod.DeletionTimestamp == nil || !told {
		t.Errorf("%s: deletion %v, conditions %+v", name, pod.DeletionTimestamp, pod.Status.Conditions)
	}
}

func wantCause(t *testing.T, err error, code int32, words string) {
	t.Helper()
	cause, ok := apierrors.StatusCause(err, policyv1.DisruptionBudgetCause)
	if !ok || cause.Message != words || err.(apierrors.APIStatus).Status().Code != code {
		t.Fatalf("got %v with cause %+v, want %d with %q", err, cause, code, words)
	}
}

func TestEvictionTakesFromTheBudget(t *testing.T) {
	e := newEnv(t)
	guarded(t, e, 1, "a", "b")
	grace := int64(7)
	wantEvicted(t, e, "a", evict(t, e, "a", &metav1.DeleteOptions{GracePeriodSeconds: &grace}))
	if pod := get(t, e, &corev1.Pod{}, "default", "a"); *pod.DeletionGracePeriodSeconds != 7 {
		t.Errorf("grace %d", *pod.DeletionGracePeriodSeconds)
	}
	err := evict(t, e, "b", nil)
	wantStatus(t, err, metav1.StatusReasonTooManyRequests, "Cannot evict pod as it would violate the pod's disruption budget.")
	wantCause(t, err, 429, "The disruption budget b does not allow evicting pods currently")
	b := get(t, e, &policyv1.PodDisruptionBudget{}, "default", "b")
	if _, noted := b.Status.DisruptedPods["a"]; !noted || len(b.Status.DisruptedPods) != 1 || b.Status.DisruptionsAllowed != 0 {
		t.Errorf("status %+v", b.Status)
	}
	// One that is going already costs nothing.
	if err := evict(t, e, "a", nil); err != nil {
		t.Error(err)
	}
	wantStatus(t, evict(t, e, "gone", nil), metav1.StatusReasonNotFound, `pods "gone" not found`)
}

func TestEvictionRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*policyv1.PodDisruptionBudgetStatus)
		code   int32
		words  string
	}{
		"too few": {
			func(s *policyv1.PodDisruptionBudgetStatus) { s.CurrentHealthy, s.DesiredHealthy = 1, 2 }, 429,
			"The disruption budget b needs 2 healthy pods and has 1 currently",
		},
		"not worked out": {
			func(s *policyv1.PodDisruptionBudgetStatus) { s.ObservedGeneration, s.DisruptionsAllowed = 0, 1 }, 429,
			"The disruption budget b is still being processed by the server.",
		},
		"failed": {func(s *policyv1.PodDisruptionBudgetStatus) {
			s.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "no scale", LastTransitionTime: metav1.Now()}}
		}, 429, "The disruption budget b does not allow evicting pods currently because it failed sync: no scale"},
		"with words": {func(s *policyv1.PodDisruptionBudgetStatus) {
			s.CurrentHealthy, s.DesiredHealthy = 2, 1
			s.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: "Because", Message: "so", LastTransitionTime: metav1.Now()}}
		}, 429, "The disruption budget b does not allow evicting pods currently (Because): so"},
		"too many promises": {func(s *policyv1.PodDisruptionBudgetStatus) {
			s.DisruptedPods = map[string]metav1.Time{}
			for i := range 2001 {
				s.DisruptedPods[fmt.Sprintf("p%d", i)] = metav1.Now()
			}
		}, 403, "The disruption budget b does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			b := guarded(t, e, 0, "a", "b")
			test.change(&b.Status)
			status(t, e, b)
			wantCause(t, evict(t, e, "a", nil), test.code, test.words)
			if pod := get(t, e, &corev1.Pod{}, "default", "a"); pod.DeletionTimestamp != nil || len(pod.Status.Conditions) != 1 {
				t.Errorf("the pod was touched: %+v", pod.Status)
			}
		})
	}
}

func TestEvictionOfUnhealthyPods(t *testing.T) {
	always := policyv1.AlwaysAllow
	e := newEnv(t)
	b := guarded(t, e, 0, "a", "b")
	running(t, e, "sick", corev1.ConditionFalse)
	wantEvicted(t, e, "sick", evict(t, e, "sick", nil)) // the budget is not the poorer for it
	b.Status.CurrentHealthy = 1
	b = status(t, e, b)
	running(t, e, "sicker", corev1.ConditionFalse)
	wantCause(t, evict(t, e, "sicker", nil), 429, "The disruption budget b needs 2 healthy pods and has 1 currently")
	b.Spec.UnhealthyPodEvictionPolicy = &always
	update(t, e, b)
	wantEvicted(t, e, "sicker", evict(t, e, "sicker", nil))
	wantCause(t, evict(t, e, "a", nil), 429, "The disruption budget b is still being processed by the server.")

	pending := parse[corev1.Pod](t, podYAML)
	pending.Name, pending.Labels = "pending", map[string]string{"app": "web"}
	create(t, e, pending)
	if err := evict(t, e, "pending", nil); err != nil {
		t.Error(err)
	}
	gone(t, e, &corev1.Pod{}, "default", "pending")
}

func TestEvictionPreconditionsAndDryRun(t *testing.T) {
	e := newEnv(t)
	guarded(t, e, 1, "a", "b")
	wrong := metav1.NewUIDPreconditions("other")
	wantStatus(t, evict(t, e, "a", &metav1.DeleteOptions{Preconditions: wrong}), metav1.StatusReasonConflict, "the UID in the precondition (other) does not match")
	old := "1"
	wantStatus(t, evict(t, e, "a", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &old}}), metav1.StatusReasonConflict, "the ResourceVersion in the precondition (1)")
	dry := objects.WriteOptions{DryRun: true}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, DeleteOptions: &metav1.DeleteOptions{DryRun: []string{"Some"}}}
	wantStatus(t, e.Evict(t.Context(), eviction, dry), metav1.StatusReasonBadRequest, "Non-matching dry-run options in request and content: [All] and [Some]")
	eviction.DeleteOptions = nil
	for range 2 {
		if err := e.Evict(t.Context(), eviction, dry); err != nil {
			t.Fatal(err)
		}
	}
	if b := get(t, e, &policyv1.PodDisruptionBudget{}, "default", "b"); b.Status.DisruptionsAllowed != 1 || len(b.Status.DisruptedPods) != 0 {
		t.Errorf("a dry run changed the budget: %+v", b.Status)
	}
	pod := get(t, e, &corev1.Pod{}, "default", "a")
	if pod.DeletionTimestamp != nil || len(pod.Status.Conditions) != 1 {
		t.Errorf("a dry run changed the pod: %+v", pod.Status)
	}
	wantEvicted(t, e, "a", evict(t, e, "a", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID, ResourceVersion: &pod.ResourceVersion}}))
}

func TestEvictionWithTwoBudgets(t *testing.T) {
	e := newEnv(t)
	b := guarded(t, e, 1, "a", "b")
	create(t, e, &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "second"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: b.Spec.MinAvailable, Selector: &metav1.LabelSelector{}}})
	wantStatus(t, evict(t, e, "a", nil), metav1.StatusReasonInternalError, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
}

// TestEvictionsAtOnce: forty clients at once get no more than the budget has.
func TestEvictionsAtOnce(t *testing.T) {
	e := newEnv(t)
	names := make([]string, 40)
	for i := range names {
		names[i] = fmt.Sprintf("p%d", i)
	}
	guarded(t, e, 7, names...)
	var evicted, refused atomic.Int32
	var group sync.WaitGroup
	for _, name := range names {
		group.Go(func() {
			switch err := evict(t, e, name, nil); {
			case err == nil:
				evicted.Add(1)
			case apierrors.IsTooManyRequests(err):
				refused.Add(1)
			default:
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	group.Wait()
	leaving := 0
	for _, name := range names {
		if get(t, e, &corev1.Pod{}, "default", name).DeletionTimestamp != nil {
			leaving++
		}
	}
	b := get(t, e, &policyv1.PodDisruptionBudget{}, "default", "b")
	if evicted.Load() != 7 || refused.Load() != 33 || leaving != 7 || b.Status.DisruptionsAllowed != 0 || len(b.Status.DisruptedPods) != 7 {
		t.Errorf("%d evicted, %d refused, %d leaving, status %+v", evicted.Load(), refused.Load(), leaving, b.Status)
	}
}

func TestBudgetRules(t *testing.T) {
	e := newEnv(t)
	one, most := intstr.FromInt32(1), intstr.FromString("101%")
	_, err := e.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, MaxUnavailable: &most},
	}, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "minAvailable and maxUnavailable cannot be both set", "must not be greater than 100%")
	b := guarded(t, e, 0)
	b.Status.DisruptionsAllowed = -1
	_, err = e.UpdateStatus(t.Context(), b, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "status.disruptionsAllowed", "must be greater than or equal to 0")
	b.ResourceVersion = ""
	_, _, err = e.Update(t.Context(), b, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "metadata.resourceVersion", "must be specified for an update")
}
