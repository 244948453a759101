package autoscaler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// world is one Deployment under one autoscaler, whose pods run and use what the test says.
type world struct {
	t       *testing.T
	now     time.Time
	planner *planner
	hpa     *autoscalingv2.HorizontalPodAutoscaler
	web     *appsv1.Deployment
	use     int64 // of each pod, in thousandths of a core; negative is not measured
	refuse  bool
	events  []string
	writes  int // of the status
}

func newWorld(t *testing.T) *world {
	one, percent := int32(1), int32(50)
	labels := map[string]string{"app": "web"}
	w := &world{t: t, now: time.Unix(100_000, 0), planner: &planner{memories: map[types.UID]*memory{}}, use: 50}
	w.web = &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &one, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}
	w.hpa = &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "hpa", Generation: 1},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
			MaxReplicas:    10,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent},
			}}},
		},
	}
	return w
}

// running makes a pod that has run for an hour.
func running(name string, now time.Time) *corev1.Pod {
	since := metav1.NewTime(now.Add(-time.Hour))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("100Mi")},
		}}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &since,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: since}},
		},
	}
}

func (w *world) snapshot() *controller.Snapshot {
	s := &controller.Snapshot{Deployments: []*appsv1.Deployment{w.web}, Others: map[schema.GroupKind][]controller.Object{kind: {w.hpa}}}
	usage := &controller.Usage{At: w.now, Window: 15 * time.Second, Pods: map[types.UID][]messaging.ContainerUsage{}}
	for i := range *w.web.Spec.Replicas {
		p := running(fmt.Sprintf("web-%02d", i), w.now)
		s.Pods = append(s.Pods, p)
		if w.use >= 0 {
			usage.Pods[p.UID] = []messaging.ContainerUsage{{Name: "main", CPUNanos: uint64(w.use) * 1e6, MemoryBytes: 50 << 20}}
		}
	}
	s.Usage = map[string]*controller.Usage{"n1": usage}
	return s
}

// step plans once and does what was asked for.
func (w *world) step() {
	w.t.Helper()
	changes, wake := w.planner.plan(w.snapshot(), w.now)
	if wake.IsZero() || wake.Sub(w.now) > period {
		w.t.Errorf("wakes at %s", wake)
	}
	for _, c := range changes {
		switch o := c.Object.(type) {
		case *autoscalingv2.HorizontalPodAutoscaler:
			w.hpa, w.writes = o, w.writes+1
		case *appsv1.Deployment:
			if w.refuse {
				continue
			}
			w.web = o
		}
		for _, e := range c.Events {
			w.events = append(w.events, e.Reason+": "+e.Message)
		}
	}
}

// after lets time pass, planning whenever the plan wants to.
func (w *world) after(d time.Duration) int32 {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(period) {
		w.step()
		w.step() // the one that follows a write
	}
	return *w.web.Spec.Replicas
}

func (w *world) condition(name autoscalingv2.HorizontalPodAutoscalerConditionType) string {
	for _, c := range w.hpa.Status.Conditions {
		if c.Type == name {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

func (w *world) wants(name autoscalingv2.HorizontalPodAutoscalerConditionType, want string) {
	w.t.Helper()
	if got := w.condition(name); got != want {
		w.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func TestLoadScalesUpAtOnceAndDownLate(t *testing.T) {
	w := newWorld(t)
	w.use = 100 // of 50 wanted
	if got := w.after(period); got != 2 {
		t.Fatalf("%d replicas, want 2", got)
	}
	w.wants(autoscalingv2.AbleToScale, "True SucceededRescale")
	w.wants(autoscalingv2.ScalingActive, "True ValidMetricFound")
	w.wants(autoscalingv2.ScalingLimited, "False DesiredWithinRange")
	if s := w.hpa.Status; s.DesiredReplicas != 2 || s.CurrentReplicas != 1 || s.LastScaleTime == nil || *s.CurrentMetrics[0].Resource.Current.AverageUtilization != 100 {
		t.Errorf("status %+v", s)
	}
	if len(w.events) != 1 || w.events[0] != "SuccessfulRescale: New size: 2; reason: cpu resource utilization (percentage of request) above target" {
		t.Errorf("events %q", w.events)
	}
	w.use = 50
	if got := w.after(time.Minute); got != 2 {
		t.Errorf("%d replicas at the target, want 2", got)
	}
	w.use = 10
	if got := w.after(4 * time.Minute); got != 2 {
		t.Errorf("%d replicas soon after the load, want 2", got)
	}
	w.wants(autoscalingv2.AbleToScale, "True ScaleDownStabilized")
	if got := w.after(3 * time.Minute); got != 1 {
		t.Errorf("%d replicas long after the load, want 1", got)
	}
	if last := w.events[len(w.events)-1]; last != "SuccessfulRescale: New size: 1; reason: All metrics below target" {
		t.Errorf("event %q", last)
	}
}

func TestReplicasStayWithinBounds(t *testing.T) {
	w := newWorld(t)
	w.use = 1000
	if got := w.after(period); got != 4 {
		t.Errorf("%d replicas, want 4: no more than twice as many at once, or four", got)
	}
	w.wants(autoscalingv2.ScalingLimited, "True ScaleUpLimit")
	if got := w.after(time.Minute); got != 10 {
		t.Errorf("%d replicas, want the most", got)
	}
	w.wants(autoscalingv2.ScalingLimited, "True TooManyReplicas")
	w.hpa = w.hpa.DeepCopy()
	w.hpa.Generation, w.hpa.Spec.MaxReplicas = 2, 6
	if got := w.after(period); got != 6 {
		t.Errorf("%d replicas, want the new most", got)
	}
	*w.web.Spec.Replicas = 0
	w.after(period)
	w.wants(autoscalingv2.ScalingActive, "False ScalingDisabled")
	if got := w.after(time.Minute); got != 0 {
		t.Errorf("%d replicas of what was scaled to zero by hand", got)
	}
	least := int32(3)
	*w.web.Spec.Replicas, w.hpa.Spec.MinReplicas = 2, &least
	if got := w.after(period); got != 3 {
		t.Errorf("%d replicas, want the least", got)
	}
}

func TestBehaviorLimitsTheRate(t *testing.T) {
	zero, down := int32(0), int32(60)
	most := autoscalingv2.MaxChangePolicySelect
	w := newWorld(t)
	w.hpa.Spec.Behavior = &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &zero, SelectPolicy: &most, Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PodsScalingPolicy, Value: 2, PeriodSeconds: 60},
		}},
		ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &down, SelectPolicy: &most, Policies: []autoscalingv2.HPAScalingPolicy{
			{Type: autoscalingv2.PercentScalingPolicy, Value: 50, PeriodSeconds: 60},
		}},
	}
	w.use = 1000
	for i, want := range []int32{3, 3, 3, 3, 5, 5, 5, 5, 7} {
		if got := w.after(period); got != want {
			t.Errorf("after %d periods: %d replicas, want %d", i+1, got, want)
		}
	}
	w.wants(autoscalingv2.ScalingLimited, "True ScaleUpLimit")
	w.use = 0
	if got := w.after(45 * time.Second); got != 7 {
		t.Errorf("%d replicas within the stabilization window", got)
	}
	if got := w.after(45 * time.Second); got != 3 {
		t.Errorf("%d replicas, want at most half fewer a minute", got)
	}
}

func TestWhatIsNotMeasuredIsNotScaled(t *testing.T) {
	w := newWorld(t)
	*w.web.Spec.Replicas, w.use = 4, -1
	if got := w.after(10 * time.Minute); got != 4 {
		t.Errorf("%d replicas", got)
	}
	w.wants(autoscalingv2.ScalingActive, "False FailedGetResourceMetric")
	warnings := 0
	for _, e := range w.events {
		if strings.HasPrefix(e, "FailedGetResourceMetric: failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from resource metrics API") {
			warnings++
		}
	}
	if warnings != 1 || w.writes > 2 {
		t.Errorf("%d warnings and %d writes for one trouble: %q", warnings, w.writes, w.events)
	}
}

func TestRefusedScaleIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	w.use, w.refuse = 100, true
	w.step()
	w.step()
	w.wants(autoscalingv2.AbleToScale, "False FailedUpdateScale")
	if w.hpa.Status.DesiredReplicas == 2 || w.hpa.Status.LastScaleTime != nil {
		t.Errorf("status says that it was done: %+v", w.hpa.Status)
	}
	w.refuse = false
	if got := w.after(2 * period); got != 2 {
		t.Errorf("%d replicas, want 2", got)
	}
	w.wants(autoscalingv2.AbleToScale, "True SucceededRescale")
}

func TestTargetsThatCannotBeScaled(t *testing.T) {
	for ref, want := range map[autoscalingv2.CrossVersionObjectReference]string{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "none"}:      `deployments.apps "none" not found`,
		{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "web"}:        `no matches for kind "DaemonSet" in group "apps"`,
		{APIVersion: "v1", Kind: "ReplicationController", Name: "web"}: `replicationcontrollers "web" not found`,
		{APIVersion: "a/b/c", Kind: "Deployment", Name: "web"}:         "unexpected GroupVersion string: a/b/c",
	} {
		w := newWorld(t)
		w.hpa.Spec.ScaleTargetRef = ref
		w.after(time.Minute)
		w.wants(autoscalingv2.AbleToScale, "False FailedGetScale")
		if len(w.events) != 1 || w.events[0] != "FailedGetScale: "+want {
			t.Errorf("events %q, want one with %q", w.events, want)
		}
	}
}

func TestOtherMetricsHaveNoSource(t *testing.T) {
	w := newWorld(t)
	w.hpa.Spec.Metrics[0] = autoscalingv2.MetricSpec{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{}}
	w.after(period)
	w.wants(autoscalingv2.ScalingActive, "False FailedGetExternalMetric")
}

func TestTwoAutoscalersOfOneTargetStandStill(t *testing.T) {
	w := newWorld(t)
	w.use = 100
	s := w.snapshot()
	other := w.hpa.DeepCopy()
	other.Name, other.UID = "web2", "other"
	s.Others[kind] = append(s.Others[kind], other)
	changes, _ := w.planner.plan(s, w.now)
	if len(changes) != 2 {
		t.Fatalf("%d changes, want two statuses", len(changes))
	}
	for _, c := range changes {
		h, ok := c.Object.(*autoscalingv2.HorizontalPodAutoscaler)
		if !ok || h.Status.Conditions[1].Reason != "AmbiguousSelector" {
			t.Errorf("change %+v", c.Object)
		}
	}
}

func TestSteadyFiguresAreSeldomWritten(t *testing.T) {
	w := newWorld(t)
	w.after(period)
	w.writes = 0
	for i := range 40 {
		w.use = 48 + int64(i%3)
		w.after(period)
	}
	if w.writes > 11 {
		t.Errorf("%d writes in ten minutes", w.writes)
	}
}

func TestMemoriesGoWithTheirAutoscaler(t *testing.T) {
	w := newWorld(t)
	w.after(period)
	if len(w.planner.memories) != 1 {
		t.Error("nothing is remembered")
	}
	if changes, wake := w.planner.plan(&controller.Snapshot{}, w.now); len(changes) != 0 || !wake.IsZero() || len(w.planner.memories) != 0 {
		t.Errorf("without autoscalers: %v, %s, %d memories", changes, wake, len(w.planner.memories))
	}
}

func TestNodesOfScaledPodsAreNamed(t *testing.T) {
	w := newWorld(t)
	*w.web.Spec.Replicas = 3
	if got := Nodes(w.snapshot()); len(got) != 1 || got[0] != "n1" {
		t.Errorf("got %v", got)
	}
	w.hpa.Spec.ScaleTargetRef.Name = "none"
	if got := Nodes(w.snapshot()); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
