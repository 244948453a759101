package edgeagent

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/edgeagent/usage"
)

// fakeGauges are a node whose figures a test sets.
type fakeGauges struct {
	mu      sync.Mutex
	signals map[eviction.Signal]eviction.Amount
	disk    map[string]int64 // bytes in the root file systems, by container
	freed   int
	slow    time.Duration // of each walk
	walks   int
}

func (g *fakeGauges) Signals(context.Context) (map[eviction.Signal]eviction.Amount, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.signals), nil
}

func (g *fakeGauges) set(s eviction.Signal, available int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.signals[s] = eviction.Amount{Available: available, Capacity: 1 << 30}
}

func (g *fakeGauges) Disk(_ context.Context, _ *corev1.Pod, instances map[string]string) (map[string]eviction.Use, map[string]eviction.Disk, error) {
	g.walks++
	time.Sleep(g.slow)
	out := map[string]eviction.Use{}
	for name := range instances {
		out[name] = eviction.Use{Rootfs: eviction.Disk{Bytes: g.disk[name]}}
	}
	return out, nil, nil
}

func (g *fakeGauges) FreeImages(context.Context) error {
	g.freed++
	return nil
}

// watch has a node's pressure watched in the bubble, until the agent is killed.
func (w *world) watch(g *fakeGauges) {
	w.t.Helper()
	thresholds, err := eviction.Parse(eviction.Settings{Hard: eviction.DefaultHard})
	must(w.t, err)
	p := &pressure{
		gauges: g, pods: w.loop.all, now: &w.loop.node.pressures, changed: make(chan struct{}, 1), log: w.loop.log,
		usage:  func(context.Context, time.Time) ([]usage.Container, error) { return nil, nil },
		config: eviction.Config{Thresholds: thresholds, Transition: 5 * time.Minute},
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	stop := w.stop
	w.stop = func() { cancel(); stop() }
	go func() { _ = p.run(ctx) }() // until the context ends, which is all it returns
	w.settle(0)
}

const storage = `containers: [{name: app, image: web, resources: {limits: {ephemeral-storage: 10Mi}}}]`

// TestPodOverItsLimit is evicted without a link, and stays so in the next agent; its neighbour runs on.
func TestPodOverItsLimit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := &fakeGauges{disk: map[string]int64{"app": 11 << 20}}
		w.boot()
		w.watch(g)
		w.desire(aPod(t, "u1", storage), aPod(t, "u2", `containers: [{name: other, image: web}]`))
		w.settle(15 * time.Second)
		s, _ := w.reports.status("u1")
		w.check("words", []string{string(s.Phase), s.Reason, s.Message},
			[]string{"Failed", "Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "})
		w.check("left", w.keeper.all(), []string{"u2-other-0"})
		if !strings.Contains(w.reports.reasons(), "Evicted") {
			t.Errorf("events: %s", w.reports.reasons())
		}
		w.kill()
		w.boot()
		w.watch(g)
		w.settle(time.Minute)
		w.check("still", w.phase("u1")[:6], "Failed")
		w.check("not started again", w.keeper.all(), []string{"u2-other-0"})
	})
}

// TestManyFiles: a pod whose files take long to be walked is left alone for long.
func TestManyFiles(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := &fakeGauges{slow: 3 * time.Second}
		w.boot()
		w.watch(g)
		w.desire(aPod(t, "u1", storage))
		w.settle(2 * time.Minute)
		w.check("walks in two minutes", g.walks, 2)
	})
}

// TestAgentDiesWhileItEvicts: between the decision and its consequences nothing is forgotten.
func TestAgentDiesWhileItEvicts(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.keeper.stubborn["app"] = true
		w.boot()
		w.watch(&fakeGauges{disk: map[string]int64{"app": 11 << 20}})
		w.desire(aPod(t, "u1", storage))
		w.settle(10*time.Second + 500*time.Millisecond) // asked to stop, not killed yet
		w.check("it runs still", w.keeper.running(), []string{"u1-app-0"})
		w.kill()
		w.boot() // nobody measures this time
		w.settle(time.Minute)
		s, _ := w.reports.status("u1")
		w.check("verdict", string(s.Phase)+" "+s.Reason, "Failed Evicted")
		w.check("left", w.keeper.all(), []string(nil))
	})
}

// TestPressure: what is not needed goes first, then one pod; new pods that ask for nothing are refused while it lasts.
func TestPressure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		g := &fakeGauges{signals: map[eviction.Signal]eviction.Amount{}, disk: map[string]int64{"big": 5 << 20, "small": 1 << 20}}
		g.set(eviction.NodeAvailable, 1<<29)
		w.boot()
		w.watch(g)
		done := aPod(t, "u0", `{restartPolicy: Never, containers: [{name: done, image: web}]}`)
		big, small := aPod(t, "u1", `containers: [{name: big, image: web}]`), aPod(t, "u2", `containers: [{name: small, image: web}]`)
		w.desire(done, big, small)
		w.keeper.exit("u0-done-0", 0)
		w.settle(time.Second)
		w.check("before", w.keeper.all(), []string{"u0-done-0", "u1-big-0", "u2-small-0"})
		g.set(eviction.NodeAvailable, 1<<20)
		w.settle(10 * time.Second)
		w.check("images were looked at", g.freed, 1)
		w.check("the dead container is gone, the others run", w.keeper.all(), []string{"u1-big-0", "u2-small-0"})
		w.settle(settle + time.Second + time.Millisecond)
		w.check("the larger is evicted", w.keeper.all(), []string{"u2-small-0"})
		g.set(eviction.NodeAvailable, 1<<29)
		w.settle(time.Minute)
		late := aPod(t, "u3", oneContainer)
		w.desire(done, big, small, late)
		s, _ := w.reports.status("u3")
		w.check("words", []string{string(s.Phase), s.Reason, s.Message}, []string{"Failed", "Evicted", "Pod was rejected: The node had condition: [DiskPressure]. "})
		w.settle(5 * time.Minute)
		w.desire(done, big, small, late, aPod(t, "u4", oneContainer))
		w.check("over", w.phase("u4"), "Running ready 0")
		w.check("running", w.keeper.running(), []string{"u2-small-0", "u4-app-0"})
	})
}

func TestAllocatable(t *testing.T) {
	limits, err := eviction.Parse(eviction.Settings{Hard: eviction.DefaultHard})
	must(t, err)
	got := allocatable(corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourceEphemeralStorage: resource.MustParse("10Gi"),
	}, ReservedConfig{CPU: "3", Memory: "128Mi"}, limits)
	for name, want := range map[corev1.ResourceName]string{corev1.ResourceCPU: "0", corev1.ResourceMemory: "796Mi", corev1.ResourceEphemeralStorage: "9Gi"} {
		if q := got[name]; q.Cmp(resource.MustParse(want)) != 0 {
			t.Errorf("%s is %s, want %s", name, q.String(), want)
		}
	}
}
