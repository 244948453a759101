// Package place measures the scheduler: its decisions alone, and from an applied Deployment to pods that are stored bound.
package place

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/scheduler"
	"skerry.dev/skerry/tests/bench/section"
)

// Section is the chapter about placement.
type Section struct{}

// Name is "place".
func (Section) Name() string { return "place" }

// size is how much is placed.
type size struct {
	nodes, pods, rounds  int
	deployments, replica int
	peerCase             string // of upstream's benchmark
	goals                *section.Goals
}

func sizeOf(quick bool) size {
	if quick {
		return size{nodes: 1000, pods: 2000, rounds: 2, deployments: 10, replica: 50, peerCase: "500Nodes"}
	}
	return size{nodes: 5000, pods: 10_000, rounds: 5, deployments: 100, replica: 100, peerCase: "5000Nodes_10000Pods"}
}

// Run measures.
func (Section) Run(ctx context.Context, quick bool, goals *section.Goals) (string, error) {
	s := sizeOf(quick)
	s.goals = goals
	var b strings.Builder
	b.WriteString("## Placement\n\n### Decisions\n\n")
	t, err := s.decisions(ctx)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "`scheduler.Place` on one core, in memory: %s pods for %s empty nodes, by how many kinds of pods there are; medians of %d rounds.\n\n%s\n",
		section.Count(int64(s.pods)), section.Count(int64(s.nodes)), s.rounds, t)
	text, err := s.bind(ctx)
	if err != nil {
		return "", err
	}
	b.WriteString("### From a Deployment to bound pods\n\n" + text)
	return b.String(), nil
}

func (s size) decisions(ctx context.Context) (*section.Table, error) {
	t := section.NewTable("kinds of pods", "time", "pods per second", "for one pod")
	nodes := make([]*corev1.Node, s.nodes)
	for i := range nodes {
		nodes[i] = node(i)
	}
	for _, kinds := range []int{1, 50, 1000} {
		var took []time.Duration
		for range s.rounds {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			in := scheduler.Input{Nodes: nodes, Pending: pending(s.pods, kinds), Now: time.Now()}
			began := time.Now()
			decisions := scheduler.Place(in)
			took = append(took, time.Since(began))
			if err := placed(decisions, s.pods); err != nil {
				return nil, err
			}
		}
		median := section.Median(took)
		if kinds == 1000 { // the hardest
			section.AtLeast(s.goals, fmt.Sprintf("`Place` of %d pods of %d kinds for %d nodes, in memory", s.pods, kinds, s.nodes), float64(s.pods)/median.Seconds(), 20_000, perSecond)
		}
		t.Row(section.Count(int64(kinds)), section.Duration(median), section.Count(int64(float64(s.pods)/median.Seconds())), section.Duration(median/time.Duration(s.pods)))
	}
	return t, nil
}

func perSecond(pods float64) string { return section.Count(int64(pods)) + " pods/s" }

func placed(decisions []scheduler.Decision, pods int) error {
	if len(decisions) != pods {
		return fmt.Errorf("%d decisions for %d pods", len(decisions), pods)
	}
	for _, d := range decisions {
		if d.Node == "" {
			return fmt.Errorf("pod %s was not placed: %s", d.Pod.Name, d.Message)
		}
	}
	return nil
}

func node(n int) *corev1.Node {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	name := fmt.Sprintf("node-%05d", n)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux", corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", n%3),
		}},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

// pending are pods of that many owners, each of which asks for something else.
func pending(pods, kinds int) []*corev1.Pod {
	yes := true
	out := make([]*corev1.Pod, pods)
	for i := range out {
		k := i % kinds
		requests := corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(50+k%200), resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(int64(64+k)<<20, resource.BinarySI),
		}
		out[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprintf("pod-%06d", i), UID: types.UID(fmt.Sprintf("uid-%06d", i)),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: fmt.Sprintf("set-%d", k), UID: types.UID(fmt.Sprintf("set-%d", k)), Controller: &yes}},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "main", Image: fmt.Sprintf("registry.example.com/app-%d:1", k), Resources: corev1.ResourceRequirements{Requests: requests},
			}}},
		}
	}
	return out
}
