package controller_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/replicaset"
)

// notes is a Recorder that remembers.
type notes struct {
	mu     sync.Mutex
	events []controller.Event
}

func (n *notes) Record(e controller.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

func (n *notes) all() []controller.Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]controller.Event(nil), n.events...)
}

// start runs a shell in the bubble until the test ends.
func start(t *testing.T, live *controllertest.Live, controllers ...controller.Controller) (*notes, *strings.Builder) {
	t.Helper()
	recorder, logged := &notes{}, &strings.Builder{}
	shell, err := controller.New(controller.Config{
		Source: live, Writer: live, Recorder: recorder, Controllers: controllers, Logger: slog.New(slog.NewTextHandler(logged, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- shell.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	return recorder, logged
}

func set(name string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": name}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
}

func pods(live *controllertest.Live) int { return len(live.Snapshot().Pods) }

func TestShellReachesWhatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		live.Latency = 3 * time.Millisecond
		events, _ := start(t, live, replicaset.Controller())
		synctest.Wait()
		posted := time.Now()
		live.Edit(func(w *controllertest.World) { w.Put(set("web", 100)) })
		for pods(live) < 100 {
			time.Sleep(time.Millisecond)
			if time.Since(posted) > time.Second {
				t.Fatalf("%d pods after a second, want 100", pods(live))
			}
		}
		// 64 at a time, 3 ms each: two batches.
		if took := time.Since(posted); took > 20*time.Millisecond {
			t.Errorf("100 pods took %v", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, _, most := live.Performed(); most > 64 {
			t.Errorf("%d writes at once", most)
		}
		if got := len(events.all()); got != 100 {
			t.Errorf("%d events, want 100", got)
		}
		for _, e := range events.all() {
			if e.Regarding.UID == "" {
				t.Fatalf("event without a UID: %+v", e)
			}
		}
	})
}

// TestShellRests counts writes and plans after everything is reached: there must be none.
func TestShellRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		planned := 0
		counting := controller.Controller{Name: "count", Reads: controller.Nodes, Plan: func(*controller.Snapshot, time.Time) ([]controller.Change, time.Time) {
			planned++
			return nil, time.Time{}
		}}
		start(t, live, replicaset.Controller(), counting)
		live.Edit(func(w *controllertest.World) { w.Put(set("web", 3)) })
		time.Sleep(time.Second)
		synctest.Wait()
		_, calls, _ := live.Performed()
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, after, _ := live.Performed(); after != calls {
			t.Errorf("%d writes in an hour of rest", after-calls)
		}
		if planned != 1 {
			t.Errorf("a plan whose inputs did not change ran %d times, want once", planned)
		}
		live.Edit(func(w *controllertest.World) { w.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}) })
		time.Sleep(time.Second)
		synctest.Wait()
		if planned != 2 {
			t.Errorf("the plan ran %d times after a change it reads, want twice", planned)
		}
	})
}

// TestShellBacksOff refuses every pod: tries get rare, the ReplicaSet says why, and when it is allowed again all come.
func TestShellBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		live.Fail(func(c controller.Change) error {
			if _, isPod := c.Object.(*corev1.Pod); isPod {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "x", errors.New("exceeded quota"))
			}
			return nil
		})
		_, logged := start(t, live, replicaset.Controller())
		live.Edit(func(w *controllertest.World) { w.Put(set("web", 20)) })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		_, calls, _ := live.Performed()
		if calls < 25 || calls > 80 {
			t.Errorf("%d writes in ten minutes of refusal, want 20 at once and then one each half minute", calls)
		}
		status := live.Snapshot().ReplicaSets[0].Status
		if len(status.Conditions) != 1 || !strings.Contains(status.Conditions[0].Message, "exceeded quota") {
			t.Errorf("conditions %+v, want ReplicaFailure with the words", status.Conditions)
		}
		if !strings.Contains(logged.String(), "change refused") {
			t.Error("nothing logged")
		}
		live.Fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := pods(live); got != 20 {
			t.Errorf("%d pods a minute after the quota was raised, want 20", got)
		}
		if got := live.Snapshot().ReplicaSets[0].Status.Conditions; len(got) != 0 {
			t.Errorf("conditions %+v stay", got)
		}
	})
}

// TestShellDropsConflicts: a change that was overtaken is no error, and a plan that insists is slowed down.
// TestShellTellsTheOwner: a refused pod does not exist, so people hear of it where they look, at its owner.
func TestShellTellsTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		live.Fail(func(c controller.Change) error {
			if c.Verb != controller.Create {
				return nil
			}
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("exceeded quota"))
		})
		owner := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "work", UID: "u"}}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "p", OwnerReferences: []metav1.OwnerReference{controller.Reference(owner, "batch/v1", "Job")},
		}}
		events, _ := start(t, live, controller.Controller{Name: "job", Plan: func(*controller.Snapshot, time.Time) ([]controller.Change, time.Time) {
			return []controller.Change{{Verb: controller.Create, Object: pod}}, time.Time{}
		}})
		time.Sleep(time.Minute)
		all := events.all()
		if len(all) == 0 || len(all) > 15 {
			t.Fatalf("%d events in a minute", len(all))
		}
		want := corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: "default", Name: "work", UID: "u"}
		if e := all[0]; e.Regarding != want || e.Reason != "FailedCreate" || !strings.Contains(e.Message, "exceeded quota") {
			t.Errorf("event %+v", e)
		}
	})
}

func TestShellDropsConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		stubborn := controller.Controller{Name: "stubborn", Reads: controller.Everything, Plan: func(*controller.Snapshot, time.Time) ([]controller.Change, time.Time) {
			return []controller.Change{{Verb: controller.Update, Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "0"}}}}, time.Time{}
		}}
		live.Edit(func(w *controllertest.World) { w.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}) })
		_, logged := start(t, live, stubborn)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if _, calls, _ := live.Performed(); calls > 50 {
			t.Errorf("%d tries in ten minutes", calls)
		}
		if logged.Len() > 0 {
			t.Errorf("a conflict was logged: %s", logged)
		}
	})
}

// TestShellLimitsQuarrels: two plans that undo each other may not write without end.
func TestShellLimitsQuarrels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		flip := controller.Controller{Name: "flip", Reads: controller.Nodes, Plan: func(s *controller.Snapshot, _ time.Time) ([]controller.Change, time.Time) {
			n := s.Nodes[0].DeepCopy()
			n.Spec.Unschedulable = !n.Spec.Unschedulable
			return []controller.Change{{Verb: controller.Update, Object: n}}, time.Time{}
		}}
		live.Edit(func(w *controllertest.World) { w.Put(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}) })
		start(t, live, flip)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, calls, _ := live.Performed(); calls > 600 {
			t.Errorf("%d writes in ten seconds, want at most 50 a second", calls)
		}
	})
}

func TestShellWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var at []time.Duration
		sleeper := controller.Controller{Name: "sleeper", Reads: controller.Nodes, Plan: func(_ *controller.Snapshot, now time.Time) ([]controller.Change, time.Time) {
			at = append(at, now.Sub(begun))
			if len(at) > 2 {
				return nil, time.Time{}
			}
			return nil, now.Add(40 * time.Second)
		}}
		start(t, controllertest.NewLive(controllertest.New()), sleeper)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(at) != 3 || at[1] != 40*time.Second || at[2] != 80*time.Second {
			t.Errorf("planned at %v, want 0s 40s 80s", at)
		}
	})
}

// TestShellSurvivesPanic: one broken plan must not stop the others.
func TestShellSurvivesPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		crashes := 0
		broken := controller.Controller{Name: "broken", Reads: controller.Everything, Plan: func(*controller.Snapshot, time.Time) ([]controller.Change, time.Time) {
			crashes++
			panic("bad object")
		}}
		_, logged := start(t, live, broken, replicaset.Controller())
		live.Edit(func(w *controllertest.World) { w.Put(set("web", 3)) })
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if pods(live) != 3 || crashes != 2 {
			t.Errorf("%d pods and %d crashes in a minute, want 3 and 2", pods(live), crashes)
		}
		if !strings.Contains(logged.String(), "bad object") {
			t.Error("the panic was not logged")
		}
	})
}

func event(name, reason, message string) controller.Event {
	return controller.Event{
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: name, UID: types.UID(name)},
		Type:      corev1.EventTypeNormal, Reason: reason, Message: message, Component: "test",
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := controllertest.NewLive(controllertest.New())
		recorder := controller.NewEvents(live, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- recorder.Run(ctx) }()
		for range 5 {
			recorder.Record(event("a", "Pulled", "same words"))
		}
		for i := range 15 {
			recorder.Record(event("b", "Failed", strings.Repeat("x", i+1)))
		}
		for i := range 100 {
			recorder.Record(event("c", "Noise", "again"))
			_ = i
		}
		time.Sleep(time.Second)
		synctest.Wait()
		counts := map[string]int32{}
		different := map[string]int{}
		for _, o := range live.Snapshot().Others[schema.GroupKind{Kind: "Event"}] {
			e := o.(*corev1.Event)
			counts[e.InvolvedObject.Name] += e.Count
			different[e.InvolvedObject.Name]++
		}
		if counts["a"] != 5 || different["a"] != 1 {
			t.Errorf("repetitions: %d objects with count %d, want one with 5", different["a"], counts["a"])
		}
		if counts["b"] != 15 || different["b"] != 11 {
			t.Errorf("similar ones: %d objects with count %d, want 10 and a combined one with 15 in all", different["b"], counts["b"])
		}
		if counts["c"] != 25 {
			t.Errorf("a flood: count %d, want the burst of 25", counts["c"])
		}
		cancel()
		<-ended
	})
}
