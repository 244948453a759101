package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/controller/podautoscaler"
	upstream "k8s.io/kubernetes/pkg/controller/podautoscaler/metrics"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/messaging"
)

// oracle serves upstream's calculator the figures that the snapshot holds.
type oracle struct {
	upstream.MetricsClient
	snapshot *controller.Snapshot
	pods     []*corev1.Pod
}

func (o oracle) GetResourceMetric(_ context.Context, name corev1.ResourceName, _ string, _ labels.Selector, container string) (upstream.PodMetricsInfo, time.Time, error) {
	out := upstream.PodMetricsInfo{}
	for pod, s := range (gauge{resource: name, container: container}).samples(o.snapshot, o.pods) {
		out[pod] = upstream.PodMetric{Timestamp: s.at, Window: s.window, Value: s.value}
	}
	if len(out) == 0 {
		return nil, time.Time{}, errors.New("no metrics returned from resource metrics API")
	}
	return out, time.Time{}, nil
}

// chance makes pods of every sort that the calculator tells apart.
func chance(r *rand.Rand, now time.Time) (*controller.Snapshot, []*corev1.Pod) {
	usage := &controller.Usage{At: now.Add(-time.Duration(r.IntN(60)) * time.Second), Window: time.Duration(1+r.IntN(20)) * time.Second, Pods: map[types.UID][]messaging.ContainerUsage{}}
	var pods []*corev1.Pod
	for i := range r.IntN(8) {
		p := running(fmt.Sprintf("p%d", i), now)
		started := metav1.NewTime(now.Add(-time.Duration(r.IntN(600)) * time.Second))
		p.Status.StartTime, p.Status.Conditions[0].LastTransitionTime = &started, metav1.NewTime(started.Add(time.Duration(r.IntN(60))*time.Second))
		switch r.IntN(10) {
		case 0:
			p.Status.Phase = corev1.PodPending
		case 1:
			p.Status.Phase = corev1.PodFailed
		case 2:
			p.DeletionTimestamp = &started
		case 3:
			p.Status.Conditions[0].Status = corev1.ConditionFalse
		case 4:
			p.Status.Conditions = nil
		case 5:
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"})
			if r.IntN(2) == 0 {
				p.Spec.Containers[1].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("30m"), corev1.ResourceMemory: resource.MustParse("10Mi")}
			}
		}
		if r.IntN(5) > 0 {
			for _, c := range p.Spec.Containers {
				usage.Pods[p.UID] = append(usage.Pods[p.UID], messaging.ContainerUsage{Name: c.Name, CPUNanos: uint64(r.IntN(300e6)), MemoryBytes: uint64(r.IntN(300 << 20))})
			}
		}
		pods = append(pods, p)
	}
	return &controller.Snapshot{Usage: map[string]*controller.Usage{"n1": usage}}, pods
}

func chanceGauge(r *rand.Rand) gauge {
	g := gauge{resource: corev1.ResourceCPU, utilization: int32(1 + r.IntN(200))}
	if r.IntN(2) == 0 {
		g.resource = corev1.ResourceMemory
	}
	if r.IntN(3) == 0 {
		g.container = []string{"main", "side", "none"}[r.IntN(3)]
	}
	if r.IntN(2) == 0 {
		g.utilization, g.average = 0, int64(1+r.IntN(200))
		if g.resource == corev1.ResourceMemory {
			g.average *= 1 << 20 * 1000
		}
	}
	return g
}

// The proposals are those of upstream's own calculator, for every sort of pods and metrics. Its tolerances cannot be set
// from outside, so that there are none here.
func TestProposalsAreUpstreams(t *testing.T) {
	const runs = 20_000
	agreed := map[string]int{}
	for seed := range uint64(runs) {
		r, now := rand.New(rand.NewPCG(seed, 1)), time.Now()
		s, pods := chance(r, now)
		g, current := chanceGauge(r), int32(1+r.IntN(10))
		got, err := g.measure(s, current, pods, tolerances{}, now)
		want, wantErr := ask(t, s, pods, g, current)
		if (err == nil) != (wantErr == nil) { // upstream names any one of several faulty pods
			t.Fatalf("seed %d: error %v, upstream %v", seed, err, wantErr)
		}
		if err == nil && got != want {
			t.Fatalf("seed %d: %+v of %d replicas, upstream %+v (%+v)", seed, got, current, want, g)
		}
		switch {
		case err != nil:
			agreed["errors"]++
		case got.replicas > current:
			agreed["up"]++
		case got.replicas < current:
			agreed["down"]++
		default:
			agreed["stay"]++
		}
	}
	for _, what := range []string{"errors", "up", "down", "stay"} {
		if agreed[what] < runs/50 {
			t.Errorf("the test tries too little: %v", agreed)
		}
	}
}

func ask(t *testing.T, s *controller.Snapshot, pods []*corev1.Pod, g gauge, current int32) (out reading, err error) {
	t.Helper()
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, p := range pods {
		if err := indexer.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	calculator := podautoscaler.NewReplicaCalculator(oracle{snapshot: s, pods: pods}, corelisters.NewPodLister(indexer), cpuInitialized, readinessDelay)
	if g.utilization != 0 {
		out.replicas, out.utilization, out.average, _, err = calculator.GetResourceReplicas(t.Context(), current, g.utilization, g.resource, podautoscaler.Tolerances{}, "default", labels.Everything(), g.container)
		return out, err
	}
	out.replicas, out.average, _, err = calculator.GetRawResourceReplicas(t.Context(), current, g.average, g.resource, podautoscaler.Tolerances{}, "default", labels.Everything(), g.container)
	return out, err
}
